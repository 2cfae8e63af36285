"""Stores the outcomes of files: transcripts, file states and job counters, in one transaction under the lease."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.dashscope.failures import Failure
from app.queue.counters import JobChange, apply_changes
from app.queue.job_json import currency
from app.queue.leases import RELEASE_LEASE, LeaseLost
from app.queue.observation import FileChange, files_changed
from app.queue.polling import TaskFile
from app.transcripts.storage import PreparedTranscript, insert_transcripts

# The wait of a file that is queued again because of its result. It doubles with each attempt.
RESUBMIT_AFTER_S = 2.0
MAX_RESUBMIT_AFTER_S = 600.0


@dataclass(frozen=True, slots=True)
class Result:
    """The new status of a file: `succeeded` with a transcript, `failed` with a failure, `queued` for a new task."""

    file: TaskFile
    status: str
    transcript: PreparedTranscript | None = None
    failure: Failure | None = None
    cost: Decimal = Decimal(0)


async def lock_for_result(
    session: AsyncSession, task_id: UUID, token: UUID, *, status: str, usage_s: int | None
) -> None:
    """Note that the task ended, and lock its row until the end of the transaction. One statement.

    Raises LeaseLost if another poller has the task.
    """
    locked = await session.execute(_LOCK, {"id": task_id, "token": token, "status": status, "usage_s": usage_s})
    if not locked.rowcount:  # type: ignore[attr-defined]
        raise LeaseLost


async def store_results(
    session: AsyncSession, task_id: UUID, results: Sequence[Result], *, request_id: str | None = None
) -> list[Result]:
    """Store the new statuses and return the results that took effect.

    `request_id`: upstream's id of the query that reported the results.
    A file that was canceled meanwhile stays canceled. Needs `lock_for_result` in the same transaction. One statement
    for the files, three for transcripts, and those of `apply_changes`.
    """
    if not results:
        return []
    stored = await session.execute(_SET_FILES, {**_WAITS, "id": task_id, **_columns(results)})
    places = {(row.job_id, row.number): (row.model, row.region) for row in stored}
    effective = [result for result in results if (result.file.job_id, result.file.index) in places]
    await insert_transcripts(session, [result.transcript for result in effective if result.transcript])
    await apply_changes(session, _changes(effective))
    files_changed(
        session,
        task_id,
        [_observed(result, *places[result.file.job_id, result.file.index], request_id) for result in effective],
    )
    return effective


async def count_result_failures(session: AsyncSession, task_id: UUID, files: Sequence[TaskFile]) -> None:
    """Count one more failure to get the result of each file. One statement, none without files."""
    if files:
        await session.execute(
            _COUNT_FAILURES,
            {"id": task_id, "job_ids": [file.job_id for file in files], "indexes": [file.index for file in files]},
        )


async def close_if_done(session: AsyncSession, task_id: UUID, token: UUID) -> bool:
    """Close the task if it has no open file, and return whether it is closed now. One statement."""
    closed = await session.execute(_CLOSE, {"id": task_id, "token": token})
    return bool(closed.rowcount)  # type: ignore[attr-defined]


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


def _observed(result: Result, model: str, region: str, request_id: str | None) -> FileChange:
    return FileChange(
        result.file.job_id,
        result.file.index,
        model,
        region,
        result.status,
        failure=result.failure and replace(result.failure, request_id=request_id),
        audio_duration_ms=result.transcript.audio_duration_ms if result.transcript else 0,
        cost=result.cost,
        currency=currency(model, region),
    )


def _changes(results: Sequence[Result]) -> dict[UUID, JobChange]:
    changes: defaultdict[UUID, JobChange] = defaultdict(JobChange)
    for result in results:
        change = changes[result.file.job_id]
        change.move(since="running", to=result.status)
        change.cost += result.cost
        if result.transcript:
            change.audio_duration_ms += result.transcript.audio_duration_ms
    return changes


_WAITS = {"wait_s": RESUBMIT_AFTER_S, "max_s": MAX_RESUBMIT_AFTER_S}

_LOCK = text("""
    UPDATE tasks SET upstream_status = :status, ended_at = coalesce(ended_at, now()), usage_s = :usage_s
    WHERE id = :id AND lease_token = :token AND state = 'running'
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
        not_before = CASE WHEN new.status = 'queued' THEN now() + make_interval(
            secs => least(:max_s, :wait_s * 2 ^ least(greatest(files.attempts - 1, 0), 20))) END,
        queued_at = CASE WHEN new.status = 'queued' THEN now() ELSE files.queued_at END
    FROM unnest(
        CAST(:job_ids AS uuid[]), CAST(:indexes AS int[]), CAST(:statuses AS text[]), CAST(:transcript_ids AS uuid[]),
        CAST(:durations AS bigint[]), CAST(:codes AS text[]), CAST(:messages AS text[]), CAST(:retryables AS bool[]),
        CAST(:upstream_codes AS text[])
    ) AS new (job_id, index, status, transcript_id, audio_duration_ms,
              error_code, error_message, error_retryable, error_upstream_code)
    WHERE files.job_id = new.job_id AND files.index = new.index
      AND files.task_id = :id AND files.status = 'running'
    RETURNING files.job_id, files.index AS number, files.model, files.region
""")

_COUNT_FAILURES = text("""
    UPDATE files SET result_failures = result_failures + 1
    FROM unnest(CAST(:job_ids AS uuid[]), CAST(:indexes AS int[])) AS failed (job_id, index)
    WHERE files.job_id = failed.job_id AND files.index = failed.index
      AND files.task_id = :id AND files.status = 'running'
""")

_CLOSE = text(f"""
    UPDATE tasks SET state = 'done', done_at = now(), last_error = NULL, {RELEASE_LEASE}
    WHERE id = :id AND lease_token = :token AND state = 'running'
      AND NOT EXISTS (SELECT FROM files WHERE task_id = :id AND status = 'running')
""")  # noqa: S608 - constants
