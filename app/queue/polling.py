"""The polls of running tasks: which task is next, when it is due again, and which tasks the task list should show.

Tasks that seem to have ended come first, the oldest of them before all others.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.identifiers import standard_uuid
from app.queue.leases import LEASE_IS_FREE, RELEASE_LEASE, TAKE_LEASE

# A task is not expected in the task list until upstream has had this long to list it.
LISTED_AFTER_S = 2


@dataclass(frozen=True, slots=True)
class TaskFile:
    """A file of a task whose outcome is not known yet."""

    job_id: UUID
    index: int
    client_id: UUID
    url: str
    sent_as: str  # how responses name the file: `url`, unless another URL was sent
    attempts: int
    result_failures: int


@dataclass(frozen=True, slots=True)
class PolledTask:
    """A task that this poller has a lease on, with its open files."""

    task_id: UUID
    token: UUID
    upstream_task_id: str
    model: str
    region: str
    file_count: int  # files that were submitted, including those canceled since
    age_s: float  # since the submit
    ended_s: float  # since the end was first seen; 0 before
    files: list[TaskFile]
    finished_urls: list[str]  # of the files whose outcome is known, except those that left the task

    @property
    def has_one_file(self) -> bool:
        """Whether the task was submitted with one file."""
        return self.file_count == 1


async def claim_poll(session: AsyncSession, account: str, *, token: UUID, late_s: float) -> PolledTask | None:
    """Lease the most urgent task that is due, or None. Two or three statements.

    `late_s` is by how long a poll must be overdue if nothing shows that the task has ended.
    """
    lease = {"account": account, "token": token}
    row = (await session.execute(_CLAIM_ENDED, lease)).one_or_none()
    if row is None:
        row = (await session.execute(_CLAIM_DUE, {**lease, "late_s": late_s})).one_or_none()
    if row is None:
        return None
    files = (await session.execute(_FILES, {"id": row.id})).all()
    return PolledTask(
        task_id=row.id,
        token=token,
        upstream_task_id=row.upstream_task_id,
        model=row.model,
        region=row.region,
        file_count=row.file_count,
        age_s=row.age_s,
        ended_s=row.ended_s,
        files=[_file(file) for file in files if file.open],
        finished_urls=[file.sent_as for file in files if not file.open],
    )


async def open_files(session: AsyncSession, task_id: UUID) -> list[TaskFile]:
    """The files of a task whose outcome is not known yet. One statement."""
    return [_file(row) for row in await session.execute(_FILES, {"id": task_id}) if row.open]


async def schedule_poll(
    session: AsyncSession,
    task_id: UUID,
    token: UUID,
    *,
    wait_s: float,
    status: str | None = None,
    alive: bool = False,
    last_error: str | None = None,
) -> None:
    """Release the task and make it due again in `wait_s`. One statement. Does nothing if the lease was lost.

    `alive`: a query says that the task has not ended, whatever the task list showed.
    """
    await session.execute(
        _SCHEDULE_POLL,
        {"id": task_id, "token": token, "wait_s": wait_s, "status": status, "alive": alive, "last_error": last_error},
    )


async def running_tasks(session: AsyncSession, account: str) -> dict[UUID, str]:
    """Upstream ids by task id of the tasks that the task list should show. One statement."""
    rows = await session.execute(_RUNNING, {"account": account, "listed_after_s": LISTED_AFTER_S})
    return {row.id: row.upstream_task_id for row in rows}


async def mark_ended(session: AsyncSession, task_ids: Collection[UUID]) -> None:
    """Note that the task list no longer shows the tasks: they are due for a poll now. One statement."""
    await session.execute(_MARK_ENDED, {"ids": list(task_ids)})


def _file(row: Row[Any]) -> TaskFile:
    return TaskFile(
        job_id=standard_uuid(row.job_id),
        index=row.number,
        client_id=row.client_id,
        url=row.url,
        sent_as=row.sent_as,
        attempts=row.attempts,
        result_failures=row.result_failures,
    )


_CLAIM = f"""
    UPDATE tasks SET {TAKE_LEASE}
    WHERE id = (
        SELECT id FROM tasks
        WHERE account = :account AND state = 'running' AND {LEASE_IS_FREE} AND {{due}}
        LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING id, upstream_task_id, model, region, file_count,
        extract(epoch FROM now() - submitted_at)::float8 AS age_s,
        coalesce(extract(epoch FROM now() - ended_at), 0)::float8 AS ended_s
"""  # noqa: S608 - constants

_CLAIM_ENDED = text(_CLAIM.format(due="ended_at IS NOT NULL AND next_poll_at <= now() ORDER BY submitted_at"))

_CLAIM_DUE = text(
    _CLAIM.format(
        due="ended_at IS NULL AND next_poll_at <= now() - make_interval(secs => :late_s) ORDER BY next_poll_at"
    )
)

_FILES = text("""
    SELECT job_id, index AS number, client_id, url, coalesce(sent_as, url) AS sent_as, attempts, result_failures,
        status = 'running' AS open
    FROM files WHERE task_id = :id ORDER BY job_id, index
""")

_SCHEDULE_POLL = text(f"""
    UPDATE tasks SET next_poll_at = now() + make_interval(secs => :wait_s), polls = polls + 1,
        upstream_status = coalesce(:status, upstream_status),
        ended_at = CASE WHEN :alive THEN NULL ELSE ended_at END,
        last_error = :last_error, {RELEASE_LEASE}
    WHERE id = :id AND lease_token = :token AND state = 'running'
""")  # noqa: S608 - constants

_RUNNING = text("""
    SELECT id, upstream_task_id FROM tasks
    WHERE account = :account AND state = 'running' AND ended_at IS NULL
      AND submitted_at < now() - make_interval(secs => :listed_after_s)
""")

_MARK_ENDED = text("""
    UPDATE tasks SET ended_at = now(), next_poll_at = now()
    WHERE id IN (
        SELECT id FROM tasks WHERE id = ANY(:ids) AND state = 'running' AND ended_at IS NULL FOR UPDATE SKIP LOCKED
    )
""")
