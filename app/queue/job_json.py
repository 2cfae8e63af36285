"""The JSON of jobs and files. Each field is declared once: its SQL, its place in the JSON and its OpenAPI schema.

A field is the column of its name unless a `Column` says otherwise, and rows are read by name. The declarations are
dataclasses: msgspec writes them in the order of their fields, and FastAPI documents them.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import msgspec
from pydantic import ConfigDict, Field, JsonValue

from app.catalogue import MODELS, RegionName, amount_text, currency_of
from app.queue.codes import FileErrorCode, WaitingCode, WarningCode
from app.queue.lifecycle import FileStatus, JobStatus
from app.queue.row_reader import Column, Row, RowReader, json_object, sql_columns

# Files that a job shows. `GET /v1/jobs/{id}/files` lists all of them.
FILES_SHOWN = 100

# Jobs whose files stay in their region: the client chose it, or a hot-word list belongs to it. DashScope ignores the
# hot-word list of another region without an error.
KEEPS_REGION = "(jobs.requested_region <> 'auto' OR jobs.parameters ?| ARRAY['vocabulary_id', 'phrase_id'])"

# JSON text of a WaitingReason, or NULL, from the blockages that pollers publish, the holds that claims write, and the
# circuits of accounts that have unsure tasks. These tables are mostly empty, which a statement finds out once. The rest
# is in a function: planning it would cost as much as reading the job.
WAITING_REASON = f"""
    CASE WHEN jobs.files_queued > 0 AND (EXISTS (SELECT FROM blockages) OR EXISTS (SELECT FROM budget_holds)
              OR EXISTS (SELECT FROM circuits WHERE closed_at IS NULL))
    THEN job_waiting_reason(jobs.id, jobs.client_id, jobs.region, jobs.model, {KEEPS_REGION}) END
"""  # noqa: S608 - constants


def _decoded(name: str) -> Callable[[Row], Any]:
    return lambda row: msgspec.json.decode(row[name])


@dataclass(slots=True)
class FileCounts:
    """Number of the job's files in each status."""

    total: Annotated[int, Column("jobs.files_total")]
    queued: Annotated[int, Column("jobs.files_queued")]
    running: Annotated[int, Column("jobs.files_running")]
    succeeded: Annotated[int, Column("jobs.files_succeeded")]
    failed: Annotated[int, Column("jobs.files_failed")]
    canceled: Annotated[int, Column("jobs.files_canceled")]


@dataclass(slots=True)
class WaitingReason:
    """Why the job's queued files are not submitted now. They are submitted by themselves when the reason is gone."""

    code: WaitingCode
    account: Annotated[
        str | None,
        Field(
            description="The account that was blocked last. Before that, it could take files. Null if the region has no"
            " account, and for `budget_exceeded`."
        ),
    ]
    region: RegionName
    since: Annotated[
        datetime,
        Field(
            description="When that account was blocked, when the region had no account, or when the budget of the"
            " client had no room for a file."
        ),
    ]


@dataclass(slots=True)
class JobWarning:
    """Something about the job that needs attention, but does not stop it."""

    code: WarningCode
    message: str


@cache
def _warnings(model: str) -> tuple[JobWarning, ...]:
    """A job may outlive its model in the catalogue."""
    deprecation = MODELS[model].deprecation if model in MODELS else None
    if deprecation is None:
        return ()
    message = (
        f"The retirement of {model} is announced for {deprecation.retires_at}. Use {deprecation.replacement} instead. "
        f"{deprecation.note}"
    )
    return (JobWarning(WarningCode.MODEL_DEPRECATED, message),)


@dataclass(slots=True)
class Cost:
    """What upstream billed for the files, at the prices of the catalogue.

    Files that are canceled before upstream begins them, and reused files, cost nothing.
    """

    amount: Annotated[str, Field(description="A decimal number with five places.", examples=["0.00104"])]
    currency: Annotated[str, Field(examples=["CNY"])]


@dataclass(slots=True)
class FileError:
    """Why a file failed."""

    code: Annotated[FileErrorCode, Column("files.error_code")]
    message: Annotated[str, Column("files.error_message")]
    retryable: Annotated[
        bool,
        Field(description="Whether the same file may succeed when it is tried again."),
        Column("files.error_retryable"),
    ]
    upstream_code: Annotated[
        str | None,
        Field(description="DashScope's own code, if the failure came from there."),
        Column("files.error_upstream_code"),
    ]


@dataclass(slots=True)
class FileUpstream:
    """The submit that carried the file last, with the ids that Alibaba's support asks for."""

    account: Annotated[
        str,
        Field(description="Name of the account in the file's region.", examples=["default"]),
        Column("substr(tasks.account, strpos(tasks.account, '/') + 1)"),
    ]
    task_id: Annotated[
        str | None,
        Field(description="DashScope's id of the task; null if DashScope refused the submit."),
        Column("tasks.upstream_task_id"),
    ]
    request_id: Annotated[
        str | None,
        Field(description="DashScope's id of the submit; null if it is not known, as after a lost response."),
        Column("tasks.upstream_request_id"),
    ]


