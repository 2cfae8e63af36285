"""The parts of an upstream's result, checked and in the one form that is served. Pure.

Sources: the founding document's samples; protocol pages of Fun-ASR, Paraformer, SenseVoice and qwen3 filetrans.
"""

import re
from collections.abc import Mapping
from math import isfinite
from typing import Any

from app.transcripts import sensevoice_tags

# Half a century in milliseconds. Beyond it a time is damage, and arithmetic on it overflows a bigint somewhere.
MAX_TIME_MS = 10**12
# orjson reads 1,024 levels but writes 254; the upstream's own documents have 7.
_MAX_DEPTH = 64
_WORD_KEYS = 4
# Escaped UTF-16: both halves of a character, or one alone; and escaped backslashes, behind which nothing is escaped.
_HEX = rb"[0-9a-fA-F]{2}"
_HALVES = re.compile(rb"\\u[dD][89abAB]%b\\u[dD][c-fC-F]%b|(\\u[dD][89a-fA-F]%b)|\\\\" % (_HEX, _HEX, _HEX))
_DECIMAL = re.compile(r"-?[0-9]{1,13}(?:\.[0-9]{1,9})?")
_SPEAKER = re.compile(r"(?:spk)?([0-9]{1,9})")


class UnreadableResult(ValueError):
    """The bytes are no result document. The message says what is wrong and never quotes the contents."""


def whole_characters(raw: bytes) -> bytes:
    """JSON with U+FFFD for half a character, which many write and no parser here reads: a cut emoji is no reason to
    lose what was transcribed and billed."""
    if rb"\ud" not in raw and rb"\uD" not in raw:
        return raw
    return _HALVES.sub(lambda found: rb"\ufffd" if found[1] else found[0], raw)


def mend_sentence(sentence: dict[str, Any], before: int = 0) -> None:
    """Where it has no begin it begins at `before`, the end of the sentence before it; without an end it takes no time.

    What was transcribed is billed: it is not given up for a time that is missing.
    """
    refuse_depth(sentence, known="words")
    begin, end = sentence.get("begin_time"), sentence.get("end_time")
    sentence["begin_time"] = before if begin is None else _milliseconds(begin)
    sentence["end_time"] = sentence["begin_time"] if end is None else _milliseconds(end)
    if "speaker_id" in sentence:
        sentence["speaker_id"] = _speaker(sentence["speaker_id"])
    words = sentence.get("words")
    if words is None or words == {}:
        sentence.pop("words", None)
        words = []
    for word in _objects(words, "words"):
        _mend_word(word)
    if text_of(sentence, "text") is None:
        sentence["text"] = "".join(word["text"] + word.get("punctuation", "") for word in words).strip()


def _mend_word(word: dict[str, Any]) -> None:
    """Called 150,000 times for a long recording: what the upstream really sends passes by the first line."""
    begin, end = word.get("begin_time"), word.get("end_time")
    if not (type(begin) is type(end) is int and 0 <= begin <= MAX_TIME_MS and 0 <= end <= MAX_TIME_MS):
        for key in ("begin_time", "end_time"):
            if word.get(key) is None:
                word.pop(key, None)
            else:
                word[key] = _milliseconds(word[key])
    if not (type(word.get("text")) is type(word.get("punctuation")) is str):
        word["text"] = text_of(word, "text") or ""
        if "punctuation" in word:
            word["punctuation"] = text_of(word, "punctuation") or ""
    if len(word) > _WORD_KEYS:
        refuse_depth(word)


def take_tags_out(sentence: dict[str, Any]) -> None:
    """As the founding document's cleaner: found before cleaning, and no key where nothing was found."""
    tagged = sentence["text"]
    sentence["text"] = sensevoice_tags.clean(tagged)
    for key, found in (("emotion", sensevoice_tags.emotions(tagged)), ("event", sensevoice_tags.events(tagged))):
        sentence.pop(key, None)
        if found:
            sentence[key] = found


def _objects(value: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(type(item) is dict for item in value):
        raise UnreadableResult(f"{name} is no list of objects")
    return value


def _milliseconds(value: Any) -> int:
    """A time as the upstream should have sent it: a number, whole, and not before the recording."""
    if type(value) is str and _DECIMAL.fullmatch(value):
        value = float(value)
    if type(value) not in (int, float) or not isfinite(value) or abs(value) > MAX_TIME_MS:
        raise UnreadableResult("a time is no number of milliseconds")
    return max(0, int(value))


def integer(value: Any, name: str) -> int:
    if type(value) not in (int, float, str) or not re.fullmatch(r"[0-9]{1,9}(\.0)?", str(value)):
        raise UnreadableResult(f"{name} is no whole number")
    return int(float(value))


def _speaker(value: Any) -> Any:
    """Documented as a number from 0, and on one page as "spk0": one person, one number."""
    if isinstance(value, str) and (match := _SPEAKER.fullmatch(value)):
        return int(match[1])
    if type(value) is float:
        return int(value) if value.is_integer() and 0 <= value < 10**9 else str(value)
    if value is None or type(value) in (int, str):
        return value
    raise UnreadableResult("speaker_id is neither number nor string")


def text_of(holder: Mapping[str, Any], key: str) -> str | None:
    value = holder.get(key)
    if value is not None and not isinstance(value, str):
        raise UnreadableResult(f"{key} is no string")
    return value


def refuse_depth(holder: dict[str, Any], *, known: str = "") -> None:
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
