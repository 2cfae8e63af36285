"""The JSON of hits, for OpenAPI."""

from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from app.api.pagination import Page

_EXAMPLE: dict[str, JsonValue] = {
    "transcript_id": "019ab0a4-5c1e-7cc3-98c4-dc0c0c07398f",
    "job_id": "019ab0a4-4d5e-7a20-8f3b-2b1c6a0d9e11",
    "file_url": "https://example.com/call-4711.wav",
    "channel_id": 0,
    "begin_time": 760,
    "end_time": 2000,
    "speaker_id": 0,
    "snippet": "我想给我的<mark>iPhone手机</mark>退款。",
}


class SearchHit(BaseModel):
    """A sentence that has what was asked for."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    transcript_id: UUID
    job_id: UUID
    file_url: str
    channel_id: int
    begin_time: int = Field(description="Milliseconds from the beginning of the file.")
    end_time: int
    speaker_id: int | str | None = Field(description="From 0, when diarization was enabled.")
    snippet: str = Field(
        description="HTML: up to 120 characters of the sentence, escaped but for `<mark>` around what was found; "
        "`…` where it was cut."
    )


SearchPage = Page[SearchHit]
