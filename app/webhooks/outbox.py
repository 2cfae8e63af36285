"""The outbox: stores events in the transaction that causes them, and leases due deliveries for one attempt each."""

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
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
MAX_PER_CLIENT = 16
# Places for the first deliveries of clients that have none in flight.
KEPT_FREE = 16
# Pause of a delivery whose address had no place left.
POSTPONE_S = 1.0
# Error codes of attempts that were refused before any connection.
FORBIDDEN_ADDRESS = "forbidden_address"
FORBIDDEN_PORT = "forbidden_port"
BUSY_ADDRESS = "busy_address"


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a job for one URL. `body` is the JSON that is sent."""

    client_id: UUID
    job_id: UUID
    type: str
    url: str
    body: str


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery leased for one attempt. `client_name` is for the log."""

    id: UUID
    job_id: UUID
    client_id: UUID
    client_name: str
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
        """True if the address or the port is not permitted. No connection was opened."""
        return self.error_code in {FORBIDDEN_ADDRESS, FORBIDDEN_PORT}

    @property
    def postponed(self) -> bool:
        """True if the address had no place left. No connection was opened, and the attempt does not count."""
        return self.error_code == BUSY_ADDRESS


async def enqueue(session: AsyncSession, events: Sequence[Event]) -> None:
    """Store events, in one statement. Call it in the transaction that causes the events.

    Events for a URL that answered 410 Gone, and those of a revoked client, are stored as disabled and not sent.
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
            "hashes": [_url_sha256(event.url) for event in events],
            "hosts": [_host(event.url) for event in events],
            "bodies": [event.body for event in events],
        },
    )


@dataclass(frozen=True, slots=True)
class Backlog:
    """Pending deliveries, and the age of the oldest event among them; 0 without any."""

    deliveries: int
    oldest_s: float


async def read_backlog(session: AsyncSession) -> Backlog:
    """One statement, which reads all pending deliveries."""
    row = (await session.execute(_BACKLOG)).one()
    return Backlog(row.deliveries, row.oldest_s)


async def claim(session: AsyncSession, in_flight: Collection[ClaimedDelivery]) -> list[ClaimedDelivery]:
    """Lease due deliveries up to the limits for this process, per client and per host. Clients are served in turn.

    A delivery of a revoked client is disabled instead: a poller that was killed during its attempt had the lease.
    `in_flight` are the claims whose attempts are in progress in this process.
    """
    token = uuid4()
    hosts = Counter(claim.host for claim in in_flight)
    clients = Counter(claim.client_id for claim in in_flight)
    values = {
        "token": token,
        "lease_s": LEASE_S,
        "free": MAX_AT_ONCE - len(in_flight),
        "per_host": MAX_PER_HOST,
        "per_client": MAX_PER_CLIENT,
        "shared": MAX_AT_ONCE - KEPT_FREE - len(in_flight),
        "hosts": list(hosts),
        "host_counts": list(hosts.values()),
        "clients": list(clients),
        "client_counts": list(clients.values()),
    }
    found = [dict(row) for row in (await session.execute(_CLAIM, values)).mappings()]
    rows = [row for row in found if not row.pop("is_revoked")]
    if not rows:
        return []
    secrets = await signing_secrets(session, {row["client_id"] for row in rows})
    return [ClaimedDelivery(**row, token=token, secrets=secrets[row["client_id"]]) for row in rows]


async def record(session: AsyncSession, claim: ClaimedDelivery, attempt: Attempt) -> bool:
    """Log the attempt and set the next status. Returns False, and logs nothing, if the lease was lost."""
    status, wait_s = _next_status(claim, attempt)
    if status == "pending" and await session.scalar(_IS_REVOKED, {"client_id": claim.client_id}):
        status = "disabled"
    values = {"id": claim.id, "token": claim.token, "status": status, "wait_s": wait_s}
    number = await session.scalar(_RECORD, values)
    if number is None:
        return False
    logged = {
        "id": claim.id,
        "number": number,
        "duration_ms": attempt.duration_ms,
        "response_status": attempt.response_status,
        "response_excerpt": attempt.response_excerpt,
        "error_code": attempt.error_code,
        "error_message": attempt.error_message,
    }
    await session.execute(_LOG, logged)
    if attempt.succeeded:
        await enable_url(session, claim.client_id, claim.url)
    elif attempt.error_code == "gone":
        disabled = {"client_id": claim.client_id, "host": claim.host, "url": claim.url}
        await session.execute(_DISABLE, {**disabled, "url_sha256": _url_sha256(claim.url)})
        await session.execute(_DISABLE_WAITING, disabled)
    return True


async def supersede(session: AsyncSession, job_id: UUID) -> None:
    """End the pending deliveries of a job that is queued again: its next end is a newer event. One statement.

    An attempt in progress is recorded first, and is the last one if the job has changed since.
    """
    await session.execute(_SUPERSEDE, {"job_id": job_id})


async def postpone(session: AsyncSession, claim: ClaimedDelivery) -> None:
    """Give the lease back, for another try in POSTPONE_S seconds. Logs no attempt."""
    await session.execute(_POSTPONE, {"id": claim.id, "token": claim.token, "wait_s": POSTPONE_S})


async def enable_url(session: AsyncSession, client_id: UUID, url: str) -> None:
    """Send new events to the URL again. Deliveries that were disabled stay disabled until a manual retry."""
    await session.execute(_ENABLE, {"client_id": client_id, "url_sha256": _url_sha256(url)})


async def end_deliveries(session: AsyncSession, client_id: UUID) -> None:
    """Disable the waiting deliveries of a client that is revoked. Those in progress end with their attempt."""
    await session.execute(_END, {"client_id": client_id})


def _url_sha256(url: str) -> bytes:
    return hashlib.sha256(url.encode()).digest()


def _next_status(claim: ClaimedDelivery, attempt: Attempt) -> tuple[str, float]:
    """The status of the delivery after the attempt, and the seconds until the next attempt."""
    if attempt.succeeded:
        return "succeeded", 0
    if attempt.error_code == "gone":
        return "failed", 0
    wait_s = next_delay_s(claim.failures_in_schedule + 1, jitter=random(), retry_after_s=attempt.retry_after_s)  # noqa: S311 - jitter
    return ("failed", 0) if wait_s is None else ("pending", wait_s)


def _host(url: str) -> str:
    parts = urlsplit(url)  # `app.urls` has validated the URL
    return f"{parts.hostname}:{parts.port or parts.scheme}"


_ENQUEUE = text("""
    INSERT INTO deliveries (id, job_id, client_id, type, url, host, body, status, finished_at)
    SELECT new.id, new.job_id, new.client_id, new.type, new.url, new.host, new.body,
        CASE WHEN disabled_at IS NULL AND revoked_at IS NULL THEN 'pending' ELSE 'disabled' END,
        CASE WHEN disabled_at IS NULL AND revoked_at IS NULL THEN NULL ELSE now() END
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:job_ids AS uuid[]), CAST(:client_ids AS uuid[]), CAST(:types AS text[]),
        CAST(:urls AS text[]), CAST(:hashes AS bytea[]), CAST(:hosts AS text[]), CAST(:bodies AS text[])
    ) AS new (id, job_id, client_id, type, url, url_sha256, host, body)
    LEFT JOIN webhook_disabled_urls AS disabled
        ON disabled.client_id = new.client_id AND disabled.url_sha256 = new.url_sha256
    LEFT JOIN clients ON clients.id = new.client_id
