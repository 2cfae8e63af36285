"""Claiming the next task to look at: those that the list shows as ended first, the oldest of them before all."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.queue.leases import LEASE_S
from app.queue.results import TaskFile, task_files

_LEASE = """
    UPDATE tasks SET lease_token = :token, lease_until = now() + make_interval(secs => :lease_s)
    WHERE id = (
        SELECT id FROM tasks
        WHERE account = :account AND state = 'running' AND (lease_until IS NULL OR lease_until < now()) AND {due}
        LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING id, upstream_task_id, model, region, file_count,
        extract(epoch FROM now() - submitted_at)::float8 AS age_s,
        coalesce(extract(epoch FROM now() - ended_at), 0)::float8 AS ended_s
"""

_ENDED = text(_LEASE.format(due="ended_at IS NOT NULL AND next_poll_at <= now() ORDER BY submitted_at"))

_DUE = text(
    _LEASE.format(
        due="ended_at IS NULL AND next_poll_at <= now() - make_interval(secs => :late_s) ORDER BY next_poll_at"
    )
)


@dataclass(frozen=True, slots=True)
class PolledTask:
    """A task that this poller may look at, with those of its files whose outcome is open."""

    task_id: UUID
    token: UUID
    upstream_task_id: str
    model: str
    region: str
    file_count: int  # files that the task was made for
    age_s: float  # since the submit
    ended_s: float  # since its end was first seen; 0 before
    files: list[TaskFile]
    settled_urls: list[str]  # of its files whose outcome is known, except those that left it

    @property
    def alone(self) -> bool:
        """Whether the task was made for one file."""
        return self.file_count == 1


async def claim_poll(session: AsyncSession, account: str, *, token: UUID, late_s: float) -> PolledTask | None:
    """The most urgent task that is due. `late_s`: how overdue it must be if nothing says that it has ended."""
    lease = {"account": account, "token": token, "lease_s": LEASE_S}
    row = (await session.execute(_ENDED, lease)).one_or_none()
    if row is None:
        row = (await session.execute(_DUE, {**lease, "late_s": late_s})).one_or_none()
    if row is None:
        return None
    files, settled_urls = await task_files(session, row.id)
    return PolledTask(
        task_id=row.id,
        token=token,
        upstream_task_id=row.upstream_task_id,
        model=row.model,
        region=row.region,
        file_count=row.file_count,
        age_s=row.age_s,
        ended_s=row.ended_s,
        files=files,
        settled_urls=settled_urls,
    )
