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

from app.json_repair import repair, replace_lone_surrogates
from app.transcripts import sensevoice_tags
from app.transcripts.sanitise import (
    UnreadableResult,
    limit_depth,
    milliseconds,
    remove_tags,
    repair_sentence,
    text_of,
    whole_number,
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
        """The sentences, each repaired during iteration."""
        end = 0
        for raw in self.raw_sentences:
            sentence = _loads_object(raw)
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
        """The whole document at once, for short documents."""
        return [{**part.fields, "sentences": list(part.sentences())} for part in self.channel_transcripts]


class SentenceSink(Protocol):
    """Receives each sentence while a document is written, or the text of a channel without sentences."""

    def add(self, channel_id: int, sentence: Mapping[str, Any]) -> None: ...

    def add_text(self, channel_id: int, text: str) -> None: ...


def normalise(raw: bytes, *, file_url: str, family: str) -> Document:
    """Parse the outline of a result. Raises only UnreadableResult; the sentences, parsed later, raise nothing.

    Unknown keys stay in their place, except at the top level, where only the raw bytes have them. A value of a wrong
    kind counts as missing.
    """
    try:
        result = _outline(raw)
        transcripts = _channels_of(result)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # `from None`: the parser's exception contains the document.
        raise UnreadableResult(f"the result is no JSON ({len(raw)} bytes)") from None
    channels = [_normalised_channel(each, sensevoice=family == "sensevoice") for each in transcripts]
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
    """Write the JSON body of `GET /v1/transcripts/{id}`: UTF-8, compact, keys in the documented order."""
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
        before, after = around_sentences(part.fields)
        writer.open_channel(channel_id, (b"," if number else b"") + before)
        for sentence in part.sentences():
            writer.add(sentence)
            if segments is not None:
                segments.add(channel_id, sentence)
        if segments is not None and not part.raw_sentences:
            segments.add_text(channel_id, part.fields["text"])
        writer.close_channel(after)
    return writer.finish(b"]}")


def _outline(raw: bytes) -> dict[str, msgspec.Raw]:
    """The unparsed values of the top level. Raises UnreadableResult, or as `_members`."""
    text = replace_lone_surrogates(raw).removeprefix(b"\xef\xbb\xbf")
    try:
        top = msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        top = msgspec.json.decode(repair(text), type=msgspec.Raw)
    result = _members(top)
    if result is None:
        raise UnreadableResult("the result is no JSON object", is_final=True)
    return result


def _channels_of(result: Mapping[str, msgspec.Raw]) -> list[dict[str, msgspec.Raw]]:
    """The entries of `transcripts` that are objects. null, which upstream sends for silence, has none.

    Raises UnreadableResult, or as `_members`.
    """
    if "transcripts" not in result:
        raise UnreadableResult("the result has no transcripts")
    listed = result["transcripts"]
    entries = [entry for entry in _items(listed) if not _begins(entry, b"n")]
    found = [members for entry in entries if (members := _members(entry)) is not None]
    if not found and (entries or not _begins(listed, b"[n")):
        raise UnreadableResult("transcripts is no list of objects", is_final=True)
    if len(found) > MAX_CHANNELS:
        message = f"the result has {len(found)} channels; at most {MAX_CHANNELS} are possible"
        raise UnreadableResult(message, is_final=True)
    return found


def _members(value: msgspec.Raw) -> dict[str, msgspec.Raw] | None:
    """The unparsed members of an object. None for any other value. Raises DecodeError and RecursionError."""
    if not _begins(value, b"{"):
        return None
    try:
        return msgspec.json.decode(value, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode(repair(bytes(value)), type=dict[str, msgspec.Raw])


def _items(value: msgspec.Raw | None) -> list[msgspec.Raw]:
    """The unparsed items of a list. None for any other value."""
    return msgspec.json.decode(value, type=list[msgspec.Raw]) if value is not None and _begins(value, b"[") else []


def _begins(value: msgspec.Raw, characters: bytes) -> bool:
    """Whether the JSON of a value begins with one of these characters."""
    return bytes(memoryview(value)[:1]) in characters


def _loads(value: msgspec.Raw) -> Any:
    """The value, or None where even repair does not make it readable."""
    try:
        return orjson.loads(memoryview(value))
    except ValueError:
        pass
    try:
        return orjson.loads(repair(bytes(value)))
    except ValueError:
        return None


def _loads_object(value: msgspec.Raw) -> dict[str, Any]:
    found = _loads(value)
    return found if isinstance(found, dict) else {}


def _normalised_channel(transcript: dict[str, msgspec.Raw], *, sensevoice: bool) -> NormalisedChannel:
    sentences = [item for item in _items(transcript.get("sentences")) if _begins(item, b"{")]
    fields = {key: [] if key == "sentences" else _loads(value) for key, value in transcript.items()}
    fields.setdefault("sentences", [])
    limit_depth(fields)
    if (number := whole_number(fields.get("channel_id"))) is None:
        fields.pop("channel_id", None)
    else:
        fields["channel_id"] = number
    if "content_duration_in_milliseconds" in fields:
        fields["content_duration_in_milliseconds"] = milliseconds(fields["content_duration_in_milliseconds"])
    part = NormalisedChannel(fields, sentences, sensevoice)
    whole = text_of(fields, "text")
    if whole is None:
        whole = join(sentence["text"] for sentence in part.sentences())
    elif sensevoice:
        whole = sensevoice_tags.strip_other_tags(sensevoice_tags.clean(whole))
    fields["text"] = whole
    return part


def around_sentences(fields: dict[str, Any]) -> tuple[bytes, bytes]:
    """The JSON before and after the sentences, including their brackets."""
    keys = list(fields)
    at = keys.index("sentences")
    before = orjson.dumps({key: fields[key] for key in keys[: at + 1]})
    after = orjson.dumps({key: fields[key] for key in keys[at + 1 :]})
    return before.removesuffix(b"]}"), b"]" + (b"," + after[1:] if len(after) > 2 else b"}")


def _properties(result: Mapping[str, msgspec.Raw], channels: list[NormalisedChannel]) -> dict[str, Any]:
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
    limit_depth(properties)
    return properties


def _mapping(result: Mapping[str, msgspec.Raw], key: str) -> dict[str, Any]:
    value = result.get(key)
    return _loads_object(value) if value is not None and _begins(value, b"{") else {}
