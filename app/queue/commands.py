"""What clients do with a job that is there: cancel, retry, delete. Nothing here talks to upstream.

Locks are taken in the poller's order, so that neither waits for the other in a circle: tasks (in the order of their
ids), then files, then jobs. Retry and delete touch only files that the poller has finished with; they lock the job
first, and so wait for each other.
"""

from math import inf
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.elements import TextClause

from app.db import Sessions, raw_connection_of, transaction
from app.errors import JobFinal, JobNotFinal, NothingToRetry
from app.queue.counters import JobChange, apply_changes
from app.queue.queries import JobRow, find_job, job_not_found
from app.queue.quota import quota_exceeded, remaining_quota


async def cancel_job(sessions: Sessions, client_id: UUID, job_id: UUID) -> JobRow:
    """The job, final now: what waited or ran is canceled, whatever upstream says of it later.

    One transaction, and another one when a file was just being claimed: it is in a task then that was not locked.
    To lock it in the first one would be out of order. Raises NotFound, or JobFinal when nothing waited or ran.
    """
    canceled = 0
    while True:
        async with transaction(sessions) as session:
            canceled += await cancel_open_files(session, client_id, job_id)
            job = await find_job(session, client_id, job_id)
        if job.final and not canceled:
            raise JobFinal(f"The job is {job.status} already; there is nothing left to cancel.")
        if job.final:
            return job


async def cancel_open_files(session: AsyncSession, client_id: UUID, job_id: UUID) -> int:
    """How many files of the job were canceled: all that waited or ran when the transaction came to lock them.

    Tasks that carry nothing else are marked for the poller, which cancels them upstream while they are PENDING.
    """
    own = {"job_id": job_id, "client_id": client_id}
    tasks = list(await session.scalars(_LOCK_TASKS, own))
    if tasks:
        await session.execute(_DROP_FILES, {"job_id": job_id, "tasks": tasks})
    change = JobChange()
    for status, count in (await _counts(session, _CANCEL_FILES, {**own, "tasks": tasks})).items():
        change.move(since="queued" if status == "submitting" else status, to="canceled", count=count)
    if change.counts.canceled:
        await apply_changes(session, {job_id: change})
    return change.counts.canceled


async def retry_job(
    session: AsyncSession, client_id: UUID, job_id: UUID, *, waiting_limit: int | None = None
) -> JobRow:
    """The job with its failed and canceled files queued again; what they went through before still counts.

    Raises NotFound, NothingToRetry when no file is failed or canceled, or TooManyWaitingFiles: roll back then.
    """
    own = {"job_id": job_id, "client_id": client_id}
    await _lock(session, own)
    room = await _room(session, client_id, waiting_limit) if waiting_limit else inf
    change = JobChange()
    for status, count in (await _counts(session, _RETRY_FILES, own)).items():
        change.move(since=status, to="queued", count=count)
    if not change.counts.queued:
        raise NothingToRetry("No file of the job is failed or canceled.")
    if waiting_limit and change.counts.queued > room:
        raise quota_exceeded(0, waiting_limit)
    await apply_changes(session, {job_id: change})
    return await find_job(session, client_id, job_id)


async def _room(session: AsyncSession, client_id: UUID, limit: int) -> float:
    """How many files may be queued again. More than the limit may when no others wait: later they could not either."""
    left = (await remaining_quota(await raw_connection_of(session), [client_id], limit))[client_id]
    return left if left < limit else inf


async def delete_job(session: AsyncSession, client_id: UUID, job_id: UUID) -> None:
    """The job with its files and transcripts; its idempotency key is free again. Raises NotFound or JobNotFinal.

    Task rows stay: they tell the reconciler which upstream tasks are known, as long as upstream lists them.
    """
    own = {"job_id": job_id, "client_id": client_id}
    if not await _lock(session, own):
        raise JobNotFinal("The job is not final yet; cancel it first, or wait.")
    await session.execute(_DELETE, own)


async def _counts(session: AsyncSession, statement: TextClause, values: dict[str, Any]) -> dict[str, int]:
    return {row.status: row.files for row in await session.execute(statement, values)}


async def _lock(session: AsyncSession, own: dict[str, UUID]) -> bool:
    """Whether the job is final; it stays so until the transaction ends. Raises NotFound."""
    found = (await session.execute(_LOCK_JOB, own)).one_or_none()
    if found is None:
        raise job_not_found(own["job_id"])
    return found.finished_at is not None


_LOCK_JOB = text("SELECT finished_at FROM jobs WHERE id = :job_id AND client_id = :client_id FOR UPDATE")

_DELETE = text("DELETE FROM jobs WHERE id = :job_id AND client_id = :client_id")

# Whoever changes a file that is under way holds its task: nobody does while these are locked.
_LOCK_TASKS = text("""
    SELECT id FROM tasks
    WHERE id IN (
        SELECT task_id FROM files
        WHERE job_id = :job_id AND client_id = :client_id AND status IN ('submitting', 'running')
    )
    ORDER BY id FOR NO KEY UPDATE
""")

# A task without an open file is looked at no more (`next_poll_at`), and to be cancelled upstream.
_DROP_FILES = text("""
    UPDATE tasks SET
        canceled_urls = canceled_urls || ARRAY(
            SELECT url FROM files WHERE task_id = tasks.id AND job_id = :job_id AND status = 'submitting'),
        cancel_wanted_at = CASE WHEN others.wait THEN NULL ELSE now() END,
        next_poll_at = CASE WHEN others.wait OR state <> 'running' THEN next_poll_at END
    FROM (
        SELECT id, EXISTS (
            SELECT FROM files
            WHERE task_id = given.id AND job_id <> :job_id AND status IN ('submitting', 'running')
        ) AS wait
        FROM unnest(CAST(:tasks AS uuid[])) AS given (id)
    ) AS others
    WHERE tasks.id = others.id
""")

# Canceled files leave their task, so that nothing upstream says of it can reach them. They stay suspect of the group
# that was refused with them: without them its size cannot be found to blame.
_CANCEL_FILES = text("""
    WITH chosen AS (
        SELECT job_id, index, status FROM files
        WHERE job_id = :job_id AND client_id = :client_id
          AND (status = 'queued' OR status IN ('submitting', 'running') AND task_id = ANY(CAST(:tasks AS uuid[])))
        ORDER BY index FOR UPDATE
    ), canceled AS (
        UPDATE files SET status = 'canceled', task_id = NULL, not_before = NULL, finished_at = now()
        FROM chosen WHERE files.job_id = chosen.job_id AND files.index = chosen.index
        RETURNING chosen.status
    )
    SELECT status, count(*) AS files FROM canceled GROUP BY status
""")

# What a refused group taught about the file (`group_limit`) still holds: it must not fail another group.
_RETRY_FILES = text("""
    WITH chosen AS (
        SELECT job_id, index, status FROM files
        WHERE job_id = :job_id AND client_id = :client_id AND status IN ('failed', 'canceled')
        ORDER BY index FOR UPDATE
    ), queued AS (
        UPDATE files SET status = 'queued', task_id = NULL, not_before = NULL, queued_at = now(), finished_at = NULL,
            error_code = NULL, error_message = NULL, error_retryable = NULL, error_upstream_code = NULL,
            result_failures = 0
        FROM chosen WHERE files.job_id = chosen.job_id AND files.index = chosen.index
        RETURNING chosen.status
    )
    SELECT status, count(*) AS files FROM queued GROUP BY status
""")
