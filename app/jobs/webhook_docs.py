"""What OpenAPI says of the events that jobs send to their `webhook_url`: the document's `webhooks` section."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import FastAPI, Header
from pydantic import BaseModel, Field

from app.jobs.schemas import JobSummary
from app.webhooks.messages import EventType

_ABOUT = {
    EventType.SUCCEEDED: "Every file of the job succeeded.",
    EventType.PARTIAL: "Some files of the job succeeded, others failed.",
    EventType.FAILED: "No file of the job succeeded.",
    EventType.CANCELED: "The job was canceled.",
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    "2XX": {"description": "The event was received; its body is not looked at."},
    410: {"description": "Nothing more is to be sent to this URL."},
    "default": {"description": "It is sent again, as the published schedule says. Redirects are not followed."},
}

WebhookId = Annotated[str, Header(alias="webhook-id", description="The same for each try: know repetitions by it.")]
WebhookTimestamp = Annotated[str, Header(alias="webhook-timestamp", description="Seconds since 1970 at this try.")]
WebhookSignature = Annotated[
    str,
    Header(alias="webhook-signature", description="`v1,` and the signature in base64; several are parted by spaces."),
]


class JobEvent(BaseModel):
    """A job became final."""

    type: EventType
    timestamp: datetime = Field(description="When it happened.")
    data: JobSummary


def add_events(app: FastAPI) -> None:
    for event_type in EventType:
        app.webhooks.add_api_route(
            event_type.value,
            _receive,
            methods=["POST"],
            operation_id="receiveJob" + event_type.name.title(),
            summary=_ABOUT[event_type],
            description="Signed as [Standard Webhooks 1.0](https://www.standardwebhooks.com) defines it.",
            tags=["webhook events"],
            status_code=204,
            responses=_RESPONSES,
        )


def _receive(
    event: JobEvent, webhook_id: WebhookId, webhook_timestamp: WebhookTimestamp, webhook_signature: WebhookSignature
) -> None:
    """What the client's server is to be: never called, only described."""
    raise NotImplementedError
