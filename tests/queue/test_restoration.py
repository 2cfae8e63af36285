"""After a restore, no file that may have been submitted since the backup is submitted again."""

from uuid import UUID

from sqlalchemy import text

from app.db import Sessions, transaction
from app.queue.restoration import RESTORED, fail_unsubmitted
from app.queue.submissions import mark_unsure
from tests.queue.test_lifecycle import Walk, walk

__all__ = ["walk"]


async def test_files_without_an_upstream_task_fail(walk: Walk, sessions: Sessions) -> None:
    running = await walk.post()
    await walk.run()
    unsure = await walk.post()
    task_id = await walk.claim()
    await walk.do(mark_unsure, task_id, last_error="lost", poll_in_s=0)
    submitting = await walk.post()
    await walk.claim()
    waiting = await walk.post(files=3)
    async with transaction(sessions) as session:
        assert await fail_unsubmitted(session) == 5
        assert await fail_unsubmitted(session) == 0
    for job_id in (unsure, submitting, waiting):
        assert await _status(sessions, job_id) == ("failed", {"failed"}, {RESTORED.code})
    assert await _status(sessions, running) == ("running", {"running"}, {None})
    async with transaction(sessions) as session:
        kept = await session.scalar(text("SELECT canceled_urls FROM tasks WHERE id = :id"), {"id": task_id})
    assert kept == ["https://example.com/0.wav"]


async def test_failed_files_can_be_retried(walk: Walk, sessions: Sessions) -> None:
    job_id = await walk.post(files=2)
    await walk.do(fail_unsubmitted)
    await walk.retry(job_id)
    assert await _status(sessions, job_id) == ("queued", {"queued"}, {None})


async def _status(sessions: Sessions, job_id: UUID) -> tuple[str, set[str], set[str | None]]:
    async with transaction(sessions) as session:
        status = await session.scalar(text("SELECT status FROM jobs WHERE id = :id"), {"id": job_id})
        files = (
            await session.execute(text("SELECT status, error_code FROM files WHERE job_id = :id"), {"id": job_id})
        ).all()
    assert isinstance(status, str)
    return status, {row.status for row in files}, {row.error_code for row in files}
