"""The request body of a new job, and the pages of jobs and files. `app.queue.job_json` has the jobs themselves."""

from typing import Any, Literal

from pydantic import ConfigDict, Field, JsonValue

from app.api.pagination import Page
from app.api.request_body import RequestBody
from app.queue.job_json import Job, JobFile

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


JobPage = Page[Job]
JobFilePage = Page[JobFile]
