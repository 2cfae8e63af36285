"""JSON schemas of webhooks: secrets, test pings, deliveries and their attempts."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from sqlalchemy import Row

from app.api.pagination import Page
from app.api.request_body import RequestBody
from app.webhooks.deliveries import DeliveryLog
from app.webhooks.messages import EventType
from app.webhooks.outbox import Attempt

_SECRET: dict[str, JsonValue] = {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwWSh7HkdC5eA="}
_DELIVERY: dict[str, JsonValue] = {
    "id": "019ab0a4-6f1e-7d10-9c39-0d5c0f2f7a55",
    "job_id": "019ab0a4-4d5e-7a20-8f3b-2b1c6a0d9e11",
    "type": "job.succeeded",
    "url": "https://example.com/hooks/asr",
    "status": "pending",
    "created_at": "2026-11-23T08:00:04.870000Z",
    "next_attempt_at": "2026-11-23T08:00:10.210000Z",
    "finished_at": None,
    "attempts": [
        {
            "number": 1,
            "started_at": "2026-11-23T08:00:04.950000Z",
            "duration_ms": 38,
            "response_status": 500,
            "response_excerpt": "Internal Server Error",
            "error": {"code": "http_error", "message": "The server answered HTTP 500."},
        }
    ],
}
_TEST_RESULT: dict[str, JsonValue] = {
    "delivered": True,
    "duration_ms": 38,
    "response_status": 204,
    "response_excerpt": "",
    "error": None,
}


class WebhookSecret(BaseModel):
    """The secret that signs a client's events."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SECRET]})

    secret: str = Field(description="`whsec_` and the key in base64, the format of the Standard Webhooks libraries.")


class WebhookTest(RequestBody):
    """A request for a test ping."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"url": "https://example.com/hooks/asr"}]})

    url: str = Field(description="An `http` or `https` URL, up to 4,096 characters.")


class AttemptError(BaseModel):
    """The reason of a failed attempt."""

    code: str = Field(
        description="`http_error`, `redirected`, `gone`, `timeout`, `connection_failed`, `tls_failed`, `bad_answer`,"
        " `bad_url`, `unknown_host`, `forbidden_address`, `forbidden_port` or `busy_address` (of test pings only). More"
        " codes may be added."
    )
    message: str


class WebhookTestResult(BaseModel):
    """The result of a test ping."""

    model_config = ConfigDict(json_schema_extra={"examples": [_TEST_RESULT]})

    delivered: bool = Field(description="True if the server answered 2xx.")
    duration_ms: int
    response_status: int | None = Field(description="Null if there was no response.")
    response_excerpt: str | None = Field(description="The first 1,024 bytes of the response.")
    error: AttemptError | None

    @classmethod
    def of(cls, attempt: Attempt) -> Self:
        return cls(
            delivered=attempt.succeeded,
            duration_ms=attempt.duration_ms,
            response_status=attempt.response_status,
            response_excerpt=attempt.response_excerpt,
            error=_error(attempt),
        )


class DeliveryStatus(StrEnum):
    """The status of a delivery."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DISABLED = "disabled"
    SUPERSEDED = "superseded"


class DeliveryAttempt(BaseModel):
    """One request to the URL."""

    number: int = Field(description="Number of the attempt, from 1.")
    started_at: datetime
    duration_ms: int
    response_status: int | None = Field(description="Null if there was no response.")
    response_excerpt: str | None = Field(description="The first 1,024 bytes of the response.")
    error: AttemptError | None = Field(description="Null if the server answered 2xx.")


class Delivery(BaseModel):
    """One event for one URL."""

    model_config = ConfigDict(json_schema_extra={"examples": [_DELIVERY]})

    id: UUID = Field(description="Also the `webhook-id` header of each attempt. Receivers detect repetitions by it.")
    job_id: UUID
    type: EventType
    url: str
    status: DeliveryStatus = Field(
        description="`pending` until an attempt succeeds (`succeeded`) or the schedule is over (`failed`). `disabled`:"
        " the URL answered 410 Gone before, and the event was not sent. `superseded`: the job was retried before the"
        " event arrived, and its next end is a new event."
    )
    created_at: datetime
    next_attempt_at: datetime | None = Field(description="The time of the next attempt, or null if none is due.")
    finished_at: datetime | None
    attempts: list[DeliveryAttempt] = Field(description="The newest 100 attempts, in ascending order.")

    @classmethod
    def of(cls, log: DeliveryLog) -> Self:
        row = log.delivery
        return cls(
            id=row.id,
            job_id=row.job_id,
            type=row.type,
            url=row.url,
            status=row.status,
            created_at=row.created_at,
            next_attempt_at=row.due_at if row.finished_at is None else None,
            finished_at=row.finished_at,
            attempts=[_attempt(attempt) for attempt in log.attempts],
        )


DeliveryPage = Page[Delivery]


def _attempt(row: Row[Any]) -> DeliveryAttempt:
    return DeliveryAttempt(
        number=row.number,
        started_at=row.started_at,
        duration_ms=row.duration_ms,
        response_status=row.response_status,
        response_excerpt=row.response_excerpt,
        error=_error(row),
    )


def _error(attempt: Attempt | Row[Any]) -> AttemptError | None:
    if attempt.error_code is None:
        return None
    return AttemptError(code=attempt.error_code, message=attempt.error_message or "")
