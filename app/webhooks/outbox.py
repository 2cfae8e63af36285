"""The outbox: events go in with the change that they tell of, and come out as claims, each for one try."""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from random import random
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from sqlalchemy import ARRAY, LargeBinary, bindparam, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.identifiers import new_id
from app.webhooks.retry_schedule import next_delay_s
from app.webhooks.signing_secrets import signing_secrets

# Longest time of one attempt.
TIMEOUT_S = 15.0
# Longer than one attempt and its bookkeeping. After it, another poller may claim the delivery.
LEASE_S = 2 * TIMEOUT_S
MAX_AT_ONCE = 64
MAX_PER_HOST = 8
# The error code of an attempt that was refused before any connection.
FORBIDDEN_ADDRESS = "forbidden_address"


@dataclass(frozen=True, slots=True)
class Event:
    """What a URL is to be told of a job. `body` is sent as it is."""

    client_id: UUID
    job_id: UUID
    type: str
    url: str
    body: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that this process may try once, until its lease ends."""

    id: UUID
    client_id: UUID
    type: str
    url: str
    host: str
    body: str
    failures_in_schedule: int
    token: UUID
    secrets: Sequence[str]


@dataclass(frozen=True, slots=True)
class Attempt:
    """The outcome of one attempt. `error_code` is None if the server answered 2xx."""

    duration_ms: int
    response_status: int | None = None
    response_excerpt: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    retry_after_s: float | None = None

    @property
    def succeeded(self) -> bool:
        return self.error_code is None

    @property
    def forbidden(self) -> bool:
        """True if the address is not permitted. No connection was opened."""
        return self.error_code == FORBIDDEN_ADDRESS


async def enqueue(session: AsyncSession, events: Sequence[Event]) -> None:
    """One statement for any number of events. It belongs into the transaction that made them happen.

    What a URL is told that answered 410 Gone is written down and not sent.
    """
    if not events:
        return
    await session.execute(
        _ENQUEUE,
        {
            "ids": [new_id() for _ in events],
            "job_ids": [event.job_id for event in events],
            "client_ids": [event.client_id for event in events],
            "types": [event.type for event in events],
            "urls": [event.url for event in events],
            "hashes": [url_sha256(event.url) for event in events],
            "hosts": [_host(event.url) for event in events],
            "bodies": [event.body for event in events],
        },
    )


async def claim(session: AsyncSession, under_way: Collection[Claim]) -> list[Claim]:
    """As many due deliveries as may go out now beside those under way, in turn over clients, few to one host."""
    token = uuid4()
    hosts = Counter(claim.host for claim in under_way)
    clients = Counter(claim.client_id for claim in under_way)
    values = {
        "token": token,
        "lease_s": LEASE_S,
        "free": MAX_AT_ONCE - len(under_way),
        "per_host": MAX_PER_HOST,
        "hosts": list(hosts),
        "host_counts": list(hosts.values()),
        "clients": list(clients),
        "client_counts": list(clients.values()),
    }
    rows = (await session.execute(_CLAIM, values)).all()
    secrets = await _secrets(session, {row.client_id for row in rows})
    return [Claim(*[*row, token, secrets[row.client_id]]) for row in rows]


async def record(session: AsyncSession, claim: Claim, attempt: Attempt) -> bool:
    """Log the try and decide what comes next. False: the lease was lost, and the try is another one's to log."""
    status, wait_s = _next(claim, attempt)
    values = {"id": claim.id, "token": claim.token, "status": status, "wait_s": wait_s}
    number = await session.scalar(_RECORD, values)
    if number is None:
        return False
    await session.execute(_LOG, {"id": claim.id, "number": number, **_columns(attempt)})
    if attempt.succeeded:
        await enable_url(session, claim.client_id, claim.url)
    elif attempt.error_code == "gone":
        disabled = {"client_id": claim.client_id, "host": claim.host, "url": claim.url}
        await session.execute(_DISABLE, {**disabled, "url_sha256": url_sha256(claim.url)})
        await session.execute(_DISABLE_WAITING, disabled)
    return True


async def enable_url(session: AsyncSession, client_id: UUID, url: str) -> None:
    """New events go to the URL again. What it missed stays as it is, and can be retried."""
    await session.execute(_ENABLE, {"client_id": client_id, "url_sha256": url_sha256(url)})


def url_sha256(url: str) -> bytes:
    return hashlib.sha256(url.encode()).digest()


def _next(claim: Claim, attempt: Attempt) -> tuple[str, float]:
    """The delivery's status after the try, and in how many seconds the next one is due."""
    if attempt.succeeded:
        return "succeeded", 0
    if attempt.error_code == "gone":
        return "failed", 0
    wait_s = next_delay_s(claim.failures_in_schedule + 1, jitter=random(), retry_after_s=attempt.retry_after_s)  # noqa: S311 - jitter
    return ("failed", 0) if wait_s is None else ("pending", wait_s)


async def _secrets(session: AsyncSession, client_ids: Collection[UUID]) -> Mapping[UUID, Sequence[str]]:
    return await signing_secrets(session, client_ids) if client_ids else {}


