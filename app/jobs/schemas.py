"""The requests of createJob, listJobs and getJob, and the pages of jobs and files.

`app.api.strict_route` checks the requests, and OpenAPI describes them. `app.queue.job_json` has the jobs themselves.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Header, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, TypeAdapter

from app.api.pagination import DEFAULT_LIMIT, Cursor, Limit, Page
from app.api.parameters import CreatedAfter, CreatedBefore, ModelFilter, RegionFilter
from app.api.request_body import RequestBody
from app.jobs.dependencies import PreferHeader, WaitParameter
from app.queue.job_json import Job, JobFile
from app.queue.lifecycle import JobStatus
from app.urls import find_control_character

MAX_FILES = 10_000

# The first example is the one that /docs offers to try: a public recording, which the sandbox knows too.
_SAMPLE = "https://dashscope.oss-cn-beijing.aliyuncs.com/samples/audio/paraformer/hello_world_female2.wav"
_REQUEST_EXAMPLES: list[JsonValue] = [
    {"file_urls": [_SAMPLE], "parameters": {"language_hints": ["zh"]}, "metadata": {"call": "4711"}},
    {
        "file_urls": ["https://example.com/call-4711.wav", "https://example.com/call-4712.wav"],
        "model": "fun-asr",
        "region": "beijing",
        "parameters": {"language_hints": ["zh"], "diarization_enabled": True, "speaker_count": 2},
        "metadata": {"call": "4711"},
        "webhook_url": "https://example.com/hooks/asr",
    },
]


class JobRequest(RequestBody):
    """A request to transcribe files. Only `file_urls` is required."""

    model_config = ConfigDict(json_schema_extra={"examples": _REQUEST_EXAMPLES})

    file_urls: list[str] = Field(
        min_length=1,
        max_length=MAX_FILES,
        description="`http`, `https` or `oss` URLs that DashScope can fetch from the public internet, or the `file_url`"
        " of uploads, each up to 4,096 characters once encoded. Characters that a URL may not contain, such as Chinese"
        " ones, are percent-encoded; escapes are kept. A `#` is refused: in a name it is written as `%23`.",
    )
    model: str = Field("fun-asr", description="An id of `GET /v1/models`.")
    region: Literal["auto", "beijing", "singapore"] = Field(
        "auto", description="`auto`: the gateway's default region if it has the model, else a region that has it."
    )
    parameters: dict[str, Any] = Field(
        default={}, description="Parameters of DashScope, as `GET /v1/models/{id}` lists them for the model."
    )
    metadata: dict[str, str] = Field(
        default={},
        description="Up to 16 pairs of strings that the job shows: keys of 1 to 64 characters, values of up to 512,"
        " without control characters. The list of jobs can be filtered by them.",
        json_schema_extra={
            "maxProperties": 16,
            "propertyNames": {"minLength": 1, "maxLength": 64},
            "additionalProperties": {"type": "string", "maxLength": 512},
        },
    )
    webhook_url: str | None = Field(
        None,
        description="An `http` or `https` URL, up to 4,096 characters, that receives an event when the job is final.",
    )
    reuse: bool = Field(
        False,
        strict=True,
        description="Whether a transcript that this client already has may answer a file: of the same URL, apart from"
        " the fields of its signature, or of an upload with the same bytes, with the same model and parameters. The"
        " file then costs nothing.",
    )


def decode_idempotency_key(value: Any) -> Any:
    """The key as text. Raises ValueError.

    Starlette decodes headers as Latin-1, but most clients send other characters than ASCII as UTF-8.
    """
    if not isinstance(value, str):
        return value
    with suppress(UnicodeError):
        value = value.encode("latin-1").decode()
    if control := find_control_character(value):
        raise ValueError(f"holds the control character {control}; remove it")
    return value


IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Makes a repeated request safe: requests with the same key and the same body create one job."
        " Any characters except control characters; other characters than ASCII in UTF-8.",
        # Only for the document: errors explain the rule in words, not by the pattern.
        json_schema_extra={"pattern": r"^[^\x00-\x1f\x7f-\x9f]+$"},
    ),
    BeforeValidator(decode_idempotency_key),
]


class WaitQuery(BaseModel):
    wait: WaitParameter = None


class WaitHeaders(BaseModel):
    prefer: PreferHeader = None


class CreateJobHeaders(WaitHeaders):
    idempotency_key: IdempotencyKey = None


class ListJobsQuery(BaseModel):
    status: Annotated[
        list[JobStatus] | None, Query(description="May be given several times; matches any of the values.")
    ] = None
    model: ModelFilter = None
    region: RegionFilter = None
    created_after: CreatedAfter = None
    created_before: CreatedBefore = None
    limit: Limit = DEFAULT_LIMIT
    cursor: Cursor = None


@dataclass(frozen=True, slots=True)
class CreateJob:
    query: Annotated[WaitQuery, Query()]
    header: Annotated[CreateJobHeaders, Header()]
    body: JobRequest


@dataclass(frozen=True, slots=True)
class ListJobs:
    query: Annotated[ListJobsQuery, Query()]


@dataclass(frozen=True, slots=True)
class GetJob:
    job_id: UUID
    query: Annotated[WaitQuery, Query()]
    header: Annotated[WaitHeaders, Header()]


JobPage = Page[Job]
JobFilePage = Page[JobFile]

CREATE_JOB = TypeAdapter(CreateJob)
LIST_JOBS = TypeAdapter(ListJobs)
GET_JOB = TypeAdapter(GetJob)
