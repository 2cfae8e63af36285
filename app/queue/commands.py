"""Cancels, retries, deletes and repeats jobs. Runs no call to upstream.

Locks are taken in the poller's order, so that the two do not deadlock: tasks in the order of their ids, then files,
then jobs. Retry and delete change only files that no task carries any more. They lock the job first, and so exclude
each other.
"""

from contextlib import suppress
from datetime import timedelta
from math import inf
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import Sessions, raw_connection_of, transaction
from app.errors import JobFinal, JobNotFinal, NothingToRetry
from app.queue.counters import JobChange, apply_changes
from app.queue.creation import quota_exceeded, remaining_quota
from app.queue.job_json import JobSnapshot
from app.queue.lifecycle import JobStatus
from app.queue.observation import files_canceled, job_retried
from app.queue.queries import find_by_keys, find_job, job_not_found
from app.queue.spending import lock_allowances
from app.webhooks.outbox import supersede


async def cancel_job(sessions: Sessions, client_id: UUID, job_id: UUID) -> JobSnapshot:
    """Cancel all files that are queued or running, whatever upstream reports of them later. Returns the final job.

    One transaction, and another one if a task claims a file meanwhile: locking that task in the first transaction
    would be out of order. Raises NotFound, or JobFinal if no file was queued or running.
    """
    canceled = 0
    while True:
        async with transaction(sessions) as session:
            canceled += await cancel_open_files(session, client_id, job_id)
            snapshot = await find_job(session, client_id, job_id)
        if snapshot.final and not canceled:
            raise JobFinal(f"The job is {snapshot.job.status} already; there is nothing left to cancel.")
        if snapshot.final:
            return snapshot


async def cancel_queued_job(sessions: Sessions, client_id: UUID, job_id: UUID) -> bool:
    """Cancel the job as `cancel_job` does, if upstream has accepted none of its files. Returns whether it was canceled.

    The status is read under the locks of the job's tasks, so no file is accepted between the two. Files that a task
    claims after that are canceled too. Raises NotFound.
    """
    while True:
        async with transaction(sessions) as session:
            canceled = await cancel_open_files(session, client_id, job_id, only_queued=True)
            job = (await find_job(session, client_id, job_id)).job
        if canceled:
            break
        if job.status != JobStatus.QUEUED:
            return False
    with suppress(JobFinal):
        await cancel_job(sessions, client_id, job_id)
    return True


async def cancel_open_files(session: AsyncSession, client_id: UUID, job_id: UUID, *, only_queued: bool = False) -> int:
    """Cancel the files that are queued, or that are in a task that this transaction locked. Returns their number.

    With `only_queued`, none is canceled unless the job is queued.

    Tasks that carry no other open file are marked, so that the poller cancels them upstream while they are PENDING.
    What upstream bills for the others is recorded when their task ends: see `DroppedFile`.
    """
    own = {"job_id": job_id, "client_id": client_id}
    tasks = list(await session.scalars(_LOCK_TASKS, own))
    if only_queued and await session.scalar(_STATUS, own) != JobStatus.QUEUED:
        return 0
    if tasks:
        await session.execute(_DROP_FILES, {"job_id": job_id, "tasks": tasks})
    change = JobChange()
    for row in await session.execute(_CANCEL_FILES, {**own, "tasks": tasks}):
        change.move(since=row.status, to="canceled", count=row.files)
        files_canceled(session, model=row.model, region=row.region, files=row.files)
    if change.counts.canceled:
        await apply_changes(session, {job_id: change})
    return change.counts.canceled


async def retry_job(
    session: AsyncSession,
    client_id: UUID,
    job_id: UUID,
    *,
    waiting_limit: int | None = None,
    budget_assumed_s: int | None = None,
) -> JobSnapshot:
    """Queue the failed and canceled files again. Their `attempts` stay. Webhooks of the job's former end are dropped.

    `budget_assumed_s` is given for a client with a budget: see `lock_allowances`. Raises NotFound, NothingToRetry if no
    file is failed or canceled, TooManyWaitingFiles, BudgetExceeded or BudgetCurrencyMismatch. Roll back after an error.
    """
    own = {"job_id": job_id, "client_id": client_id}
    job = await _lock(session, own)
    quota: float = inf
    if waiting_limit:
        connection = await raw_connection_of(session)
        quota = (await remaining_quota(connection, [client_id], waiting_limit))[client_id]
        if quota >= waiting_limit:
            quota = inf  # nothing else is queued: a job that exceeds the limit alone would never fit
    change = JobChange()
    for row in await session.execute(_RETRY_FILES, own):
        change.move(since=row.status, to="queued", count=row.files)
    if not change.counts.queued:
        raise NothingToRetry("No file of the job is failed or canceled.")
    if waiting_limit and change.counts.queued > quota:
        raise quota_exceeded(0, waiting_limit)
    if budget_assumed_s is not None:
        allowances = await lock_allowances(session, [client_id], assumed_s=budget_assumed_s)
        for allowance in allowances.values():
            allowance.admit(job.model, job.region, change.counts.queued)
    await apply_changes(session, {job_id: change})
    await supersede(session, job_id)
    job_retried(session, job_id=job_id, files=change.counts.queued)
    return await find_job(session, client_id, job_id)


async def delete_job(session: AsyncSession, client_id: UUID, job_id: UUID) -> None:
    """Delete the job with its files and transcripts, and free its idempotency key. Raises NotFound or JobNotFinal.

    Its task rows stay: the reconciler must know which upstream tasks are the gateway's, as long as upstream lists them.
    Files of tasks that are not stored completely become dropped files, until the bill of the task is divided.
    """
    own = {"job_id": job_id, "client_id": client_id}
    if (await _lock(session, own)).finished_at is None:
        raise JobNotFinal("The job is not final yet; cancel it first, or wait.")
    await session.execute(_DELETE, own)


