"""One form for the result documents of all model families. Pure: bytes in, plain dictionaries and bytes out.

Sources: the founding document's samples; protocol pages of Fun-ASR, Paraformer, SenseVoice and qwen3 filetrans.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Any
from uuid import UUID

import orjson

from app.transcripts import tags
from app.transcripts.plain import join, text

# Half a century in milliseconds. Beyond it a time is damage, and arithmetic on it overflows a bigint somewhere.
_MAX_TIME_MS = 10**12
# orjson reads 1,024 levels but writes 254; the upstream's own documents have 7.
_MAX_DEPTH = 64
_WORD_KEYS = 4
_SPEAKER = re.compile(r"(?:spk)?([0-9]{1,9})")


class UnreadableResult(ValueError):
    """The bytes are no result document. The message says what is wrong and never quotes the contents."""


@dataclass(frozen=True, slots=True)
class Document:
    """A result document. `transcripts` has one entry per channel, with the upstream's keys; times in milliseconds.

    `file_url` is the client's: for oss:// inputs the upstream echoes another one.
    """

    file_url: str
    properties: dict[str, Any]
    transcripts: list[dict[str, Any]]
    text: str
    audio_duration_ms: int | None

    @property
    def channels(self) -> int:
        return len(self.transcripts)


def normalise(raw: bytes, *, file_url: str, family: str) -> Document:
    """The upstream's bytes as a document. Raises UnreadableResult, and nothing else.

    Keys that nobody knows stay where they are; those at the top level are left to the raw bytes.
    """
    result = _parse(raw)
    transcripts = _objects(result.get("transcripts"), "transcripts")
    for transcript in transcripts:
        _mend_transcript(transcript, sensevoice=family == "sensevoice")
    properties = _properties(result, transcripts)
    return Document(file_url, properties, transcripts, text(transcripts), _duration(properties, transcripts))


def silent(file_url: str) -> Document:
    """The transcript of a file without speech: the upstream sends an error code instead of a document."""
    return Document(file_url, properties={}, transcripts=[], text="", audio_duration_ms=None)


def serve(
    document: Document,
    *,
    id: UUID | str,  # noqa: A002 - the key's name in the contract
    job_id: UUID | str,
    model: str,
    region: str,
    created_at: datetime,
) -> bytes:
    """The JSON body of `GET /v1/transcripts/{id}`: UTF-8, compact, keys in the contract's order."""
    body = {
        "id": id,
        "job_id": job_id,
        "file_url": document.file_url,
        "model": model,
        "region": region,
        "created_at": created_at.astimezone(UTC),
        "text": document.text,
        "properties": document.properties,
        "transcripts": document.transcripts,
    }
    return orjson.dumps(body, option=orjson.OPT_UTC_Z)


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        result = orjson.loads(raw.removeprefix(b"\xef\xbb\xbf"))
    except ValueError:
        # `from None`: the parser's exception carries the document.
        raise UnreadableResult(f"the result is no JSON ({len(raw)} bytes)") from None
    if not isinstance(result, dict):
        raise UnreadableResult("the result is no JSON object")
    return result


