"""Converts the result documents of all model families to one form. Pure: bytes in, sentences out one by one.

Twelve hours of speech are 15 MB of JSON and 130 MB of dictionaries. So only the outline is parsed at once; each
sentence is parsed when it is written.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

import msgspec
import orjson

from app.transcripts import sensevoice_tags
from app.transcripts.sanitise import (
    UnreadableResult,
    integer,
    refuse_depth,
    remove_tags,
    repair_sentence,
    replace_lone_surrogates,
    text_of,
)
from app.transcripts.seekable_gzip import GzipWriter, Written
from app.transcripts.text import join, stated_duration

__all__ = [
    "Document",
    "NormalisedChannel",
    "SentenceSink",
    "UnreadableResult",
    "empty_document",
    "normalise",
    "write_document",
]


# As many as a job may request. Every form of a transcript takes time for each channel.
MAX_CHANNELS = 64


@dataclass(frozen=True, slots=True)
class NormalisedChannel:
    """An entry of `transcripts`: the upstream's keys in their order, with `sentences` in its place but empty."""

    fields: dict[str, Any]
    raw_sentences: list[msgspec.Raw] = field(default_factory=list, repr=False)
    sensevoice: bool = False

    def sentences(self) -> Iterator[dict[str, Any]]:
        """The sentences, each checked and repaired during iteration. Raises UnreadableResult."""
        end = 0
        for raw in self.raw_sentences:
            sentence = _loads(raw)
            repair_sentence(sentence, before=end)
            end = sentence["end_time"]
            if self.sensevoice:
                remove_tags(sentence)
            yield sentence


@dataclass(frozen=True, slots=True)
class Document:
    """A result document. `audio_duration_ms` as stated by upstream; None if it is not stated.

    `file_url` is the client's URL: for oss:// inputs upstream returns another one.
    """

    file_url: str
    properties: dict[str, Any]
    channel_transcripts: list[NormalisedChannel]
    text: str
    audio_duration_ms: int | None

    @property
    def channels(self) -> int:
        return len(self.channel_transcripts)

    @property
    def transcripts(self) -> list[dict[str, Any]]:
        """The whole document at once, for short documents. Raises UnreadableResult."""
        return [{**part.fields, "sentences": list(part.sentences())} for part in self.channel_transcripts]


class SentenceSink(Protocol):
    """Receives each sentence while a document is written, or the text of a channel without sentences."""

    def add(self, channel_id: int, sentence: Mapping[str, Any]) -> None: ...

    def add_text(self, channel_id: int, text: str) -> None: ...


def normalise(raw: bytes, *, file_url: str, family: str) -> Document:
    """Parse the outline of a result. Raises only UnreadableResult, and so do the sentences later.

    Unknown keys stay in their place, except at the top level, where only the raw bytes have them.
    """
    result = _outline(replace_lone_surrogates(raw))
    channels = [
        _normalised_channel(transcript, sensevoice=family == "sensevoice") for transcript in result.pop("transcripts")
    ]
    properties = _properties(result, channels)
    text = "\n".join(part.fields["text"] for part in channels if part.fields["text"])
    return Document(file_url, properties, channels, text, stated_duration(properties))


def empty_document(file_url: str) -> Document:
    """The transcript of a file without speech, for which upstream sends an error code instead of a document."""
    return Document(file_url, properties={}, channel_transcripts=[], text="", audio_duration_ms=None)


def write_document(
    document: Document,
    writer: GzipWriter,
    *,
    id: UUID | str,  # noqa: A002 - the name of the key in the document
    job_id: UUID | str,
    model: str,
    region: str,
    created_at: datetime,
    segments: SentenceSink | None = None,
) -> Written:
    """Write the JSON body of `GET /v1/transcripts/{id}`: UTF-8, compact, keys in the documented order.

    Raises UnreadableResult at the first sentence that cannot be read.
    """
    head = {
        "id": id,
        "job_id": job_id,
        "file_url": document.file_url,
        "model": model,
        "region": region,
        "created_at": created_at.astimezone(UTC),
        "text": document.text,
        "properties": document.properties,
    }
    writer.head(orjson.dumps(head, option=orjson.OPT_UTC_Z)[:-1] + b',"transcripts":[')
    for number, part in enumerate(document.channel_transcripts):
        channel_id = part.fields.get("channel_id", 0)
        before, after = _around_sentences(part.fields)
        writer.open_channel(channel_id, (b"," if number else b"") + before)
        for sentence in part.sentences():
            writer.add(sentence)
            if segments is not None:
                segments.add(channel_id, sentence)
        if segments is not None and not part.raw_sentences:
            segments.add_text(channel_id, part.fields["text"])
        writer.close_channel(after)
    return writer.finish(b"]}")