# The task of a file that is queued again is that of an earlier submit.
_FILE_UPSTREAM = f"""
    CASE WHEN files.task_id IS NOT NULL AND files.status NOT IN ('queued', 'submitting') THEN (
        SELECT {json_object(sql_columns(FileUpstream, "tasks"))} FROM tasks WHERE tasks.id = files.task_id
        AND (tasks.upstream_task_id IS NOT NULL OR tasks.upstream_request_id IS NOT NULL)
    ) END
"""  # noqa: S608 - constants


_FILE_EXAMPLE: dict[str, JsonValue] = {
    "index": 0,
    "url": "https://example.com/call-4711.wav",
    "status": "succeeded",
    "transcript_id": "019ab0a4-5c1e-7cc3-98c4-dc0c0c07398f",
    "reused": False,
    "error": None,
    "audio_duration_ms": 4726,
    "attempts": 1,
    "upstream": {
        "account": "default",
        "task_id": "c2e5d63b-96e1-4607-bb91-0d7a5c1f9e20",
        "request_id": "77ae55ae-be17-97b8-9942-f1a3c8d25b64",
    },
}


@dataclass(slots=True)
class JobFile:
    """One URL of a job and its result."""

    __pydantic_config__ = ConfigDict(json_schema_extra={"examples": [_FILE_EXAMPLE]})

    index: Annotated[int, Field(description="The place in `file_urls`, from 0.")]
    url: Annotated[str, Field(description="The URL as it is sent upstream: percent-encoded.")]
    status: Annotated[
        FileStatus,
        Column("CASE files.status WHEN 'submitting' THEN 'queued' ELSE files.status END"),
    ]
    transcript_id: UUID | None
    reused: Annotated[
        bool,
        Field(
            description="Whether the transcript is a copy of an earlier one, as `reuse` asked for. Such a file costs"
            " nothing, and was not sent upstream."
        ),
    ]
    error: Annotated[
        FileError | None,
        Column(f"CASE WHEN files.error_code IS NOT NULL THEN {json_object(sql_columns(FileError, 'files'))} END"),
    ]
    audio_duration_ms: int | None
    attempts: Annotated[int, Field(description="How many times upstream accepted the file.")]
    upstream: Annotated[
        FileUpstream | None,
        Field(description="The submit that carried the file; null while the file is queued, or if it was canceled."),
        Column(_FILE_UPSTREAM),
    ]

    @classmethod
    def queued(cls, index: int, url: str) -> "JobFile":
        """A file of a new job."""
        return cls(index, url, FileStatus.QUEUED, None, False, None, None, attempts=0, upstream=None)


# A JSON object with the members of JobFile.
FILE_JSON = json_object(sql_columns(JobFile, "files"))
# Indexes have no gaps, so the first files are a short range of the primary key.
_FIRST_FILES = f"""
    (SELECT CAST(json_agg({FILE_JSON} ORDER BY files.index) AS text) FROM files
     WHERE files.job_id = jobs.id AND files.index < {FILES_SHOWN})
"""  # noqa: S608 - constants
_FILE = msgspec.json.Decoder(JobFile)
_FILES = msgspec.json.Decoder(list[JobFile])
_WAITING_REASON = msgspec.json.Decoder(WaitingReason)


def _waiting_reason(row: Row) -> WaitingReason | None:
    if row["waiting_reason"] is None:
        return None
    reason = _WAITING_REASON.decode(row["waiting_reason"])
    reason.since = reason.since.astimezone(UTC)  # PostgreSQL writes it in the time zone of the connection
    return reason


_SUMMARY_EXAMPLE: dict[str, JsonValue] = {
    "id": "019ab0a4-4d5e-7a20-8f3b-2b1c6a0d9e11",
    "status": "succeeded",
    "model": "fun-asr",
    "region": "beijing",
    "parameters": {"language_hints": ["zh"]},
    "metadata": {"call": "4711"},
    "created_at": "2026-11-23T08:00:00.120000Z",
    "started_at": "2026-11-23T08:00:00.350000Z",
    "finished_at": "2026-11-23T08:00:04.870000Z",
    "file_counts": {"total": 1, "queued": 0, "running": 0, "succeeded": 1, "failed": 0, "canceled": 0},
    "waiting_reason": None,
    "warnings": [],
    "audio_duration_ms": 4726,
    "cost": {"amount": "0.00104", "currency": "CNY"},
}


