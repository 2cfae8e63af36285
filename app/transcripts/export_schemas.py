"""The JSON of exports for OpenAPI; what is sent is written by `paragraphs` and checked by nothing."""

from pydantic import BaseModel, ConfigDict, Field, JsonValue

_EXAMPLE: dict[str, JsonValue] = {
    "begin_time": 760,
    "end_time": 6400,
    "channel_id": 0,
    "speaker_id": 1,
    "text": "Hello World. Is anybody there?",
    "sentences": 2,
}


class Paragraph(BaseModel):
    """Sentences of one speaker that follow each other. Times in milliseconds."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    begin_time: int
    end_time: int
    channel_id: int | None
    speaker_id: int | str | None = Field(description="From 0; null unless diarization was enabled.")
    text: str
    sentences: int = Field(description="How many it is made of.")


class Paragraphs(BaseModel):
    """All paragraphs in order of time."""

    items: list[Paragraph]