def _objects(value: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(type(item) is dict for item in value):
        raise UnreadableResult(f"{name} is no list of objects")
    return value


def _mend_transcript(transcript: dict[str, Any], *, sensevoice: bool) -> None:
    sentences = transcript["sentences"] = _objects(transcript.get("sentences") or [], "sentences")
    _refuse_depth(transcript, known="sentences")
    if "channel_id" in transcript:
        transcript["channel_id"] = _integer(transcript["channel_id"], "channel_id")
    whole = _text(transcript, "text")
    for sentence in sentences:
        _mend_sentence(sentence)
        if sensevoice:
            _take_tags_out(sentence)
    if whole is None:
        transcript["text"] = join(sentence["text"] for sentence in sentences)
    elif sensevoice:
        transcript["text"] = tags.clean(whole)


def _mend_sentence(sentence: dict[str, Any]) -> None:
    _refuse_depth(sentence, known="words")
    for key in ("begin_time", "end_time"):
        sentence[key] = _milliseconds(sentence.get(key))
    if "speaker_id" in sentence:
        sentence["speaker_id"] = _speaker(sentence["speaker_id"])
    words = sentence.get("words")
    if words is None:
        sentence.pop("words", None)
        words = []
    for word in _objects(words, "words"):
        _mend_word(word)
    if _text(sentence, "text") is None:
        sentence["text"] = "".join(word["text"] + word.get("punctuation", "") for word in words).strip()


def _mend_word(word: dict[str, Any]) -> None:
    """Called 150,000 times for a long recording: what the upstream really sends passes by the first line."""
    begin, end = word.get("begin_time"), word.get("end_time")
    if not (type(begin) is type(end) is int and 0 <= begin <= _MAX_TIME_MS and 0 <= end <= _MAX_TIME_MS):
        for key in ("begin_time", "end_time"):
            if word.get(key) is None:
                word.pop(key, None)
            else:
                word[key] = _milliseconds(word[key])
    if not (type(word.get("text")) is type(word.get("punctuation")) is str):
        word["text"] = _text(word, "text") or ""
        if "punctuation" in word:
            word["punctuation"] = _text(word, "punctuation") or ""
    if len(word) > _WORD_KEYS:
        _refuse_depth(word)


def _take_tags_out(sentence: dict[str, Any]) -> None:
    """As the founding document's cleaner: found before cleaning, and no key where nothing was found."""
    tagged = sentence["text"]
    sentence["text"] = tags.clean(tagged)
    for key, found in (("emotion", tags.emotions(tagged)), ("event", tags.events(tagged))):
        sentence.pop(key, None)
        if found:
            sentence[key] = found


def _properties(result: dict[str, Any], transcripts: list[dict[str, Any]]) -> dict[str, Any]:
    """The upstream's, or for qwen3 what its `audio_info` says, under the names that the other families use."""
    properties = _mapping(result, "properties")
    audio = _mapping(result, "audio_info")
    if audio:
        channels = [transcript["channel_id"] for transcript in transcripts if "channel_id" in transcript]
        renamed = {
            "audio_format": audio.get("format"),
            "channels": channels,
            "original_sampling_rate": audio.get("sample_rate"),
        }
        properties = {key: value for key, value in renamed.items() if value is not None} | properties
    _refuse_depth(properties)
    return properties


def _duration(properties: dict[str, Any], transcripts: list[dict[str, Any]]) -> int | None:
    stated = properties.get("original_duration_in_milliseconds")
    if isinstance(stated, int | float) and stated is not True and 0 < stated <= _MAX_TIME_MS:
        return int(stated)
    return max((sentence["end_time"] for item in transcripts for sentence in item["sentences"]), default=None)


def _mapping(result: dict[str, Any], key: str) -> dict[str, Any]:
    value = result.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UnreadableResult(f"{key} is no object")
    return value


def _milliseconds(value: Any) -> int:
    """A time as the upstream should have sent it: whole, and not before the recording."""
    if type(value) not in (int, float) or not isfinite(value) or abs(value) > _MAX_TIME_MS:
        raise UnreadableResult("a time is no number of milliseconds")
    return max(0, int(value))


def _integer(value: Any, name: str) -> int:
    if type(value) not in (int, float, str) or not re.fullmatch(r"[0-9]{1,9}(\.0)?", str(value)):
        raise UnreadableResult(f"{name} is no whole number")
    return int(float(value))


def _speaker(value: Any) -> Any:
    """Documented as a number from 0, and on one page as "spk0": one person, one number."""
    if isinstance(value, str) and (match := _SPEAKER.fullmatch(value)):
        return int(match[1])
    if value is None or (type(value) in (int, float, str)):
        return value
    raise UnreadableResult("speaker_id is neither number nor string")


def _text(holder: Mapping[str, Any], key: str) -> str | None:
    value = holder.get(key)
    if value is not None and not isinstance(value, str):
        raise UnreadableResult(f"{key} is no string")
    return value


def _refuse_depth(holder: dict[str, Any], *, known: str = "") -> None:
    """Refuses what could be read but never be written again; `known` is the key that is walked elsewhere."""
    for key, value in holder.items():
        if type(value) in (dict, list) and key != known:
            _descend(value, _MAX_DEPTH)


def _descend(value: dict[str, Any] | list[Any], levels: int) -> None:
    if not levels:
        raise UnreadableResult(f"the result nests more than {_MAX_DEPTH} levels deep")
    for child in value.values() if isinstance(value, dict) else value:
        if type(child) in (dict, list):
            _descend(child, levels - 1)
