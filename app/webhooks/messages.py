"""Webhook messages as Standard Webhooks 1.0 defines them: event types, bodies and signed headers. Pure."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec
from standardwebhooks import Webhook


class EventType(StrEnum):
    """The event that a message reports. The second word is the final status of the job."""

    SUCCEEDED = "job.succeeded"
    PARTIAL = "job.partial"
    FAILED = "job.failed"
    CANCELED = "job.canceled"


# The type of test pings. They belong to no job and are not stored as deliveries.
TEST_TYPE = "webhook.test"


def event_body(event_type: str, occurred_at: datetime, data: Any) -> str:
    """The JSON body, which is the same in every attempt. `occurred_at` is the time of the event."""
    return msgspec.json.encode({"type": event_type, "timestamp": occurred_at, "data": data}).decode()


def signed_headers(secrets: Sequence[str], *, message_id: str, sent_at: datetime, body: str) -> dict[str, str]:
    """The three headers of one attempt at the UTC time `sent_at`.

    Each secret gives one signature. Receivers accept any of them.
    """
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(sent_at.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(message_id, sent_at, body) for secret in secrets),
    }
