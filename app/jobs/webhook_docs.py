"""The `webhooks` section of the OpenAPI document: the events that the gateway sends to the `webhook_url` of a job."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import FastAPI, Header
from pydantic import BaseModel, Field

from app.queue.job_json import JobSummary
from app.webhooks.messages import EventType

_SUMMARIES = {
    EventType.SUCCEEDED: "Every file of the job succeeded.",
    EventType.PARTIAL: "Some files of the job succeeded, others failed.",
    EventType.FAILED: "No file of the job succeeded.",
    EventType.CANCELED: "The job was canceled.",
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    "2XX": {"description": "The event was received. The response body is ignored."},
    410: {"description": "The URL wants no more events."},
    "default": {"description": "The event is sent again by the published schedule. Redirects are not followed."},
}

WebhookId = Annotated[
    str, Header(alias="webhook-id", description="The same in each attempt: use it to detect repeated events.")
]
WebhookTimestamp = Annotated[
    str, Header(alias="webhook-timestamp", description="Time of this attempt in seconds since 1970.")
]
WebhookSignature = Annotated[
    str,
    Header(
        alias="webhook-signature",
        description="`v1,` and the signature in base64. Several signatures are separated by spaces.",
    ),
]


class JobEvent(BaseModel):
    """A job has become final."""

    type: EventType
    timestamp: datetime = Field(description="When the job became final.")
    data: JobSummary


def add_webhooks(app: FastAPI) -> None:
    for event_type in EventType:
        app.webhooks.add_api_route(
            event_type.value,
            _receive,
            methods=["POST"],
            operation_id="receiveJob" + event_type.name.title(),
            summary=_SUMMARIES[event_type],
            description="Signed as [Standard Webhooks 1.0](https://www.standardwebhooks.com) defines it.",
            tags=["webhook events"],
            status_code=204,
            responses=_RESPONSES,
        )


def _receive(
    event: JobEvent, webhook_id: WebhookId, webhook_timestamp: WebhookTimestamp, webhook_signature: WebhookSignature
) -> None:
    """Describes the endpoint of the client's server. Never called."""
    raise NotImplementedError
