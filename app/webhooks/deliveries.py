"""What clients see and do with their deliveries: the log, retries by hand, test pings."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import Sessions, transaction
from app.errors import NotFound
from app.identifiers import new_id
from app.webhooks.messages import TEST_TYPE, event_body, signed_headers
from app.webhooks.models import Delivery, DeliveryAttempt
from app.webhooks.outbox import Attempt, enable_url
from app.webhooks.sender import Sender
from app.webhooks.signing_secrets import signing_secrets

# The newest attempts are shown; more than that are made by hand only.
ATTEMPTS_SHOWN = 100


@dataclass(slots=True)
class DeliveryLog:
    """A delivery with its newest attempts in order."""

    delivery: Row[Any]
    attempts: list[Row[Any]] = field(default_factory=list)


async def list_deliveries(
    session: AsyncSession, client_id: UUID, job_id: UUID, *, before: UUID | None = None, limit: int
) -> list[DeliveryLog]:
    """Newest first; two statements. `before`: only those older than that id. None, too, when there is no such job."""
    query = _DELIVERIES.where(Delivery.job_id == job_id, Delivery.client_id == client_id)
    if before is not None:
        query = query.where(Delivery.id < before)
    return await _with_attempts(session, query.order_by(Delivery.id.desc()).limit(limit))


async def retry_delivery(session: AsyncSession, client_id: UUID, delivery_id: UUID) -> DeliveryLog:
    """Due now, whatever it was before, with the schedule before it again. Raises NotFound.

    One that is being tried at this moment stays as it is.
    """
    own = {"id": delivery_id, "client_id": client_id}
    await session.execute(_RETRY, own)
    query = _DELIVERIES.where(Delivery.id == delivery_id, Delivery.client_id == client_id)
    for log in await _with_attempts(session, query):
        return log
    raise NotFound(f"There is no delivery {delivery_id} of this client.")


async def send_test(sessions: Sessions, sender: Sender, client_id: UUID, url: str) -> Attempt:
    """A signed ping, sent now and once. Success lets a URL that was gone be told of jobs again."""
    async with transaction(sessions) as session:
        secrets = (await signing_secrets(session, {client_id}))[client_id]
    now = datetime.now(UTC)
    body = event_body(TEST_TYPE, now, {"message": "This is a test of your webhook."})
    headers = signed_headers(secrets, message_id=str(new_id()), sent_at=now, body=body)
    attempt = await sender.send(url, body, headers)
    if attempt.succeeded:
        async with transaction(sessions) as session:
            await enable_url(session, client_id, url)
    return attempt


async def _with_attempts(session: AsyncSession, query: Select[Any]) -> list[DeliveryLog]:
    logs = {row.id: DeliveryLog(row) for row in await session.execute(query)}
    if logs:
        for attempt in await session.execute(_ATTEMPTS.where(Delivery.id.in_(logs))):
            logs[attempt.delivery_id].attempts.append(attempt)
    return list(logs.values())


_SHOWN = ("id", "job_id", "type", "url", "status", "due_at", "created_at", "finished_at")
_DELIVERIES = select(*[Delivery.__table__.c[name] for name in _SHOWN])

_ATTEMPTS = (
    select(*DeliveryAttempt.__table__.columns)
    .join(Delivery, Delivery.id == DeliveryAttempt.delivery_id)
    .where(DeliveryAttempt.number > Delivery.attempts - ATTEMPTS_SHOWN)
    .order_by(DeliveryAttempt.delivery_id, DeliveryAttempt.number)
)

_RETRY = text("""
    UPDATE deliveries SET status = 'pending', due_at = now(), failures_in_schedule = 0, finished_at = NULL
    WHERE id = :id AND client_id = :client_id AND lease_token IS NULL
""")