""").bindparams(bindparam("hashes", type_=ARRAY(LargeBinary)))

# A destination is one host of one client. One index probe per destination lists the destinations, and a few more find
# the due deliveries of each, so a backlog of 100,000 costs as much as one of 10.
# Round-robin: the first delivery of each client comes before the second of any, counting those in flight.
_CLAIM = text("""
    WITH RECURSIVE destination AS (
        (SELECT client_id, host FROM deliveries WHERE status = 'pending' ORDER BY client_id, host LIMIT 1)
        UNION ALL
        SELECT following.client_id, following.host FROM destination CROSS JOIN LATERAL (
            SELECT client_id, host FROM deliveries
            WHERE status = 'pending' AND (client_id, host) > (destination.client_id, destination.host)
            ORDER BY client_id, host LIMIT 1
        ) AS following
    ), due AS (
        SELECT destination.client_id, destination.host, first.id, first.due_at,
            row_number() OVER (PARTITION BY destination.client_id ORDER BY first.due_at)
                + coalesce(busy.count, 0) AS turn
        FROM destination
        CROSS JOIN LATERAL (
            SELECT id, due_at FROM deliveries
            WHERE status = 'pending' AND client_id = destination.client_id AND host = destination.host
                AND due_at <= now()
            ORDER BY due_at LIMIT :per_host
        ) AS first
        LEFT JOIN unnest(CAST(:clients AS uuid[]), CAST(:client_counts AS int[])) AS busy (client_id, count)
            ON busy.client_id = destination.client_id
    ), placed AS (
        SELECT due.id, due.turn, due.due_at,
            row_number() OVER (PARTITION BY due.host ORDER BY due.turn, due.due_at) + coalesce(busy.count, 0) AS place
        FROM due
        LEFT JOIN unnest(CAST(:hosts AS text[]), CAST(:host_counts AS int[])) AS busy (host, count)
            ON busy.host = due.host
        WHERE due.turn <= :per_client
    ), ranked AS (
        SELECT id, turn, row_number() OVER (ORDER BY turn, due_at) AS rank FROM placed WHERE place <= :per_host
    ), chosen AS (
        SELECT id FROM deliveries
        WHERE id IN (SELECT id FROM ranked WHERE rank <= CASE turn WHEN 1 THEN CAST(:free AS int) ELSE :shared END)
          AND status = 'pending' AND due_at <= now()
        FOR UPDATE SKIP LOCKED
    ), of_clients AS (
        SELECT chosen.id, clients.name, clients.revoked_at IS NOT NULL AS is_revoked
        FROM chosen JOIN deliveries USING (id) JOIN clients ON clients.id = client_id
    )
    UPDATE deliveries SET due_at = now() + make_interval(secs => :lease_s),
        lease_token = CASE WHEN NOT is_revoked THEN CAST(:token AS uuid) END,
        status = CASE WHEN is_revoked THEN 'disabled' ELSE status END,
        finished_at = CASE WHEN is_revoked THEN now() END
    FROM of_clients WHERE deliveries.id = of_clients.id
    RETURNING deliveries.id, job_id, client_id, of_clients.name AS client_name, type, url, host, body,
        failures_in_schedule, is_revoked
