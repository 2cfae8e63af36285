"""Checks and repairs the parts of an upstream's result. Pure.

Sources: the vendor's samples; protocol pages of Fun-ASR, Paraformer, SenseVoice and qwen3 filetrans.
"""

import re
from collections.abc import Mapping
from math import isfinite
from typing import Any

from app.transcripts import sensevoice_tags
from app.transcripts.text import MAX_TIME_MS, sentence_times

# orjson reads 1,024 levels but writes 254; upstream's documents have 7.
_MAX_DEPTH = 64
_WORD_KEYS = 4
# Escaped UTF-16: a surrogate pair, a lone surrogate, or an escaped backslash, after which no escape begins.
_HEX = rb"[0-9a-fA-F]{2}"
_SURROGATES = re.compile(rb"\\u[dD][89abAB]%b\\u[dD][c-fC-F]%b|(\\u[dD][89a-fA-F]%b)|\\\\" % (_HEX, _HEX, _HEX))
_DECIMAL = re.compile(r"-?[0-9]{1,13}(?:\.[0-9]{1,9})?")
_SPEAKER = re.compile(r"(?:spk)?([0-9]{1,9})")


class UnreadableResult(ValueError):
    """The bytes are no result document. The message names the fault and never quotes the contents."""


def replace_lone_surrogates(raw: bytes) -> bytes:
    """JSON with U+FFFD in place of each lone surrogate, such as half an emoji.

    Many encoders write lone surrogates and no parser here reads them. The transcript is billed, so it is repaired.
    """
    if rb"\ud" not in raw and rb"\uD" not in raw:
        return raw
    return _SURROGATES.sub(lambda found: rb"\ufffd" if found[1] else found[0], raw)


def repair_sentence(sentence: dict[str, Any], before: int = 0) -> None:
    """Check a sentence and fill in missing times and text. The transcript is billed, so it is repaired, not refused.

    A missing begin becomes `before`, the end of the previous sentence. A missing end becomes the begin. A sentence that
    begins after its first word begins with that word, and ends no earlier than its last word.
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
        _repair_word(word)
    if text_of(sentence, "text") is None:
        sentence["text"] = "".join(word["text"] + word.get("punctuation", "") for word in words).strip()
    sentence["begin_time"], sentence["end_time"] = sentence_times(sentence)


def _repair_word(word: dict[str, Any]) -> None:
    """Called 150,000 times for a long recording, so the usual form passes with one condition per key."""
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


def remove_tags(sentence: dict[str, Any]) -> None:
    """Clean a SenseVoice sentence and set `emotion` and `event`, which are absent if nothing is tagged."""
    tagged = sentence["text"]
    sentence["text"] = sensevoice_tags.strip_other_tags(sensevoice_tags.clean(tagged))
    for key, found in (("emotion", sensevoice_tags.emotions(tagged)), ("event", sensevoice_tags.events(tagged))):
        sentence.pop(key, None)
        if found:
            sentence[key] = found


def _objects(value: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(type(item) is dict for item in value):
        raise UnreadableResult(f"{name} is no list of objects")
    return value


def _milliseconds(value: Any) -> int:
    """A time as a whole, non-negative number of milliseconds."""
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
    """A speaker as a number: upstream documents a number from 0, on one page a string such as "spk0"."""
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
    """Refuse values that could be read but not written again. `known`: a key that is checked elsewhere."""
    for key, value in holder.items():
        if type(value) in (dict, list) and key != known:
            _descend(value, _MAX_DEPTH)


def _descend(value: dict[str, Any] | list[Any], levels: int) -> None:
    if not levels:
        raise UnreadableResult(f"the result nests more than {_MAX_DEPTH} levels deep")
    for child in value.values() if isinstance(value, dict) else value:
        if type(child) in (dict, list):
            _descend(child, levels - 1)
