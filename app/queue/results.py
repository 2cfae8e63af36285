"""Storing what became of files: transcripts, file states and job counters in one transaction under the lease."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.dashscope.failures import Failure
from app.identifiers import standard_uuid
from app.queue.counters import JobChange, apply_changes
from app.queue.leases import LeaseLost
from app.transcripts.storage import PreparedTranscript, insert_transcripts

RESUBMIT_AFTER_S = 2.0


@dataclass(frozen=True, slots=True)
class TaskFile:
    """A file of a task whose outcome is not known yet."""

    job_id: UUID
    index: int
    client_id: UUID
    url: str
    attempts: int
    result_failures: int


@dataclass(frozen=True, slots=True)
class Result:
    """The new state of one file: `succeeded` with a transcript, `failed` with a failure, `queued` to go again."""

    file: TaskFile
    status: str
    transcript: PreparedTranscript | None = None
    failure: Failure | None = None
    cost: Decimal = Decimal(0)


_HOLD = text("""
    UPDATE tasks SET upstream_status = :status, ended_at = coalesce(ended_at, now()), usage_s = :usage_s
    WHERE id = :id AND lease_token = :token AND state = 'running'
""")

_FILES = text("""
    SELECT job_id, index AS number, client_id, url, attempts, result_failures, status = 'running' AS open FROM files
    WHERE task_id = :id ORDER BY job_id, index
""")


_SET_FILES = text("""
    UPDATE files SET
        status = new.status,
        transcript_id = new.transcript_id,
        audio_duration_ms = new.audio_duration_ms,
        error_code = new.error_code,
        error_message = new.error_message,
        error_retryable = new.error_retryable,
        error_upstream_code = new.error_upstream_code,
        result_failures = 0,
        finished_at = CASE WHEN new.status <> 'queued' THEN now() END,
        not_before = CASE WHEN new.status = 'queued' THEN now() + make_interval(secs => :wait_s) END,
        queued_at = CASE WHEN new.status = 'queued' THEN now() ELSE files.queued_at END
    FROM unnest(
        CAST(:job_ids AS uuid[]), CAST(:indexes AS int[]), CAST(:statuses AS text[]), CAST(:transcript_ids AS uuid[]),
        CAST(:durations AS bigint[]), CAST(:codes AS text[]), CAST(:messages AS text[]), CAST(:retryables AS bool[]),
        CAST(:upstream_codes AS text[])
    ) AS new (job_id, index, status, transcript_id, audio_duration_ms,
              error_code, error_message, error_retryable, error_upstream_code)
    WHERE files.job_id = new.job_id AND files.index = new.index
      AND files.task_id = :id AND files.status = 'running'
    RETURNING files.job_id, files.index
""")

_COUNT_FAILURES = text("""
    UPDATE files SET result_failures = result_failures + 1
    FROM unnest(CAST(:job_ids AS uuid[]), CAST(:indexes AS int[])) AS failed (job_id, index)
    WHERE files.job_id = failed.job_id AND files.index = failed.index
      AND files.task_id = :id AND files.status = 'running'
""")

_DONE = text("""
    UPDATE tasks SET state = 'done', done_at = now(), lease_token = NULL, lease_until = NULL, last_error = NULL
    WHERE id = :id AND lease_token = :token AND state = 'running'
      AND NOT EXISTS (SELECT FROM files WHERE task_id = :id AND status = 'running')
""")

_LOOK_AGAIN = text("""
    UPDATE tasks SET next_poll_at = now() + make_interval(secs => :wait_s), polls = polls + 1,
        upstream_status = coalesce(:status, upstream_status),
        ended_at = CASE WHEN :alive THEN NULL ELSE ended_at END,
        last_error = :last_error, lease_token = NULL, lease_until = NULL
    WHERE id = :id AND lease_token = :token AND state = 'running'
""")


async def lock_for_result(
    session: AsyncSession, task_id: UUID, token: UUID, *, status: str, usage_s: int | None
) -> None:
    """Note that the task ended, and keep its row for this transaction. Raises LeaseLost."""
    held = await session.execute(_HOLD, {"id": task_id, "token": token, "status": status, "usage_s": usage_s})
    if not held.rowcount:  # type: ignore[attr-defined]
        raise LeaseLost


async def open_files(session: AsyncSession, task_id: UUID) -> list[TaskFile]:
    """The files of a task whose outcome is not known yet."""
    files, _ = await task_files(session, task_id)
    return files


async def task_files(session: AsyncSession, task_id: UUID) -> tuple[list[TaskFile], list[str]]:
    """The files of a task whose outcome is not known yet, and the URLs of the others, as far as they are still its."""
    rows = (await session.execute(_FILES, {"id": task_id})).all()
    return [_file(row) for row in rows if row.open], [row.url for row in rows if not row.open]


async def store_results(session: AsyncSession, task_id: UUID, results: Sequence[Result]) -> list[Result]:
    """Store final states; returns those that took effect. A file that was canceled meanwhile stays canceled."""
    if not results:
        return []
    stored = await session.execute(_SET_FILES, {"id": task_id, "wait_s": RESUBMIT_AFTER_S, **_columns(results)})
    keys = {tuple(row) for row in stored}
    effective = [result for result in results if (result.file.job_id, result.file.index) in keys]
    await insert_transcripts(session, [result.transcript for result in effective if result.transcript])
    await apply_changes(session, _changes(effective))
    return effective


async def count_result_failures(session: AsyncSession, task_id: UUID, files: Sequence[TaskFile]) -> None:
    if files:
        await session.execute(
            _COUNT_FAILURES,
            {"id": task_id, "job_ids": [file.job_id for file in files], "indexes": [file.index for file in files]},
        )


async def close_if_done(session: AsyncSession, task_id: UUID, token: UUID) -> bool:
    """Whether nothing of the task is left to do."""
    closed = await session.execute(_DONE, {"id": task_id, "token": token})
    return bool(closed.rowcount)  # type: ignore[attr-defined]


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
    """End the lease and come back later. `alive`: upstream says that it has not ended, whatever the list showed."""
    await session.execute(
        _LOOK_AGAIN,
        {"id": task_id, "token": token, "wait_s": wait_s, "status": status, "alive": alive, "last_error": last_error},
    )


def _columns(results: Sequence[Result]) -> dict[str, list[Any]]:
    failures = [result.failure if result.status == "failed" else None for result in results]
    transcripts = [result.transcript for result in results]
    return {
        "job_ids": [result.file.job_id for result in results],
        "indexes": [result.file.index for result in results],
        "statuses": [result.status for result in results],
        "transcript_ids": [transcript.id if transcript else None for transcript in transcripts],
        "durations": [transcript.audio_duration_ms if transcript else None for transcript in transcripts],
        "codes": [failure.code if failure else None for failure in failures],
        "messages": [failure.message if failure else None for failure in failures],
        "retryables": [failure.retryable if failure else None for failure in failures],
        "upstream_codes": [failure.upstream_code if failure else None for failure in failures],
    }


def _changes(results: Sequence[Result]) -> dict[UUID, JobChange]:
    changes: defaultdict[UUID, JobChange] = defaultdict(JobChange)
    for result in results:
        change = changes[result.file.job_id]
        change.move(since="running", to=result.status)
        change.cost += result.cost
        if result.transcript:
            change.audio_duration_ms += result.transcript.audio_duration_ms
    return changes


def _file(row: Row[Any]) -> TaskFile:
    return TaskFile(
        job_id=standard_uuid(row.job_id),
        index=row.number,
        client_id=row.client_id,
        url=row.url,
        attempts=row.attempts,
        result_failures=row.result_failures,
    )