@dataclass(slots=True)
class JobSummary:
    """A job without its files."""

    __pydantic_config__ = ConfigDict(json_schema_extra={"examples": [_SUMMARY_EXAMPLE]})

    id: UUID
    status: Annotated[
        JobStatus,
        Field(
            description="`queued`, `running`, then one of `succeeded` (every file), `partial` (some), `failed` (none),"
            " `canceled`."
        ),
    ]
    model: str
    region: RegionName
    parameters: Annotated[dict[str, Any], Column("CAST(jobs.parameters AS text)", _decoded("parameters"))]
    metadata: Annotated[dict[str, str], Column("CAST(jobs.metadata AS text)", _decoded("metadata"))]
    created_at: datetime
    started_at: Annotated[
        datetime | None, Field(description="When upstream accepted the first file, or when the first file was reused.")
    ]
    finished_at: datetime | None
    file_counts: Annotated[
        FileCounts,
        Column(
            f"ARRAY[{', '.join(sql_columns(FileCounts, 'jobs').values())}]",
            lambda row: FileCounts(*row["file_counts"]),
        ),
    ]
    waiting_reason: Annotated[
        WaitingReason | None,
        Field(
            description="Why queued files cannot be submitted: no account can take them, the budget of the client"
            " has no room, or the account that may have accepted them does not respond. Null if they can, or if none"
            " is queued."
        ),
        Column(WAITING_REASON, _waiting_reason),
    ]
    warnings: Annotated[
        list[JobWarning],
        Field(description="Empty for most jobs. `model_deprecated`: the retirement of the model is announced."),
        Column("jobs.model", lambda row: list(_warnings(row["model"]))),
    ]
    audio_duration_ms: Annotated[int, Field(description="Sum over the files that succeeded.")]
    cost: Annotated[
        Cost,
        Column("jobs.cost", lambda row: Cost(amount_text(row["cost"]), currency_of(row["model"], row["region"]))),
    ]


@dataclass(slots=True)
class Job(JobSummary):
    """A request to transcribe files, and its progress."""

    __pydantic_config__ = ConfigDict(
        json_schema_extra={"examples": [{**_SUMMARY_EXAMPLE, "files": [_FILE_EXAMPLE], "files_truncated": False}]}
    )

    files: Annotated[
        list[JobFile],
        Field(description=f"The first {FILES_SHOWN} files in order; `GET /v1/jobs/{{id}}/files` has all."),
        Column(_FIRST_FILES, lambda row: _FILES.decode(row["files"])),
    ]
    files_truncated: Annotated[
        bool,
        Field(description="Whether the job has more files than `files` shows."),
        Column(f"jobs.files_total > {FILES_SHOWN}"),
    ]


class JobVersion(NamedTuple):
    """Two reads of a job with equal versions show the same. `waiting_reason` may change while `number` stays."""

    job_id: UUID
    number: int
    waiting_reason: str | None


@dataclass(frozen=True, slots=True)
class JobSnapshot:
    """A job as of one moment."""

    job: Job
    version: JobVersion

    @property
    def final(self) -> bool:
        return self.job.finished_at is not None


_SUMMARIES = RowReader(JobSummary)
_JOBS = RowReader(Job)
SUMMARY_COLUMNS: Mapping[str, str] = sql_columns(JobSummary, "jobs")
JOB_COLUMNS: Mapping[str, str] = {**sql_columns(Job, "jobs"), "version": "jobs.version"}
# The columns of a job that a statement has just inserted: its files are not visible to the same statement.
NEW_JOB_COLUMNS: Mapping[str, str] = {name: sql for name, sql in JOB_COLUMNS.items() if name != "files"}


def read_file(file: str) -> JobFile:
    """`file`: the text of a FILE_JSON."""
    return _FILE.decode(file)


def read_summary(row: Row) -> JobSummary:
    """`row`: SUMMARY_COLUMNS."""
    return _SUMMARIES.read(row)


def read_job(row: Row, **given: Any) -> JobSnapshot:
    """`row`: JOB_COLUMNS, or NEW_JOB_COLUMNS with the `files` given."""
    return JobSnapshot(_JOBS.read(row, **given), JobVersion(row["id"], row["version"], row["waiting_reason"]))


def job_bytes(snapshot: JobSnapshot) -> bytes:
    return encode(snapshot.job)


def job_etag(snapshot: JobSnapshot) -> str:
    """A strong ETag: it changes with everything that is shown of the job."""
    job_id, number, reason = snapshot.version
    if reason is None:
        return f'"{job_id}/{number}"'
    return f'"{job_id}/{number}/{hashlib.sha256(reason.encode()).hexdigest()[:16]}"'


def page_bytes(items: Sequence[JobFile | msgspec.Raw], next_cursor: str | None) -> bytes:
    return encode({"items": items, "next_cursor": next_cursor})


def encode(body: Any) -> bytes:
    # orjson refuses asyncpg's UUIDs, which are a subclass.
    return msgspec.json.encode(body)
