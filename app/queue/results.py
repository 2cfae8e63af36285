"""Stores the outcomes of files: transcripts, file states and job counters, in one transaction under the lease.

Tasks that end at about the same time share the transaction: see `app.poller.batched_calls`.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalogue import Bill, Recognised, bill_by_usage, bill_of_lost, currency_of
from app.dashscope.failures import Failure
from app.queue.billing import RECORD_USAGE, Settlement, TaskBill, bill_columns, settle, write_bills
from app.queue.budget_holds import END_HOLDS
from app.queue.codes import FileErrorCode
from app.queue.counters import JobChange, apply_changes
from app.queue.leases import LeaseLost
from app.queue.observation import FileChange, canceled_file_billed, files_changed
from app.queue.polling import TaskFile
from app.transcripts.storage import PreparedTranscript, insert_transcripts

# The wait of a file that is queued again because of its result. It doubles with each attempt.
RESUBMIT_AFTER_S = 2.0
MAX_RESUBMIT_AFTER_S = 600.0
# DashScope transcribed these files and bills them, but the gateway could not fetch or read their results.
_LOST = frozenset(
    {
        FileErrorCode.RESULT_EXPIRED,
        FileErrorCode.RESULT_HOST_REFUSED,
        FileErrorCode.RESULT_TOO_LARGE,
        FileErrorCode.RESULT_UNREADABLE,
    }
)


@dataclass(frozen=True, slots=True)
class Result:
    """The new status of a file: `succeeded` with a transcript, `failed` with a failure, `queued` for a new task.

    With a transcript of speech, `audio` is what was recognised, and `bill` its bill by the duration of the audio.
    An unreadable result has a failure, and a transcript that has only the raw bytes. A dropped file has no transcript:
    its status is `canceled` with its audio and bill, or another one if upstream bills nothing.
    """

    file: TaskFile
    status: str
    transcript: PreparedTranscript | None = None
    failure: Failure | None = None
    audio: Recognised | None = None
    bill: Bill | None = None

    @property
    def is_lost(self) -> bool:
        """Upstream transcribed the file, and bills it, but its result cannot be read or fetched."""
        return self.status == "failed" and (
            self.transcript is not None or (self.failure is not None and self.failure.code in _LOST)
        )


@dataclass(frozen=True, slots=True)
class TaskResults:
    """Results of one task that has ended, all of them or some. `status` and `request_id` are those of the query.

    `bill` is the bill of the whole task, and `usage_s` the seconds that upstream states for the task. The results of
    `failed_fetches` exist, but this attempt could not fetch them.
    """

    task_id: UUID
    token: UUID
    status: str
    usage_s: int | None = None
    results: Sequence[Result] = ()
    failed_fetches: Sequence[TaskFile] = ()
    bill: TaskBill | None = None
    request_id: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the results are those of all files of the task."""
        return self.bill is None or len(self.results) == self.bill.file_count

    @property
    def size_kb(self) -> int:
        """Bytes of the transcripts in kB, at least 1."""
        transcripts = [result.transcript for result in self.results if result.transcript]
        return 1 + sum(len(each.raw.gzip) + len(each.document.gzip) for each in transcripts) // 1024


async def store_results(session: AsyncSession, tasks: Sequence[TaskResults]) -> list[bool | LeaseLost]:
    """Store the results of tasks, and record the usage. Part of one transaction.

    For each task: whether it is closed now, because it has no open file any more. LeaseLost if another poller has the
    task; nothing is stored for it then. A file that was canceled meanwhile stays canceled, and is billed.

    Three statements for any number of tasks: the lock, the files with their usage, and the end of the tasks; one more
    for transcripts, and the statements of `apply_changes`. If the results of a task come in several calls, each call
    takes one more statement. The division of a bill takes another one: a share depends on the durations of all files.
    """
    keys = {"ids": [task.task_id for task in tasks], "tokens": [task.token for task in tasks]}
    # By the lease too: after an outage a process may hold results of a task under a lost lease and under a new one.
    locked = {(row.id, row.lease_token) for row in await session.execute(_LOCK, keys)}
    held = [_billed(task) for task in tasks if (task.task_id, task.token) in locked]
    if held:
        await _store(session, held)
    closed = set(await session.scalars(_END, _end_columns(held))) if held else set()
    return [task.task_id in closed if (task.task_id, task.token) in locked else LeaseLost() for task in tasks]


