"""The JSON of jobs for OpenAPI. Requests are checked with these; answers are written by `app.queue.job_json`."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from app.api.pagination import Page
from app.api.request_body import RequestBody
from app.catalogue import RegionName
from app.queue.lifecycle import FileStatus, JobStatus

MAX_FILES = 10_000

# The first is what /docs offers to try: a recording that is there for everybody, and that the sandbox knows too.
_SAMPLE = "https://dashscope.oss-cn-beijing.aliyuncs.com/samples/audio/paraformer/hello_world_female2.wav"
_REQUEST_EXAMPLES: list[JsonValue] = [
    {"file_urls": [_SAMPLE], "parameters": {"language_hints": ["zh", "en"]}, "metadata": {"call": "4711"}},
    {
        "file_urls": ["https://example.com/call-4711.wav", "https://example.com/call-4712.wav"],
        "model": "fun-asr",
        "region": "beijing",
        "parameters": {"language_hints": ["zh", "en"], "diarization_enabled": True, "speaker_count": 2},
        "metadata": {"call": "4711"},
        "webhook_url": "https://example.com/hooks/asr",
    },
]

_FILE_EXAMPLE: dict[str, JsonValue] = {
    "index": 0,
    "url": "https://example.com/call-4711.wav",
    "status": "succeeded",
    "transcript_id": "019ab0a4-5c1e-7cc3-98c4-dc0c0c07398f",
    "error": None,
    "audio_duration_ms": 4726,
    "attempts": 1,
}

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
    "audio_duration_ms": 4726,
    "cost": {"amount": "0.00104", "currency": "CNY"},
}
_JOB_EXAMPLE: dict[str, JsonValue] = {**_SUMMARY_EXAMPLE, "files": [_FILE_EXAMPLE], "files_truncated": False}


class JobRequest(RequestBody):
    """A job to be done. Only `file_urls` is required."""

    model_config = ConfigDict(json_schema_extra={"examples": _REQUEST_EXAMPLES})

    file_urls: list[str] = Field(
        min_length=1,
        max_length=MAX_FILES,
        description="`http`, `https` or `oss` URLs that DashScope can fetch, each up to 4,096 characters once encoded."
        " What a URL may not hold, such as Chinese characters, is percent-encoded; escapes stay as they are.",
    )
    model: str = Field("fun-asr", description="An id of `GET /v1/models`.")
    region: Literal["auto", "beijing", "singapore"] = Field(
        "auto", description="`auto`: the gateway's default region if it has the model, else one that does."
    )
    parameters: dict[str, Any] = Field(
        default={}, description="The upstream's parameters, as `GET /v1/models/{id}` lists them for the model."
    )
    metadata: dict[str, str] = Field(
        default={},
        description="Up to 16 pairs of strings that come back with the job: keys of 1 to 64 characters, values of up"
        " to 512, neither with control characters. Lists can be filtered by them.",
        json_schema_extra={
            "maxProperties": 16,
            "propertyNames": {"minLength": 1, "maxLength": 64},
            "additionalProperties": {"type": "string", "maxLength": 512},
        },
    )
    webhook_url: str | None = Field(
        None, description="An `http` or `https` URL, up to 4,096 characters, that is told when the job is final."
    )


class FileCounts(BaseModel):
    """How many of the job's files are in which state."""

    total: int
    queued: int
    running: int
    succeeded: int
    failed: int
    canceled: int


class Cost(BaseModel):
    """What the upstream charges for what is finished, by the catalogue's prices."""

    amount: str = Field(description="A decimal number with five places.", examples=["0.00104"])
    currency: str = Field(examples=["CNY"])


class FileErrorCode(StrEnum):
    """Stable word for why a file failed."""

    AUDIO_TOO_LONG = "audio_too_long"
    AUDIO_UNREADABLE = "audio_unreadable"
    CANCELED_UPSTREAM = "canceled_upstream"
    CONTENT_REJECTED = "content_rejected"
    FILE_TOO_LARGE = "file_too_large"
    FILE_UNREACHABLE = "file_unreachable"
    FILE_URL_REFUSED = "file_url_refused"
    MODEL_UNAVAILABLE = "model_unavailable"
    RESULT_EXPIRED = "result_expired"
    RESULT_HOST_REFUSED = "result_host_refused"
    RESULT_MISSING = "result_missing"
    RESULT_TOO_LARGE = "result_too_large"
    RESULT_UNREADABLE = "result_unreadable"
    UPSTREAM_ERROR = "upstream_error"
    UPSTREAM_REFUSED = "upstream_refused"


class WaitingCode(StrEnum):
    """Stable word for why queued files cannot go out."""

    ACCOUNT_KEY_REFUSED = "account_key_refused"
    ACCOUNT_QUOTA = "account_quota"
    ACCOUNT_UNPAID = "account_unpaid"
    MODEL_NOT_GRANTED = "model_not_granted"
    MODEL_UNAVAILABLE = "model_unavailable"
    UPSTREAM_UNAVAILABLE = "upstream_unavailable"


class WaitingReason(BaseModel):
    """Why no account can take the job's queued files now. They wait, and go out by themselves once that is over."""

    code: WaitingCode
    account: str = Field(description="The account of the gateway whose trouble came last: until then, one was left.")
    region: RegionName
    since: datetime = Field(description="When that trouble began.")


class FileError(BaseModel):
    """Why a file failed."""

    code: FileErrorCode
    message: str
    retryable: bool = Field(description="Whether the same file may succeed when it is tried again.")
    upstream_code: str | None = Field(description="DashScope's own code, when the failure came from there.")


class JobFile(BaseModel):
    """One URL of a job and what became of it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_FILE_EXAMPLE]})

    index: int = Field(description="The place in `file_urls`, from 0.")
    url: str = Field(description="The URL as it goes upstream: percent-encoded.")
    status: FileStatus
    transcript_id: UUID | None
    error: FileError | None
    audio_duration_ms: int | None
    attempts: int = Field(description="How often upstream accepted the file.")


class JobSummary(BaseModel):
    """A job without its files."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SUMMARY_EXAMPLE]})

    id: UUID
    status: JobStatus = Field(
        description="`queued`, `running`, then one of `succeeded` (every file), `partial` (some), `failed` (none),"
        " `canceled`."
    )
    model: str
    region: RegionName
    parameters: dict[str, Any]
    metadata: dict[str, str]
    created_at: datetime
    started_at: datetime | None = Field(description="When upstream accepted the first file.")
    finished_at: datetime | None
    file_counts: FileCounts
    waiting_reason: WaitingReason | None = Field(
        description="Why queued files cannot go out now; null while some account can take them, or none is queued."
    )
    audio_duration_ms: int = Field(description="The sum over the files that succeeded.")
    cost: Cost


class Job(JobSummary):
    """What a client asked for, and how far it is."""

    model_config = ConfigDict(json_schema_extra={"examples": [_JOB_EXAMPLE]})

    files: list[JobFile] = Field(description="The first 100 files in order; `GET /v1/jobs/{id}/files` has all.")
    files_truncated: bool = Field(description="Whether the job has more files than are shown.")


JobPage = Page[Job]
JobFilePage = Page[JobFile]
