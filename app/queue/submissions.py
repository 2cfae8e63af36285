"""What a submit's outcome does to the task, its files and their jobs. Each function belongs in one transaction."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.dashscope.failures import Failure
from app.dashscope.quoted_urls import hide_other_urls
from app.queue.counters import JobChange, apply_changes
from app.queue.lifecycle import FileCounts
from app.queue.region_failover import MOVABLE

UNKNOWN_BATCH = 1000

# A task row is one attempt: what upstream answered to it is true no matter who holds the lease by now. Only an
# attempt that was given up, and whose files went elsewhere, can no longer be accepted.
_ACCEPT = text("""
    UPDATE tasks SET state = 'running', upstream_task_id = :upstream_task_id, submitted_at = now(),
        next_poll_at = CASE WHEN cancel_wanted_at IS NULL THEN now() + make_interval(secs => :poll_in_s) END,
        canceled_urls = '{}', lease_token = NULL, lease_until = NULL, last_error = NULL
    WHERE id = :id AND state IN ('submitting', 'unsure')
""")

_FILES_ACCEPTED = text("""
    UPDATE files SET status = 'running', attempts = least(attempts + 1, 32767),
        group_limit = NULL, suspect_task_id = NULL
    FROM (SELECT job_id, index, suspect_task_id FROM files WHERE task_id = :id) AS before
    WHERE files.job_id = before.job_id AND files.index = before.index
      AND files.task_id = :id AND files.status = 'submitting'
    RETURNING files.job_id, before.suspect_task_id
""")

_CLOSE = text("""
    UPDATE tasks SET state = 'done', done_at = now(), canceled_urls = '{}', lease_token = NULL, lease_until = NULL,
        last_error = :last_error
    WHERE id = :id AND state IN ('submitting', 'unsure')
    RETURNING file_count
""")

# Nothing came of the attempt: not even its row is worth keeping.
_QUEUE_AGAIN = text("""
    WITH given_up AS (
        SELECT id FROM tasks
        WHERE id = :id AND state IN ('submitting', 'unsure')
          AND (CAST(:token AS uuid) IS NULL OR lease_token = :token)
        FOR UPDATE
    )
    UPDATE files SET status = 'queued', task_id = NULL
    WHERE task_id = (SELECT id FROM given_up) AND status = 'submitting'
""")

_DISCARD = text("""
    DELETE FROM tasks
    WHERE id = :id AND state IN ('submitting', 'unsure') AND NOT EXISTS (SELECT FROM files WHERE task_id = :id)
""")

_FAIL = text("""
    UPDATE files SET status = 'failed', finished_at = now(), error_code = :code,
        error_message = coalesce(
            (SELECT message FROM unnest(CAST(:urls AS text[]), CAST(:messages AS text[])) AS shown (url, message)
             WHERE shown.url = files.url LIMIT 1), :message),
        error_retryable = :retryable, error_upstream_code = :upstream_code
    WHERE task_id = :id AND status = 'submitting'
    RETURNING job_id, suspect_task_id
""")

_URLS = text("SELECT DISTINCT url FROM files WHERE task_id = :id AND status = 'submitting'")

_FAIL_UNKNOWN = text(
    """
    UPDATE files SET status = 'failed', finished_at = now(), not_before = NULL, error_code = :code,
        error_message = :message, error_retryable = :retryable, error_upstream_code = :upstream_code
    FROM (
        SELECT files.job_id, files.index FROM files JOIN jobs ON jobs.id = files.job_id
        WHERE files.status = 'queued' AND files.region = :region AND files.model = :model
          AND CASE WHEN {movable} THEN CAST(:movable AS bool) ELSE CAST(:bound AS bool) END
        LIMIT :batch FOR UPDATE OF files SKIP LOCKED
    ) AS chosen
    WHERE files.job_id = chosen.job_id AND files.index = chosen.index
    RETURNING files.job_id
""".replace("{movable}", MOVABLE)
)

_LOSE = text("""
    UPDATE tasks SET state = 'unsure', lost_at = now(), next_poll_at = now() + make_interval(secs => :poll_in_s),
        lease_token = NULL, lease_until = NULL, last_error = :last_error
    WHERE id = :id AND state = 'submitting'
""")

# The group was refused as a whole. Any group that held its files before is explained by this smaller one.
_SPLIT = text("""
    WITH others AS (
        SELECT job_id, index FROM files
        WHERE suspect_task_id IN (
            SELECT suspect_task_id FROM files WHERE task_id = :id AND suspect_task_id IS NOT NULL)
          AND task_id IS DISTINCT FROM :id
        ORDER BY job_id, index FOR UPDATE
    ), explained AS (
        UPDATE files SET suspect_task_id = NULL
        FROM others WHERE files.job_id = others.job_id AND files.index = others.index
    )
    UPDATE files SET status = 'queued', not_before = NULL, group_limit = :half,
        suspect_task_id = CASE WHEN :suspect THEN :id END
    WHERE task_id = :id AND status = 'submitting'