async def _store(session: AsyncSession, tasks: Sequence[TaskResults]) -> None:
    results = [(task, result) for task in tasks for result in task.results]
    stored = await session.execute(_SET_FILES, {**_WAITS, **_columns(results)}) if results else ()
    rows = list(stored)
    # By the task too: a file that was canceled and retried may be in two of the tasks.
    places = {(row.task_id, row.job_id, row.number): (row.model, row.region) for row in rows if not row.was_dropped}
    dropped = [row for row in rows if row.was_dropped and row.cost]
    effective = [(task, result) for task, result in results if _key(task, result) in places]
    settlements = [await settle(session, task.task_id, task.bill) for task in tasks if task.bill and not task.is_whole]
    await insert_transcripts(session, [result.transcript for _, result in effective if result.transcript])
    await apply_changes(session, _changes([result for _, result in effective], dropped, settlements))
    for settlement in settlements:
        await write_bills(session, settlement)
    await _count_failed_fetches(session, tasks)
    for task in tasks:
        changes = [
            _observed(result, *places[_key(task, result)], task.request_id)
            for of_task, result in effective
            if of_task is task
        ]
        files_changed(session, task.task_id, changes)
    for row in dropped:
        canceled_file_billed(session, row.model, row.region, currency_of(row.model, row.region), row.cost)


def _key(task: TaskResults, result: Result) -> tuple[UUID, UUID, int]:
    return task.task_id, result.file.job_id, result.file.index


async def _count_failed_fetches(session: AsyncSession, tasks: Sequence[TaskResults]) -> None:
    """One statement, none without failed fetches."""
    files = [(task.task_id, file) for task in tasks for file in task.failed_fetches]
    if files:
        columns = {
            "ids": [task_id for task_id, _ in files],
            "job_ids": [file.job_id for _, file in files],
            "indexes": [file.index for _, file in files],
        }
        await session.execute(_COUNT_FAILURES, columns)


def _end_columns(tasks: Sequence[TaskResults]) -> dict[str, list[Any]]:
    return {
        "ids": [task.task_id for task in tasks],
        "statuses": [task.status for task in tasks],
        "usages_s": [task.usage_s for task in tasks],
    }


def _columns(of_tasks: Sequence[tuple[TaskResults, Result]]) -> dict[str, list[Any]]:
    results = [result for _, result in of_tasks]
    failures = [result.failure if result.status == "failed" else None for result in results]
    transcripts = [result.transcript for result in results]
    return {
        "task_ids": [task.task_id for task, _ in of_tasks],
        "job_ids": [result.file.job_id for result in results],
        "indexes": [result.file.index for result in results],
        "statuses": [result.status for result in results],
        "transcript_ids": [transcript.id if transcript else None for transcript in transcripts],
        "durations": [_duration_ms(result) for result in results],
        "codes": [failure.code if failure else None for failure in failures],
        "messages": [failure.message if failure else None for failure in failures],
        "retryables": [failure.retryable if failure else None for failure in failures],
        "upstream_codes": [failure.upstream_code if failure else None for failure in failures],
        **bill_columns([result.bill for result in results]),
    }


def _duration_ms(result: Result) -> int | None:
    if result.status == "canceled":
        return result.audio.duration_ms if result.audio else None
    return result.transcript.row.audio_duration_ms if result.transcript and result.status == "succeeded" else None


def _observed(result: Result, model: str, region: str, request_id: str | None) -> FileChange:
    return FileChange(
        result.file.job_id,
        result.file.index,
        model,
        region,
        result.status,
        failure=result.failure and replace(result.failure, request_id=request_id),
        audio_duration_ms=result.transcript.row.audio_duration_ms if result.transcript else 0,
        cost=result.bill.cost if result.bill else Decimal(0),
        currency=currency_of(model, region),
    )


def _billed(task: TaskResults) -> TaskResults:
    """The results with the bill of the task divided over them, if they are those of all its files."""
    if task.bill is None or not task.is_whole:
        return task
    if task.bill.file_count == 1 and task.results[0].is_lost:
        bill = bill_of_lost(task.bill.price, task.bill.usage)
        return replace(task, results=[replace(task.results[0], bill=bill)])
    audio = [result.audio for result in task.results if result.audio]
    bills = bill_by_usage(task.bill.price, task.bill.usage, audio)
    if bills is None:
        return task
    left = iter(bills)
    return replace(
        task, results=[replace(result, bill=next(left)) if result.audio else result for result in task.results]
    )


def _changes(
    results: Sequence[Result], dropped: Sequence[Row[Any]], settlements: Sequence[Settlement]
) -> dict[UUID, JobChange]:
    changes: defaultdict[UUID, JobChange] = defaultdict(JobChange)
    for result in results:
        change = changes[result.file.job_id]
        change.move(since="running", to=result.status)
        if result.bill:
            change.cost += result.bill.cost
        if result.transcript:
            change.audio_duration_ms += result.transcript.row.audio_duration_ms
    for row in dropped:
        changes[row.job_id].cost += row.cost
    for settlement in settlements:
        for job_id, difference in settlement.differences.items():
            changes[job_id].cost += difference
    return changes


_WAITS = {"wait_s": RESUBMIT_AFTER_S, "max_s": MAX_RESUBMIT_AFTER_S}

