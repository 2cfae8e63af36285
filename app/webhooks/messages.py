"""The events that clients are told of, and their bodies as Standard Webhooks recommends them. Pure."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec


class EventType(StrEnum):
    """What happened to a job; the job's final status is the second word."""

    SUCCEEDED = "job.succeeded"
    PARTIAL = "job.partial"
    FAILED = "job.failed"
    CANCELED = "job.canceled"


# Sent by `POST /v1/webhooks/test` only; it concerns no job, and is not in any list of deliveries.
TEST_TYPE = "webhook.test"


def event_body(event_type: str, occurred_at: datetime, data: Mapping[str, Any]) -> str:
    """What is signed and sent, the same at every try. `occurred_at`: when it happened, not when it is sent."""
    return msgspec.json.encode({"type": event_type, "timestamp": occurred_at, "data": data}).decode()