""")

_CLEAR_SUSPICION = text("""
    WITH innocent AS (
        SELECT job_id, index FROM files WHERE suspect_task_id = ANY(:suspects) ORDER BY job_id, index FOR UPDATE
    )
    UPDATE files SET suspect_task_id = NULL
    FROM innocent WHERE files.job_id = innocent.job_id AND files.index = innocent.index
""")

# Every file of the refused group was accepted in a smaller one: its size was to blame, and half of it is safe.
_LEARN = text("""
    INSERT INTO group_limits (account, model, max_files)
    SELECT account, model, greatest(file_count / 2, 1) FROM tasks
    WHERE id = ANY(:suspects) AND NOT EXISTS (SELECT FROM files WHERE suspect_task_id = tasks.id)
    ON CONFLICT (account, model) DO UPDATE
        SET max_files = least(group_limits.max_files, excluded.max_files), learnt_at = now()
    RETURNING account, model, max_files
""")


async def mark_running(
    session: AsyncSession, task_id: UUID, upstream_task_id: str, *, poll_in_s: float
) -> list[Row[Any]] | None:
    """Upstream has the task. Returns group limits learnt by it, or None when the attempt had been given up.

    Raises IntegrityError when another task row has this upstream task: that row's own was then taken for this one.
    """
    accepted = await session.execute(
        _ACCEPT, {"id": task_id, "upstream_task_id": upstream_task_id, "poll_in_s": poll_in_s}
    )
    if not accepted.rowcount:  # type: ignore[attr-defined]
        return None
    files = (await session.execute(_FILES_ACCEPTED, {"id": task_id})).all()
    await apply_changes(session, _changes(files, FileCounts(queued=-1, running=1)))
    suspects = list({row.suspect_task_id for row in files if row.suspect_task_id})
    if not suspects:
        return []
    return list((await session.execute(_LEARN, {"suspects": suspects})).all())


async def requeue(session: AsyncSession, task_id: UUID, *, token: UUID | None = None) -> None:
    """Upstream certainly has no such task: its files wait again, and nothing was attempted."""
    await session.execute(_QUEUE_AGAIN, {"id": task_id, "token": token})
    await session.execute(_DISCARD, {"id": task_id})


async def mark_unsure(session: AsyncSession, task_id: UUID, *, last_error: str, poll_in_s: float) -> None:
    """Upstream may or may not have the task: the reconciler finds out."""
    await session.execute(_LOSE, {"id": task_id, "last_error": last_error, "poll_in_s": poll_in_s})


async def split_group(session: AsyncSession, task_id: UUID, *, last_error: str, suspect: bool) -> None:
    """A group was refused: its files go out again in groups of half the size. `suspect`: the size may be to blame."""
    count = await _close(session, task_id, last_error)
    if count:
        await session.execute(_SPLIT, {"id": task_id, "half": max(count // 2, 1), "suspect": suspect})


async def fail_files(session: AsyncSession, task_id: UUID, *, failure: Failure) -> None:
    """Upstream will never take these files: they fail with what it said."""
    if not await _close(session, task_id, failure.message):
        return
    # The files may be several clients', and the message may quote their URLs.
    urls = list(await session.scalars(_URLS, {"id": task_id})) if "://" in failure.message else []
    messages = [hide_other_urls(failure.message, url) for url in urls]
    values = {"id": task_id, "urls": urls, "messages": messages, **_error(failure)}
    files = await session.execute(_FAIL, values)
    rows = files.all()
    if suspects := list({row.suspect_task_id for row in rows if row.suspect_task_id}):
        # The culprit is found: the size of its group was not to blame.
        await session.execute(_CLEAR_SUSPICION, {"suspects": suspects})
    await apply_changes(session, _changes(rows, FileCounts(queued=-1, failed=1)))


async def record_unknown_model(
    session: AsyncSession, *, region: str, model: str, bound: bool, movable: bool, failure: Failure
) -> int:
    """Fail waiting files of a model that upstream does not know, and return how many: at most UNKNOWN_BATCH.

    `movable`: those that may go to another region; `bound`: those that may not.
    """
    where = {"region": region, "model": model, "bound": bound, "movable": movable, "batch": UNKNOWN_BATCH}
    rows = (await session.execute(_FAIL_UNKNOWN, {**where, **_error(failure)})).all()
    await apply_changes(session, _changes(rows, FileCounts(queued=-1, failed=1)))
    return len(rows)


def _error(failure: Failure) -> dict[str, Any]:
    return {
        "code": failure.code,
        "message": failure.message,
        "retryable": failure.retryable,
        "upstream_code": failure.upstream_code,
    }


async def _close(session: AsyncSession, task_id: UUID, last_error: str) -> int:
    """The number of files of the task that is closed now; 0 when it was closed before."""
    return await session.scalar(_CLOSE, {"id": task_id, "last_error": last_error[:500]}) or 0


def _changes(files: Sequence[Row[Any]], counts: FileCounts) -> dict[UUID, JobChange]:
    changes: defaultdict[UUID, JobChange] = defaultdict(JobChange)
    for row in files:
        changes[row.job_id].counts += counts
    return changes