def _outline(raw: bytes) -> dict[str, Any]:
    """The top level, with `transcripts` as dictionaries of unparsed values."""
    try:
        top = msgspec.json.decode(raw.removeprefix(b"\xef\xbb\xbf"), type=msgspec.Raw)
        result = _members(top, "the result is no JSON object")
        entries = _transcript_entries(result)
        transcripts = [_members(item, "transcripts is no list of objects") for item in entries]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # `from None`: the parser's exception contains the document.
        raise UnreadableResult(f"the result is no JSON ({len(raw)} bytes)") from None
    return {key: _loads(value) for key, value in result.items()} | {"transcripts": transcripts}


def _transcript_entries(result: dict[str, msgspec.Raw]) -> list[msgspec.Raw]:
    """The entries of `transcripts`. null, which upstream sends for silence, has none."""
    if "transcripts" not in result:
        raise UnreadableResult("the result has no transcripts")
    listed = result.pop("transcripts")
    found = [] if _begins(listed, b"n") else _objects(listed, "transcripts")
    if len(found) > MAX_CHANNELS:
        raise UnreadableResult(f"the result has {len(found)} channels; at most {MAX_CHANNELS} are possible")
    return found


def _members(value: msgspec.Raw, otherwise: str) -> dict[str, msgspec.Raw]:
    if not _begins(value, b"{"):
        _loads(value)
        raise UnreadableResult(otherwise)
    return msgspec.json.decode(value, type=dict[str, msgspec.Raw])


def _objects(value: msgspec.Raw, name: str) -> list[msgspec.Raw]:
    if not _begins(value, b"["):
        raise UnreadableResult(f"{name} is no list of objects")
    items = msgspec.json.decode(value, type=list[msgspec.Raw])
    if not all(_begins(item, b"{") for item in items):
        raise UnreadableResult(f"{name} is no list of objects")
    return items


def _begins(value: msgspec.Raw, bracket: bytes) -> bool:
    return memoryview(value)[:1] == bracket


def _loads(value: msgspec.Raw) -> Any:
    try:
        return orjson.loads(memoryview(value))
    except ValueError:
        raise UnreadableResult(f"the result is no JSON (in {len(memoryview(value))} bytes of it)") from None


def _normalised_channel(transcript: dict[str, msgspec.Raw], *, sensevoice: bool) -> NormalisedChannel:
    raw = transcript.get("sentences", msgspec.Raw(b"[]"))
    # null and any other empty value stand for no sentences.
    sentences = _objects(raw, "sentences") if _begins(raw, b"[") or _loads(raw) else []
    fields = {key: [] if key == "sentences" else _loads(value) for key, value in transcript.items()}
    fields.setdefault("sentences", [])
    refuse_depth(fields)
    if "channel_id" in fields:
        fields["channel_id"] = integer(fields["channel_id"], "channel_id")
    part = NormalisedChannel(fields, sentences, sensevoice)
    whole = text_of(fields, "text")
    if whole is None:
        fields["text"] = join(sentence["text"] for sentence in part.sentences())
    elif sensevoice:
        fields["text"] = sensevoice_tags.strip_other_tags(sensevoice_tags.clean(whole))
    return part


def _around_sentences(fields: dict[str, Any]) -> tuple[bytes, bytes]:
    """The JSON before and after the sentences, including their brackets."""
    keys = list(fields)
    at = keys.index("sentences")
    before = orjson.dumps({key: fields[key] for key in keys[: at + 1]})
    after = orjson.dumps({key: fields[key] for key in keys[at + 1 :]})
    return before.removesuffix(b"]}"), b"]" + (b"," + after[1:] if len(after) > 2 else b"}")


def _properties(result: dict[str, Any], channels: list[NormalisedChannel]) -> dict[str, Any]:
    """The upstream's `properties`, or for qwen3 its `audio_info` under the names of the other families."""
    properties = _mapping(result, "properties")
    audio = _mapping(result, "audio_info")
    if audio:
        channel_ids = [part.fields["channel_id"] for part in channels if "channel_id" in part.fields]
        renamed = {
            "audio_format": audio.get("format"),
            "channels": channel_ids,
            "original_sampling_rate": audio.get("sample_rate"),
        }
        properties = {key: value for key, value in renamed.items() if value is not None} | properties
    refuse_depth(properties)
    return properties


def _mapping(result: dict[str, Any], key: str) -> dict[str, Any]:
    value = result.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UnreadableResult(f"{key} is no object")
    return value