async def find_repeated(session: AsyncSession, client_id: UUID, key: str, max_age: timedelta) -> JobSnapshot | None:
    """The job that a repeated request with this idempotency key joins; None if it has to create one.

    A job does not answer a repetition if it failed, is canceled, has lost a transcript or is older than `max_age`. Its
    key is then free for another job.
    """
    await session.execute(_FREE_KEY, {"client_id": client_id, "key": key, "max_age": max_age})
    found = await find_by_keys(await raw_connection_of(session), [(client_id, key)])
    return next((snapshot for snapshot, _ in found.values()), None)


async def _lock(session: AsyncSession, own: dict[str, UUID]) -> Row[Any]:
    """Lock the job until the transaction ends. Raises NotFound."""
    found = (await session.execute(_LOCK_JOB, own)).one_or_none()
    if found is None:
        raise job_not_found(own["job_id"])
    return found


_LOCK_JOB = text("SELECT finished_at, model, region FROM jobs WHERE id = :job_id AND client_id = :client_id FOR UPDATE")

# While other files of a task are open, the shares of its bill need the files that are stored already.
_DELETE = text("""
    WITH kept AS (
        INSERT INTO dropped_files (task_id, job_id, index, client_id, region, model, url, sent_as, metadata, open,
                                   audio_duration_ms, billed_s, input_tokens, output_tokens, cost)
        SELECT task_id, job_id, index, files.client_id, files.region, files.model, url, coalesce(sent_as, url),
            jobs.metadata, false, files.audio_duration_ms, billed_s, input_tokens, output_tokens, files.cost
        FROM files JOIN jobs ON jobs.id = job_id JOIN tasks ON tasks.id = task_id AND tasks.state = 'running'
        WHERE job_id = :job_id AND files.client_id = :client_id AND files.status = 'succeeded'
    )
    DELETE FROM jobs WHERE id = :job_id AND client_id = :client_id
""")

_FREE_KEY = text("""
    UPDATE jobs SET idempotency_key = NULL, request_sha256 = NULL
    WHERE client_id = :client_id AND idempotency_key = :key
      AND (status IN ('failed', 'canceled') OR created_at <= now() - CAST(:max_age AS interval) OR EXISTS (
          SELECT FROM files LEFT JOIN transcripts ON transcripts.id = files.transcript_id
          WHERE files.job_id = jobs.id AND files.status = 'succeeded' AND transcripts.id IS NULL
      ))
""")

_STATUS = text("SELECT status FROM jobs WHERE id = :job_id AND client_id = :client_id")

# A file in a task is changed only under the lock of its task.
_LOCK_TASKS = text("""
    SELECT id FROM tasks
    WHERE id IN (
        SELECT task_id FROM files
        WHERE job_id = :job_id AND client_id = :client_id AND status IN ('submitting', 'running')
    )
    ORDER BY id FOR NO KEY UPDATE
""")

# A task without an open file is to be canceled upstream. It is polled (`next_poll_at`) if that fails.
_DROP_FILES = text("""
    UPDATE tasks SET
        canceled_urls = canceled_urls || ARRAY(
            SELECT coalesce(sent_as, url) FROM files
            WHERE task_id = tasks.id AND job_id = :job_id AND status = 'submitting'),
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

# A running file keeps its task, because the client may need the ids of the task. Results are stored for running files
# only, so a canceled file gets no transcript. The bill of a canceled file is recorded through the dropped file. A file
# that is being submitted leaves its task, because the task may be refused and deleted. The mark of a refused group
# (`suspect_task_id`) stays: unless all files of the group are accepted in smaller groups, the size of the group is not
# known to be the cause.
_CANCEL_FILES = text("""
    WITH chosen AS (
        SELECT * FROM files
        WHERE job_id = :job_id AND client_id = :client_id
          AND (status = 'queued' OR status IN ('submitting', 'running') AND task_id = ANY(CAST(:tasks AS uuid[])))
        ORDER BY index FOR UPDATE
    ), dropped AS (
        INSERT INTO dropped_files (task_id, job_id, index, client_id, region, model, url, sent_as, metadata,
                                   result_failures)
        SELECT task_id, job_id, index, chosen.client_id, chosen.region, chosen.model, url, coalesce(sent_as, url),
            jobs.metadata, result_failures
        FROM chosen JOIN jobs ON jobs.id = chosen.job_id WHERE chosen.status <> 'queued'
    ), canceled AS (
        UPDATE files SET status = 'canceled', not_before = NULL, finished_at = now(),
            task_id = CASE chosen.status WHEN 'running' THEN files.task_id END
        FROM chosen WHERE files.job_id = chosen.job_id AND files.index = chosen.index
        RETURNING chosen.status, files.model, files.region
    )
    SELECT status, model, region, count(*) AS files FROM canceled GROUP BY status, model, region
""")

# `group_limit` stays: a file from a refused group must not make a large group fail again.
_RETRY_FILES = text("""
    WITH chosen AS (
        SELECT job_id, index, status FROM files
        WHERE job_id = :job_id AND client_id = :client_id AND status IN ('failed', 'canceled')
        ORDER BY index FOR UPDATE
    ), queued AS (
        UPDATE files SET status = 'queued', task_id = NULL, not_before = NULL, queued_at = now(), finished_at = NULL,
            error_code = NULL, error_message = NULL, error_retryable = NULL, error_upstream_code = NULL,
            result_failures = 0, transcript_id = NULL
        FROM chosen WHERE files.job_id = chosen.job_id AND files.index = chosen.index
        RETURNING chosen.status
    )
    SELECT status, count(*) AS files FROM queued GROUP BY status
""")
