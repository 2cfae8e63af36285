"""Puts jobs into the database in the states that the poller leaves."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import Sessions, transaction
from app.identifiers import lowest_id_at, new_id
from app.queue.creation import CreatedJob, NewJob, create_jobs_in_transaction
from app.queue.lifecycle import StatusCounts, group_key, job_status
from app.queue.models import File, Job, Task

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)

SUCCEEDED: dict[str, Any] = {
    "status": "succeeded",
    "audio_duration_ms": 4726,
    "attempts": 1,
    "finished_at": NOW,
}
FAILED: dict[str, Any] = {
    "status": "failed",
    "error_code": "download_failed",
    "error_message": "The file could not be downloaded.",
    "error_retryable": True,
    "error_upstream_code": "FILE_DOWNLOAD_FAILED",
    "attempts": 1,
    "finished_at": NOW,
}
CANCELED: dict[str, Any] = {"status": "canceled", "task_id": None, "finished_at": NOW}
QUEUED: dict[str, Any] = {"status": "queued"}
SUBMITTING: dict[str, Any] = {"status": "submitting"}
RUNNING: dict[str, Any] = {"status": "running", "attempts": 1}


async def create(session: AsyncSession, new: NewJob) -> UUID:
    """Create a job as the API does, in a transaction that may stay open."""
    await session.execute(text("SELECT"))  # begins the transaction
    [created] = await create_jobs_in_transaction(session, [new])
    assert isinstance(created, CreatedJob)
    return created.snapshot.job.id


async def add_job(sessions: Sessions, client_id: UUID, files: Sequence[dict[str, Any]] = (QUEUED,), **job: Any) -> UUID:
    """Insert a job with counters and a status that match its files."""
    job_id, task_id = _id(job.get("created_at")), new_id()
    counts = _counts(files)
    final = job_status(counts).final
    values = {
        "status": job_status(counts).value,
        "model": "fun-asr",
        "region": "beijing",
        "requested_region": "auto",
        "parameters": {},
        "metadata_": {},
        "files_total": counts.total,
        "files_queued": counts.queued,
        "files_running": counts.running,
        "files_succeeded": counts.succeeded,
        "files_failed": counts.failed,
        "files_canceled": counts.canceled,
        "finished_at": NOW if final else None,
        **job,
    }
    async with transaction(sessions) as session:
        await session.execute(insert(Job).values(id=job_id, client_id=client_id, **values))
        task = {"account": "beijing/default", "region": values["region"], "model": values["model"], "parameters": {}}
        await session.execute(insert(Task).values(id=task_id, file_count=1, **task))
        for index, file in enumerate(files):
            await session.execute(insert(File).values(_file(job_id, client_id, index, task_id, values) | file))
    return job_id


async def finish(sessions: Sessions, job_id: UUID) -> None:
    """Change a job of one file as the end of that file does."""
    ended = {"status": "succeeded", "files_queued": 0, "files_succeeded": 1, "finished_at": func.now()}
    async with transaction(sessions) as session:
        await session.execute(update(Job).where(Job.id == job_id).values(version=Job.version + 1, **ended))


async def count(sessions: Sessions, table: type[Job | File]) -> int:
    async with transaction(sessions) as session:
        return await session.scalar(select(func.count()).select_from(table)) or 0


def _id(created_at: Any) -> UUID:
    """An id of that time, or of now if the time is an SQL expression."""
    if not isinstance(created_at, datetime):
        return new_id()
    return UUID(int=lowest_id_at(created_at).int | new_id().int % (1 << 80))


def _counts(files: Sequence[dict[str, Any]]) -> StatusCounts:
    counts = StatusCounts()
    for file in files:
        status = "queued" if file["status"] == "submitting" else file["status"]
        counts += StatusCounts(**{status: 1})
    return counts


def _file(job_id: UUID, client_id: UUID, index: int, task_id: UUID, job: dict[str, Any]) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "index": index,
        "client_id": client_id,
        "region": job["region"],
        "model": job["model"],
        "group_key": group_key({}),
        "url": f"https://example.com/{index}.wav",
        "task_id": task_id,
    }