# In the order of the ids, as in all statements that lock several tasks: no deadlocks.
_LOCK = text("""
    SELECT tasks.id, lease_token
    FROM tasks JOIN unnest(CAST(:ids AS uuid[]), CAST(:tokens AS uuid[])) AS held (id, token) USING (id)
    WHERE lease_token = token AND state = 'running'
    ORDER BY tasks.id FOR NO KEY UPDATE OF tasks
""")

_SET_FILES = text(f"""
    WITH new AS (SELECT * FROM unnest(
        CAST(:task_ids AS uuid[]), CAST(:job_ids AS uuid[]), CAST(:indexes AS int[]), CAST(:statuses AS text[]),
        CAST(:transcript_ids AS uuid[]),
        CAST(:durations AS bigint[]), CAST(:codes AS text[]), CAST(:messages AS text[]), CAST(:retryables AS bool[]),
        CAST(:upstream_codes AS text[]), CAST(:billed_s AS numeric[]), CAST(:input_tokens AS int[]),
        CAST(:output_tokens AS int[]), CAST(:costs AS numeric[]), CAST(:currencies AS text[])
    ) AS new (task_id, job_id, index, status, transcript_id, audio_duration_ms,
              error_code, error_message, error_retryable, error_upstream_code,
              billed_s, input_tokens, output_tokens, cost, currency)
    ), stored AS (UPDATE files SET
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
    FROM new
    WHERE files.job_id = new.job_id AND files.index = new.index
      AND files.task_id = new.task_id AND files.status = 'running'
    RETURNING files.job_id, files.index AS number, files.client_id, files.task_id, files.model, files.region,
        coalesce(files.audio_duration_ms, 0) AS audio_ms, files.billed_s, files.input_tokens, files.output_tokens,
        files.cost, new.currency, 1 AS files, CAST(NULL AS jsonb) AS metadata,
        new.status = 'succeeded' OR new.transcript_id IS NOT NULL OR new.cost IS NOT NULL AS is_billed,
        false AS was_dropped
    ), dropped AS (UPDATE dropped_files SET
        open = false,
        audio_duration_ms = new.audio_duration_ms,
        billed_s = new.billed_s,
        input_tokens = new.input_tokens,
        output_tokens = new.output_tokens,
        cost = new.cost
    FROM new
    WHERE dropped_files.task_id = new.task_id AND dropped_files.job_id = new.job_id
      AND dropped_files.index = new.index AND dropped_files.open
    RETURNING dropped_files.job_id, dropped_files.index, dropped_files.client_id, dropped_files.task_id,
        dropped_files.model, dropped_files.region, coalesce(dropped_files.audio_duration_ms, 0),
        dropped_files.billed_s, dropped_files.input_tokens, dropped_files.output_tokens, dropped_files.cost,
        new.currency, 1, dropped_files.metadata, new.cost IS NOT NULL, true
    ), ended AS (
        SELECT * FROM stored UNION ALL SELECT * FROM dropped
    ), billed AS (
        SELECT * FROM ended WHERE is_billed
    ), recorded AS ({RECORD_USAGE}), released AS ({END_HOLDS})
    SELECT task_id, job_id, number, model, region, cost, was_dropped FROM ended
""")  # noqa: S608 - constants

_COUNT_FAILURES = text("""
    WITH failed AS (
        SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:job_ids AS uuid[]), CAST(:indexes AS int[]))
            AS failed (task_id, job_id, index)
    ), of_dropped AS (
        UPDATE dropped_files SET result_failures = result_failures + 1
        FROM failed
        WHERE dropped_files.task_id = failed.task_id AND dropped_files.job_id = failed.job_id
          AND dropped_files.index = failed.index AND dropped_files.open
    )
    UPDATE files SET result_failures = result_failures + 1
    FROM failed
    WHERE files.job_id = failed.job_id AND files.index = failed.index
      AND files.task_id = failed.task_id AND files.status = 'running'
""")

# The rows are locked. Returns the tasks that are closed now.
_END = text("""
    WITH ended AS (
        UPDATE tasks SET upstream_status = task.status, ended_at = coalesce(ended_at, now()), usage_s = task.usage_s,
            state = CASE WHEN open THEN state ELSE 'done' END,
            done_at = CASE WHEN open THEN done_at ELSE now() END,
            last_error = CASE WHEN open THEN last_error END,
            lease_token = CASE WHEN open THEN lease_token END,
            lease_until = CASE WHEN open THEN lease_until END
        FROM (
            SELECT *, EXISTS (SELECT FROM files WHERE task_id = given.id AND status = 'running')
                OR EXISTS (SELECT FROM dropped_files WHERE task_id = given.id AND dropped_files.open) AS open
            FROM unnest(CAST(:ids AS uuid[]), CAST(:statuses AS text[]), CAST(:usages_s AS int[]))
                AS given (id, status, usage_s)
        ) AS task
        WHERE tasks.id = task.id
        RETURNING tasks.id, open
    )
    SELECT id FROM ended WHERE NOT open
""")
