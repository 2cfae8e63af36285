"""The JSON of transcripts for OpenAPI. Responses are stored or rendered bytes, which are not validated here."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from app.api.pagination import Page
from app.catalogue import RegionName, qwen3_asr, sensevoice
from app.catalogue.sensevoice import SpeechEvent

_SUMMARY_EXAMPLE: dict[str, JsonValue] = {
    "id": "019ab0a4-5c1e-7cc3-98c4-dc0c0c07398f",
    "job_id": "019ab0a4-4d5e-7a20-8f3b-2b1c6a0d9e11",
    "file_url": "https://example.com/call-4711.wav",
    "model": "fun-asr",
    "region": "beijing",
    "created_at": "2026-11-23T08:00:04.870000Z",
    "audio_duration_ms": 4726,
}

_SENTENCE: dict[str, JsonValue] = {
    "begin_time": 760,
    "end_time": 2000,
    "text": "Hello World.",
    "sentence_id": 1,
    "words": [
        {"begin_time": 760, "end_time": 1320, "text": "Hello ", "punctuation": ""},
        {"begin_time": 1320, "end_time": 2000, "text": "World", "punctuation": "."},
    ],
}

_EXAMPLE: dict[str, JsonValue] = {
    "id": "019ab0a4-5c1e-7cc3-98c4-dc0c0c07398f",
    "job_id": "019ab0a4-4d5e-7a20-8f3b-2b1c6a0d9e11",
    "file_url": "https://example.com/call-4711.wav",
    "model": "fun-asr",
    "region": "beijing",
    "created_at": "2026-11-23T08:00:04.870000Z",
    "text": "Hello World.",
    "properties": {
        "audio_format": "pcm_s16le",
        "channels": [0],
        "original_sampling_rate": 16000,
        "original_duration_in_milliseconds": 4726,
    },
    "transcripts": [
        {
            "channel_id": 0,
            "content_duration_in_milliseconds": 1240,
            "text": "Hello World.",
            "sentences": [_SENTENCE],
        }
    ],
}


class TranscriptSummary(BaseModel):
    """A stored transcript without its text."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SUMMARY_EXAMPLE]})

    id: UUID
    job_id: UUID
    file_url: str
    model: str
    region: RegionName
    created_at: datetime
    audio_duration_ms: int


class Word(BaseModel):
    """A word. Times in milliseconds from the beginning of the file."""

    model_config = ConfigDict(extra="allow")

    begin_time: int = 0
    end_time: int = 0
    text: str
    punctuation: str = ""


class Sentence(BaseModel):
    """A sentence. Keys that the model does not return are absent; its other keys, such as `language`, stay."""

    model_config = ConfigDict(extra="allow")

    begin_time: int = Field(description="Milliseconds from the beginning of the file.")
    end_time: int
    # Required although `keep_trans=false` leaves it out. Otherwise strict TypeScript clients, most of which never send
    # that option, would not compile without a check of each text.
    text: str = Field(description="Absent with `keep_trans=false`.")
    sentence_id: int | None = None
    words: list[Word] | None = None
    speaker_id: int | str | None = Field(None, description="From 0, when diarization was enabled.")
    # A union of an array and a string makes generators for Java write classes that do not compile.
    emotion: Any = Field(
        None,
        description=f"SenseVoice: an array of all tagged emotions, of {', '.join(sensevoice.EMOTIONS)}. qwen3: one"
        f" emotion, a string, of {', '.join(qwen3_asr.EMOTIONS)}. Open: more values may be added.",
        json_schema_extra={"x-extensible-enum": [*sensevoice.EMOTIONS, *qwen3_asr.EMOTIONS]},
    )
    event: list[SpeechEvent] | None = Field(None, description="SenseVoice: speech and other sounds, such as applause.")


class ChannelTranscript(BaseModel):
    """The speech of one channel."""

    model_config = ConfigDict(extra="allow")

    channel_id: int = 0
    content_duration_in_milliseconds: int | None = Field(None, description="Duration of the speech.")
    text: str = Field(description="Absent with `keep_trans=false`.")
    sentences: list[Sentence]


class Transcript(BaseModel):
    """The upstream's result document, the same for all model families, with the `text` of all channels."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: UUID
    job_id: UUID
    file_url: str
    model: str
    region: RegionName
    created_at: datetime
    text: str = Field(description="The text of all channels. Absent with `keep_trans=false`.")
    properties: dict[str, Any] = Field(description="Properties of the audio, as returned by upstream.")
    transcripts: list[ChannelTranscript]


TranscriptSummaryPage = Page[TranscriptSummary]


class ChannelSentence(Sentence):
    """A sentence with its channel."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [{**_SENTENCE, "channel_id": 0}]})

    channel_id: int


SentencePage = Page[ChannelSentence]

_PARAGRAPH_EXAMPLE: dict[str, JsonValue] = {
    "begin_time": 760,
    "end_time": 6400,
    "channel_id": 0,
    "speaker_id": 1,
    "text": "Hello World. Is anybody there?",
    "sentences": 2,
}


class Paragraph(BaseModel):
    """Consecutive sentences of one speaker. Times in milliseconds."""

    model_config = ConfigDict(json_schema_extra={"examples": [_PARAGRAPH_EXAMPLE]})

    begin_time: int
    end_time: int
    channel_id: int | None
    speaker_id: int | str | None = Field(description="From 0; null unless diarization was enabled.")
    text: str
    sentences: int = Field(description="Number of sentences.")


class Paragraphs(BaseModel):
    """All paragraphs in order of time."""

    items: list[Paragraph]
