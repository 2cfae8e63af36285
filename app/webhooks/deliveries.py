"""Operations of the API on deliveries: the log, manual retries and test pings."""

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

# Most attempts in a log. Only manual retries lead to more attempts.
MAX_ATTEMPTS_LISTED = 100


@dataclass(slots=True)
class DeliveryLog:
    """A delivery and its newest attempts, in ascending order."""

    delivery: Row[Any]
    attempts: list[Row[Any]] = field(default_factory=list)


async def list_deliveries(
    session: AsyncSession, client_id: UUID, job_id: UUID, *, before: UUID | None = None, limit: int
) -> list[DeliveryLog]:
    """Deliveries of a job, newest first, in two statements. `before` selects deliveries older than that id.

    An unknown job gives an empty list.
    """
    query = _DELIVERIES.where(Delivery.job_id == job_id, Delivery.client_id == client_id)
    if before is not None:
        query = query.where(Delivery.id < before)
    return await _with_attempts(session, query.order_by(Delivery.id.desc()).limit(limit))


async def retry_delivery(session: AsyncSession, client_id: UUID, delivery_id: UUID) -> DeliveryLog:
    """Make the delivery due now and restart its schedule, whatever its status. Raises NotFound.

    A delivery with an attempt in progress stays unchanged.
    """
    await session.execute(_RETRY, {"id": delivery_id, "client_id": client_id})
    query = _DELIVERIES.where(Delivery.id == delivery_id, Delivery.client_id == client_id)
    for log in await _with_attempts(session, query):
        return log
    raise NotFound(f"There is no delivery {delivery_id} of this client.")


async def send_test(sessions: Sessions, sender: Sender, client_id: UUID, url: str) -> Attempt:
    """Send a signed ping once. If it succeeds, a URL that was disabled by 410 Gone is enabled again."""
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


_COLUMNS = ("id", "job_id", "type", "url", "status", "due_at", "created_at", "finished_at")
_DELIVERIES = select(*[Delivery.__table__.c[name] for name in _COLUMNS])

_ATTEMPTS = (
    select(*DeliveryAttempt.__table__.columns)
    .join(Delivery, Delivery.id == DeliveryAttempt.delivery_id)
    .where(DeliveryAttempt.number > Delivery.attempts - MAX_ATTEMPTS_LISTED)
    .order_by(DeliveryAttempt.delivery_id, DeliveryAttempt.number)
)

_RETRY = text("""
    UPDATE deliveries SET status = 'pending', due_at = now(), failures_in_schedule = 0, finished_at = NULL
    WHERE id = :id AND client_id = :client_id AND lease_token IS NULL
""")
