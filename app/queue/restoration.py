"""Fails the files that a restored database shows as not submitted, because they may have been submitted since."""

from collections import Counter

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.dashscope.failures import Failure, FailureKind
from app.queue.counters import JobChange, apply_changes
from app.queue.rerouting import BATCH
from app.queue.submissions import fail_ambiguous

RESTORED = Failure(
    FailureKind.FILE_RETRYABLE,
    "restored_from_backup",
    "The gateway was restored from a backup in which the file was not submitted. It may have been submitted since.",
)


async def fail_unsubmitted(session: AsyncSession) -> int:
    """Fail files without an upstream task, at most BATCH queued ones, and return their number. Zero: none is left.

    Tasks whose submit has no known outcome fail with their files. They keep the URLs, so that a later search for a
    lost task does not take upstream's task for another one. Running tasks stay: upstream has their results.
    """
    count = 0
    for task_id, urls in (await session.execute(_ATTEMPTS)).all():
        await fail_ambiguous(session, task_id, failure=RESTORED, file_urls=urls)
        count += len(urls)
    values = {"batch": BATCH, "code": RESTORED.code, "message": RESTORED.message}
    jobs = Counter(await session.scalars(_FAIL_QUEUED, values))
    changes = {job_id: JobChange() for job_id in jobs}
    for job_id, files in jobs.items():
        changes[job_id].move(since="queued", to="failed", count=files)
    await apply_changes(session, changes)
    return count + jobs.total()


_ATTEMPTS = text("""
    SELECT tasks.id, ARRAY(SELECT url FROM files WHERE files.task_id = tasks.id AND status = 'submitting') AS urls
    FROM tasks WHERE state IN ('submitting', 'unsure') ORDER BY id FOR UPDATE
""")

_FAIL_QUEUED = text("""
    UPDATE files SET status = 'failed', finished_at = now(), not_before = NULL, error_code = :code,
        error_message = :message, error_retryable = true, error_upstream_code = NULL
    FROM (
        SELECT job_id, index FROM files WHERE status = 'queued' ORDER BY job_id, index LIMIT :batch FOR UPDATE
    ) AS chosen
    WHERE files.job_id = chosen.job_id AND files.index = chosen.index
    RETURNING files.job_id
""")