""")

_BACKLOG = text("""
    SELECT count(*) AS deliveries, coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 AS oldest_s
    FROM deliveries WHERE status = 'pending'
""")

_SUPERSEDE = text("""
    UPDATE deliveries SET status = 'superseded', finished_at = now(), lease_token = NULL
    WHERE job_id = :job_id AND status = 'pending' AND (lease_token IS NULL OR due_at <= now())
""")

_POSTPONE = text("""
    UPDATE deliveries SET lease_token = NULL, due_at = now() + make_interval(secs => :wait_s)
    WHERE id = :id AND lease_token = :token
""")

_IS_REVOKED = text("SELECT revoked_at IS NOT NULL FROM clients WHERE id = :client_id")

# An event is stored in the transaction that ends its job, so both have the same instant until the job is retried.
_RECORD = text("""
    UPDATE deliveries SET status = next.status, attempts = attempts + 1,
        failures_in_schedule = failures_in_schedule + 1, lease_token = NULL,
        due_at = now() + make_interval(secs => :wait_s),
        finished_at = CASE WHEN next.status = 'pending' THEN NULL ELSE now() END
    FROM (
        SELECT deliveries.id, CASE WHEN :status = 'pending' AND jobs.finished_at IS DISTINCT FROM deliveries.created_at
            THEN 'superseded' ELSE :status END AS status
        FROM deliveries JOIN jobs ON jobs.id = deliveries.job_id WHERE deliveries.id = :id
    ) AS next
    WHERE deliveries.id = next.id AND lease_token = :token
    RETURNING attempts
""")

_END = text("""
    UPDATE deliveries SET status = 'disabled', finished_at = now()
    WHERE id IN (
        SELECT id FROM deliveries WHERE status = 'pending' AND client_id = :client_id AND lease_token IS NULL
        FOR UPDATE SKIP LOCKED
    )
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

# Deliveries that are leased get their own 410.
_DISABLE_WAITING = text("""
    UPDATE deliveries SET status = 'disabled', finished_at = now()
    WHERE id IN (
        SELECT id FROM deliveries
        WHERE status = 'pending' AND client_id = :client_id AND host = :host AND url = :url AND lease_token IS NULL
        FOR UPDATE SKIP LOCKED
    )
""")
