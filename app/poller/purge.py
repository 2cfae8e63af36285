"""Purging: jobs that finished more than RETENTION_DAYS ago, with all that hangs on them. Off unless that is set.

Retention goes before delivery: what a webhook is still owed then goes with its job.
"""

from dataclasses import dataclass
from itertools import accumulate
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import transaction
from app.identifiers import UUID_MIN, lowest_id_at
from app.poller.context import PollerContext
from app.poller.metrics import PURGED

# In one transaction. A transcript of 12 hours has thousands of chunks to delete, so these are a second's work at most.
FILES_AT_ONCE = 100
PAUSE_S = 0.1
# By how much the clocks that make ids may be ahead of the database's. What is further ahead is purged that much later.
CLOCK_SKEW_S = 3600

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Step:
    """What one transaction did. `after`: the last job that is settled; the next step begins behind it."""

    jobs: int
    after: UUID
    done: bool = False


async def purge(context: PollerContext, days: int) -> None:
    """Everything that is due, in small steps with pauses, until nothing is left or the poller is told to stop."""
    total, step = 0, Step(0, UUID_MIN)
    while not (step.done or context.stopping.is_set()):
        async with transaction(context.sessions) as session:
            step = await purge_some(session, days, after=step.after)
        total += step.jobs
        PURGED.inc(step.jobs)
        await context.pause(PAUSE_S)
    forgotten = FILES_AT_ONCE
    while forgotten == FILES_AT_ONCE and not context.stopping.is_set():
        async with transaction(context.sessions) as session:
            forgotten = await forget_some(session, days)
        await context.pause(PAUSE_S)
    if total:
        log.info("jobs purged", jobs=total, retention_days=days)


async def purge_some(session: AsyncSession, days: int, *, after: UUID = UUID_MIN) -> Step:
    """The next jobs with at most so many files together; what another transaction has locked is passed by.

    A job with more files loses its transcripts first, step by step, as if a client deleted them one by one: whoever
    reads or retries it meanwhile finds it in order.
    """
    cutoff = await session.scalar(_CUTOFF, {"days": days})
    span = {"after": after, "before": lowest_id_at(cutoff, shift_s=CLOCK_SKEW_S), "cutoff": cutoff}
    due = (await session.execute(_DUE, {**span, "most": FILES_AT_ONCE})).all()
    if not due:
        return Step(0, after, done=True)
    first = due[0]
    if first.files_total > FILES_AT_ONCE and await _delete_transcripts(session, first.id):
        return Step(0, after)
    together = accumulate(job.files_total for job in due)
    chosen = [job.id for job, files in zip(due, together, strict=True) if job is first or files <= FILES_AT_ONCE]
    await session.execute(_DELETE, {"ids": chosen})
    return Step(len(chosen), chosen[-1])


async def forget_some(session: AsyncSession, days: int) -> int:
    """How many task rows went that carried nothing that is still there, and that upstream does not list any more."""
    forgotten = await session.execute(_FORGET, {"hours": max(25, 24 * days), "most": FILES_AT_ONCE})
    return forgotten.rowcount  # type: ignore[attr-defined, no-any-return]


async def _delete_transcripts(session: AsyncSession, job_id: UUID) -> int:
    """Some of one job's; how many."""
    return await session.scalar(_DELETE_TRANSCRIPTS, {"job_id": job_id, "most": FILES_AT_ONCE}) or 0


_CUTOFF = text("SELECT now() - make_interval(days => :days)")

# By the primary key, since ids are in the order of time: no index on `finished_at` that each job would have to pay for.
# What stays (jobs that are open for longer than RETENTION_DAYS) is passed once a run.
_DUE = text("""
    SELECT id, files_total FROM jobs
    WHERE id > :after AND id < :before AND finished_at < :cutoff
    ORDER BY id LIMIT :most FOR UPDATE SKIP LOCKED
""")

_DELETE = text("DELETE FROM jobs WHERE id = ANY(:ids)")

_DELETE_TRANSCRIPTS = text("""
    WITH deleted AS (
        DELETE FROM transcripts WHERE id IN (SELECT id FROM transcripts WHERE job_id = :job_id LIMIT :most)
        RETURNING id, file_index
    ), job AS (
        UPDATE jobs SET version = version + 1 WHERE id = :job_id AND EXISTS (SELECT FROM deleted)
    ), file AS (
        UPDATE files SET transcript_id = NULL FROM deleted
        WHERE job_id = :job_id AND index = deleted.file_index AND transcript_id = deleted.id
    )
    SELECT count(*) FROM deleted
""")

# All that ended before the jobs that stay is without files, but for a few: the span of the index is short.
_FORGET = text("""
    DELETE FROM tasks WHERE id IN (
        SELECT id FROM tasks
        WHERE state = 'done' AND done_at < now() - make_interval(hours => :hours)
          AND NOT EXISTS (SELECT FROM files WHERE task_id = tasks.id)
        ORDER BY done_at LIMIT :most FOR UPDATE SKIP LOCKED
    )
""")
