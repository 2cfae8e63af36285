"""Deletes transcripts, old jobs, task rows without files, old group limits and old circuits.

All functions take a session and run in the caller's transaction.
"""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import accumulate
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.identifiers import UUID_MIN, lowest_id_at
from app.queue.budget_holds import delete_old_holds
from app.queue.leases import LEASE_IS_FREE, TAKE_LEASE
from app.transcripts.queries import transcript_not_found

# Files whose jobs one transaction deletes. A transcript of 12 hours has thousands of chunks to delete, so a
# transaction takes a second at most.
FILES_PER_STEP = 100
# Task rows that one transaction deletes.
TASKS_PER_STEP = 1000
# Upstream lists a task for 24 hours. The reconciler must know every task that upstream lists, also those of deleted
# jobs, so task rows stay for an hour longer.
TASK_HOURS = 25
# How far the clocks that make ids may be ahead of the database's clock. Jobs of a clock further ahead are deleted
# later by the difference.
CLOCK_SKEW_S = 3600


@dataclass(frozen=True, slots=True)
class PurgeStep:
    """The work of one transaction. The next step starts after the job `after`."""

    jobs: int
    after: UUID
    done: bool = False


async def purge_jobs(session: AsyncSession, days: int, *, after: UUID = UUID_MIN) -> PurgeStep:
    """Delete the next jobs that finished more than `days` ago, with together at most FILES_PER_STEP files.

    Three statements. Jobs that another transaction has locked are skipped. A job with more files loses its
    transcripts first, FILES_PER_STEP at a time, as if a client deleted them; it can be read and retried meanwhile.
    """
    cutoff = await session.scalar(_CUTOFF, {"days": days})
    span = {"after": after, "before": lowest_id_at(cutoff, shift_s=CLOCK_SKEW_S), "cutoff": cutoff}
    due = (await session.execute(_DUE_JOBS, {**span, "batch": FILES_PER_STEP})).all()
    if not due:
        return PurgeStep(0, after, done=True)
    first = due[0]
    if first.files_total > FILES_PER_STEP:
        values = {"job_id": first.id, "batch": FILES_PER_STEP}
        if await session.scalar(_DELETE_TRANSCRIPTS_OF_JOB, values):
            return PurgeStep(0, after)
    together = accumulate(job.files_total for job in due)
    chosen = [job.id for job, files in zip(due, together, strict=True) if job is first or files <= FILES_PER_STEP]
    await session.execute(_DELETE_JOBS, {"ids": chosen})
    return PurgeStep(len(chosen), chosen[-1])


async def delete_transcript(session: AsyncSession, client_id: UUID, transcript_id: UUID) -> None:
    """Delete a transcript, clear it from its file and raise the version of its job. Two statements. Raises NotFound."""
    own = {"transcript_id": transcript_id, "client_id": client_id}
    await session.execute(_LOCK_JOB, own)
    if not await session.scalar(_DELETE_TRANSCRIPT, own):
        raise transcript_not_found(transcript_id)


async def delete_task_rows(session: AsyncSession, *, min_hours: int = TASK_HOURS, max_hours: int | None = None) -> int:
    """Delete up to TASKS_PER_STEP rows of tasks without files, and return their number. One statement.

    Only tasks that ended between `max_hours` and `min_hours` ago are read. Without `max_hours` all older ones are,
    which is quick only if few of them have files, as after a purge.
    """
    values = {"min_hours": min_hours, "max_hours": max_hours, "batch": TASKS_PER_STEP}
    deleted = await session.execute(_DELETE_TASKS, values)
    return deleted.rowcount  # type: ignore[attr-defined, no-any-return]


async def delete_old_limits(session: AsyncSession) -> None:
    """Delete group limits that were learned over 7 days ago, and circuits and budget holds that are no longer needed.

    These circuits are closed for an hour, or without a probe for a day. Three statements.
    """
    await delete_old_holds(session)
    await session.execute(_DELETE_GROUP_LIMITS)
    await session.execute(_DELETE_CIRCUITS)


async def delete_dropped_files(session: AsyncSession) -> None:
    """Delete the canceled files of tasks that have ended. One statement."""
    await session.execute(_DELETE_DROPPED)


