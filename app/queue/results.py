"""Stores the outcomes of files: transcripts, file states and job counters, in one transaction under the lease."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalogue import Bill, Recognised, bill_by_usage, bill_of_unreadable
from app.dashscope.failures import Failure
from app.queue.billing import RECORD_USAGE, Settlement, TaskBill, bill_columns, settle, write_bills
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
    """The new status of a file: `succeeded` with a transcript, `failed` with a failure, `queued` for a new task.

    With a transcript of speech, `audio` is what was recognised, and `bill` its bill by the duration of the audio.
    An unreadable result has a failure, and a transcript that has only the raw bytes.
    """

    file: TaskFile
    status: str
    transcript: PreparedTranscript | None = None
    failure: Failure | None = None
    audio: Recognised | None = None
    bill: Bill | None = None

    @property
    def is_unreadable(self) -> bool:
        """Upstream transcribed the file, and bills it, but its result cannot be read."""
        return self.transcript is not None and self.status == "failed"


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
    session: AsyncSession,
    task_id: UUID,
    results: Sequence[Result],
    task_bill: TaskBill | None = None,
    *,
    request_id: str | None = None,
) -> list[Result]:
    """Store the new statuses, record the usage, and return the results that took effect.

    `request_id`: upstream's id of the query that reported the results.
    A file that was canceled meanwhile stays canceled. Needs `lock_for_result` in the same transaction. One statement
    for the files and the usage, three for transcripts, and those of `apply_changes`. If other files of the task were
    stored before, two more for the bills, which follow from the durations of all files.
    """
    if not results:
        return []
    is_whole = task_bill is None or len(results) == task_bill.file_count
    if task_bill and is_whole:
        results = _billed_by_usage(results, task_bill)
    stored = await session.execute(_SET_FILES, {**_WAITS, "id": task_id, **_columns(results)})
    places = {(row.job_id, row.number): (row.model, row.region) for row in stored}
    effective = [result for result in results if (result.file.job_id, result.file.index) in places]
    settlement = Settlement() if is_whole or not task_bill else await settle(session, task_id, task_bill)
    await insert_transcripts(session, [result.transcript for result in effective if result.transcript])
    await apply_changes(session, _changes(effective, settlement))
    await write_bills(session, settlement)
    files_changed(
        session,
        task_id,
        [_observed(result, *places[result.file.job_id, result.file.index], request_id) for result in effective],
    )
    return effective


async def settle_bills(session: AsyncSession, task_id: UUID, task_bill: TaskBill) -> None:
    """Settle a task whose last open file was not stored but canceled. Statements as for `store_results`."""
    settlement = await settle(session, task_id, task_bill)
    await apply_changes(session, _changes((), settlement))
    await write_bills(session, settlement)


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
        "durations": [
            result.transcript.audio_duration_ms if result.transcript and result.status == "succeeded" else None
            for result in results
        ],
        "codes": [failure.code if failure else None for failure in failures],
        "messages": [failure.message if failure else None for failure in failures],
        "retryables": [failure.retryable if failure else None for failure in failures],
        "upstream_codes": [failure.upstream_code if failure else None for failure in failures],
        **bill_columns([result.bill for result in results]),
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
        cost=result.bill.cost if result.bill else Decimal(0),
        currency=currency(model, region),
    )


def _billed_by_usage(results: Sequence[Result], task_bill: TaskBill) -> Sequence[Result]:
    """All results of a task, with its bill divided over them."""
    if task_bill.file_count == 1 and results[0].is_unreadable:
        return [replace(results[0], bill=bill_of_unreadable(task_bill.price, task_bill.usage))]
    bills = bill_by_usage(task_bill.price, task_bill.usage, [result.audio for result in results if result.audio])
    if bills is None:
        return results
    left = iter(bills)
    return [replace(result, bill=next(left)) if result.audio else result for result in results]


def _changes(results: Sequence[Result], settlement: Settlement) -> dict[UUID, JobChange]:
    changes: defaultdict[UUID, JobChange] = defaultdict(JobChange)
    for result in results:
        change = changes[result.file.job_id]
        change.move(since="running", to=result.status)
        if result.bill:
            change.cost += result.bill.cost
        if result.transcript:
            change.audio_duration_ms += result.transcript.audio_duration_ms
    for job_id, difference in settlement.differences.items():
        changes[job_id].cost += difference
    return changes


_WAITS = {"wait_s": RESUBMIT_AFTER_S, "max_s": MAX_RESUBMIT_AFTER_S}

_LOCK = text("""
    UPDATE tasks SET upstream_status = :status, ended_at = coalesce(ended_at, now()), usage_s = :usage_s
    WHERE id = :id AND lease_token = :token AND state = 'running'
""")

_SET_FILES = text(f"""
    WITH stored AS (UPDATE files SET
        status = new.status,
        transcript_id = new.transcript_id,
        audio_duration_ms = new.audio_duration_ms,
        error_code = new.error_code,
        error_message = new.error_message,
        error_retryable = new.error_retryable,
        error_upstream_code = new.error_upstream_code,
        billed_s = new.billed_s,
        input_tokens = new.input_tokens,
        output_tokens = new.output_tokens,
        cost = new.cost,
        result_failures = 0,
        finished_at = CASE WHEN new.status <> 'queued' THEN now() END,
        not_before = CASE WHEN new.status = 'queued' THEN now() + make_interval(
            secs => least(:max_s, :wait_s * 2 ^ least(greatest(files.attempts - 1, 0), 20))) END,
        queued_at = CASE WHEN new.status = 'queued' THEN now() ELSE files.queued_at END
    FROM unnest(
        CAST(:job_ids AS uuid[]), CAST(:indexes AS int[]), CAST(:statuses AS text[]), CAST(:transcript_ids AS uuid[]),
        CAST(:durations AS bigint[]), CAST(:codes AS text[]), CAST(:messages AS text[]), CAST(:retryables AS bool[]),
        CAST(:upstream_codes AS text[]), CAST(:billed_s AS numeric[]), CAST(:input_tokens AS int[]),
        CAST(:output_tokens AS int[]), CAST(:costs AS numeric[]), CAST(:currencies AS text[])
    ) AS new (job_id, index, status, transcript_id, audio_duration_ms,
              error_code, error_message, error_retryable, error_upstream_code,
              billed_s, input_tokens, output_tokens, cost, currency)
    WHERE files.job_id = new.job_id AND files.index = new.index
      AND files.task_id = :id AND files.status = 'running'
    RETURNING files.job_id, files.index AS number, files.client_id, files.task_id, files.model, files.region,
        coalesce(files.audio_duration_ms, 0) AS audio_ms, files.billed_s, files.input_tokens, files.output_tokens,
        files.cost, new.currency, 1 AS files, new.status = 'succeeded' OR new.transcript_id IS NOT NULL AS is_billed
    ), billed AS (
        SELECT * FROM stored WHERE is_billed
    ), recorded AS ({RECORD_USAGE})
    SELECT job_id, number, model, region FROM stored
""")  # noqa: S608 - constants

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