def _host(url: str) -> str:
    parts = urlsplit(url)  # cannot fail: `app.urls` has checked it
    return f"{parts.hostname}:{parts.port or parts.scheme}"


def _columns(attempt: Attempt) -> dict[str, object]:
    return {
        "duration_ms": attempt.duration_ms,
        "response_status": attempt.response_status,
        "response_excerpt": attempt.response_excerpt,
        "error_code": attempt.error_code,
        "error_message": attempt.error_message,
    }


_ENQUEUE = text("""
    INSERT INTO deliveries (id, job_id, client_id, type, url, host, body, status, finished_at)
    SELECT new.id, new.job_id, new.client_id, new.type, new.url, new.host, new.body,
        CASE WHEN disabled_at IS NULL THEN 'pending' ELSE 'disabled' END,
        CASE WHEN disabled_at IS NULL THEN NULL ELSE now() END
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:job_ids AS uuid[]), CAST(:client_ids AS uuid[]), CAST(:types AS text[]),
        CAST(:urls AS text[]), CAST(:hashes AS bytea[]), CAST(:hosts AS text[]), CAST(:bodies AS text[])
    ) AS new (id, job_id, client_id, type, url, url_sha256, host, body)
    LEFT JOIN webhook_disabled_urls AS disabled
        ON disabled.client_id = new.client_id AND disabled.url_sha256 = new.url_sha256
""").bindparams(bindparam("hashes", type_=ARRAY(LargeBinary)))

# One index probe a lane finds the lanes, another few what is due in each: a backlog of 100,000 costs as much as of 10.
# Turns: a client's first delivery comes before another one's second, counting those that are under way.
_CLAIM = text("""
    WITH RECURSIVE lane AS (
        (SELECT client_id, host FROM deliveries WHERE status = 'pending' ORDER BY client_id, host LIMIT 1)
        UNION ALL
        SELECT following.client_id, following.host FROM lane CROSS JOIN LATERAL (
            SELECT client_id, host FROM deliveries
            WHERE status = 'pending' AND (client_id, host) > (lane.client_id, lane.host)
            ORDER BY client_id, host LIMIT 1
        ) AS following
    ), due AS (
        SELECT lane.client_id, lane.host, first.id, first.due_at,
            row_number() OVER (PARTITION BY lane.client_id ORDER BY first.due_at) + coalesce(busy.count, 0) AS turn
        FROM lane
        CROSS JOIN LATERAL (
            SELECT id, due_at FROM deliveries
            WHERE status = 'pending' AND client_id = lane.client_id AND host = lane.host AND due_at <= now()
            ORDER BY due_at LIMIT :per_host
        ) AS first
        LEFT JOIN unnest(CAST(:clients AS uuid[]), CAST(:client_counts AS int[])) AS busy (client_id, count)
            ON busy.client_id = lane.client_id
    ), placed AS (
        SELECT due.id, due.turn, due.due_at,
            row_number() OVER (PARTITION BY due.host ORDER BY due.turn, due.due_at) + coalesce(busy.count, 0) AS place
        FROM due
        LEFT JOIN unnest(CAST(:hosts AS text[]), CAST(:host_counts AS int[])) AS busy (host, count)
            ON busy.host = due.host
    ), chosen AS (
        SELECT id FROM deliveries
        WHERE id IN (SELECT id FROM placed WHERE place <= :per_host ORDER BY turn, due_at LIMIT :free)
          AND status = 'pending' AND due_at <= now()
        FOR UPDATE SKIP LOCKED
    )
    UPDATE deliveries SET lease_token = :token, due_at = now() + make_interval(secs => :lease_s)
    FROM chosen WHERE deliveries.id = chosen.id
    RETURNING deliveries.id, client_id, type, url, host, body, failures_in_schedule
""")

_RECORD = text("""
    UPDATE deliveries SET status = :status, attempts = attempts + 1,
        failures_in_schedule = failures_in_schedule + 1, lease_token = NULL,
        due_at = now() + make_interval(secs => :wait_s),
        finished_at = CASE WHEN :status = 'pending' THEN NULL ELSE now() END
    WHERE id = :id AND lease_token = :token
    RETURNING attempts
""")

_LOG = text("""
    INSERT INTO delivery_attempts (delivery_id, number, started_at, duration_ms, response_status, response_excerpt,
                                   error_code, error_message)
    VALUES (:id, :number, now() - make_interval(secs => :duration_ms / 1000.0), :duration_ms, :response_status,
            :response_excerpt, :error_code, :error_message)
""")

_ENABLE = text("DELETE FROM webhook_disabled_urls WHERE client_id = :client_id AND url_sha256 = :url_sha256")

_DISABLE = text("""
    INSERT INTO webhook_disabled_urls (client_id, url_sha256) VALUES (:client_id, :url_sha256) ON CONFLICT DO NOTHING
""")

# Those under way find out by themselves.
_DISABLE_WAITING = text("""
    UPDATE deliveries SET status = 'disabled', finished_at = now()
    WHERE id IN (
        SELECT id FROM deliveries
        WHERE status = 'pending' AND client_id = :client_id AND host = :host AND url = :url AND lease_token IS NULL
        FOR UPDATE SKIP LOCKED
    )
""")