@dataclass(frozen=True, slots=True)
class AbandonedTask:
    id: UUID
    account: str
    unsure: bool  # the response to its submit was lost; else it is running


async def claim_abandoned_tasks(
    session: AsyncSession, accounts: Collection[str], *, token: UUID
) -> list[AbandonedTask]:
    """Lease up to 10 tasks that nothing will finish: unsure for a day, or running for a day on another account.

    `accounts` are the configured ones. One statement.
    """
    values = {"accounts": list(accounts), "token": token, "hours": TASK_HOURS}
    rows = await session.execute(_CLAIM_ABANDONED, values)
    return [AbandonedTask(row.id, row.account, row.state == "unsure") for row in rows]


_CUTOFF = text("SELECT now() - make_interval(days => :days)")

# By the primary key, because ids are in the order of time: an index on `finished_at` would cost every job. Jobs that
# stay open for longer than RETENTION_DAYS are read once per run.
_DUE_JOBS = text("""
    SELECT id, files_total FROM jobs
    WHERE id > :after AND id < :before AND finished_at < :cutoff
    ORDER BY id LIMIT :batch FOR UPDATE SKIP LOCKED
""")

_DELETE_JOBS = text("DELETE FROM jobs WHERE id = ANY(:ids)")

# Every deletion locks the job first, then its files and transcripts.
_LOCK_JOB = text("""
    SELECT FROM jobs
    WHERE id = (SELECT job_id FROM transcripts WHERE id = :transcript_id AND client_id = :client_id)
    FOR NO KEY UPDATE
""")

_DELETE_TRANSCRIPTS = """
    WITH deleted AS (
        DELETE FROM transcripts WHERE {where} RETURNING id, job_id, file_index
    ), job AS (
        UPDATE jobs SET version = version + 1 WHERE id IN (SELECT job_id FROM deleted)
    ), file AS (
        UPDATE files SET transcript_id = NULL FROM deleted
        WHERE files.job_id = deleted.job_id AND files.index = deleted.file_index AND files.transcript_id = deleted.id
    )
    SELECT count(*) FROM deleted
"""
_DELETE_TRANSCRIPT = text(_DELETE_TRANSCRIPTS.format(where="id = :transcript_id AND client_id = :client_id"))
_DELETE_TRANSCRIPTS_OF_JOB = text(
    _DELETE_TRANSCRIPTS.format(where="id IN (SELECT id FROM transcripts WHERE job_id = :job_id LIMIT :batch)")
)

_DELETE_TASKS = text("""
    DELETE FROM tasks WHERE id IN (
        SELECT id FROM tasks
        WHERE state = 'done' AND done_at < now() - make_interval(hours => :min_hours)
          AND done_at >= coalesce(now() - make_interval(hours => CAST(:max_hours AS int)), '-infinity')
          AND NOT EXISTS (SELECT FROM files WHERE task_id = tasks.id)
        ORDER BY done_at LIMIT :batch FOR UPDATE SKIP LOCKED
    )
""")

_DELETE_DROPPED = text("""
    DELETE FROM dropped_files USING tasks WHERE tasks.id = dropped_files.task_id AND tasks.state = 'done'
""")

# Upstream may have raised the limit, or the size was not to blame: a few refused groups teach the limit again.
_DELETE_GROUP_LIMITS = text("DELETE FROM group_limits WHERE learnt_at < now() - interval '7 days'")

# Circuits of accounts that are no longer configured and of models without queued files. A refusal opens them again.
_DELETE_CIRCUITS = text("""
    DELETE FROM circuits WHERE probe_at < now() - interval '1 day' OR closed_at < now() - interval '1 hour'
""")

_CLAIM_ABANDONED = text(f"""
    UPDATE tasks SET {TAKE_LEASE}
    WHERE id IN (
        SELECT id FROM tasks
        WHERE (state = 'unsure' OR state = 'running' AND account <> ALL(:accounts))
          AND created_at < now() - make_interval(hours => :hours) AND {LEASE_IS_FREE}
        LIMIT 10 FOR UPDATE SKIP LOCKED
    )
    RETURNING id, account, state
""")  # noqa: S608 - constants
