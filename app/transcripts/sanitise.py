"""Checks and repairs the parts of an upstream's result. Pure.

Sources: the vendor's samples; protocol pages of Fun-ASR, Paraformer, SenseVoice and qwen3 filetrans.
"""

import re
from collections.abc import Mapping
from math import isfinite
from typing import Any

import orjson

from app.transcripts import sensevoice_tags
from app.transcripts.text import MAX_TIME_MS, sentence_times

# orjson reads 1,024 levels but writes 254; upstream's documents have 7.
_MAX_DEPTH = 64
_WORD_KEYS = 4
_DECIMAL = re.compile(r"-?[0-9]{1,13}(?:\.[0-9]{1,9})?")
_WHOLE = re.compile(r"[0-9]{1,9}(?:\.0)?")
_SPEAKER = re.compile(r"(?:spk)?([0-9]{1,9})")


class UnreadableResult(ValueError):
    """The bytes are no result document. The message names the fault and never quotes the contents.

    `is_final`: the bytes are a complete JSON text of another form, so upstream will not send others.
    """

    def __init__(self, message: str, *, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_final = is_final


def repair_sentence(sentence: dict[str, Any], before: int = 0) -> None:
    """Fill in missing times and text. Any value of a wrong kind counts as missing.

    A missing begin becomes `before`, the end of the previous sentence. A missing end becomes the begin. A sentence that
    begins after its first word begins with that word, and ends no earlier than its last word, nor before its begin.
    """
    words = _repair_words(sentence)
    limit_depth(sentence, known="words")
    begin, end = milliseconds(sentence.get("begin_time")), milliseconds(sentence.get("end_time"))
    sentence["begin_time"] = begin = before if begin is None else begin
    sentence["end_time"] = begin if end is None else max(begin, end)
    if "speaker_id" in sentence:
        sentence["speaker_id"] = _speaker(sentence["speaker_id"])
    if type(sentence.get("sentence_id", 0)) is not int:
        sentence["sentence_id"] = whole_number(sentence["sentence_id"])
    if "event" in sentence and not _is_list_of_texts(sentence["event"]):
        sentence["event"] = None
    if type(sentence.get("text")) is not str:
        text = text_of(sentence, "text")
        if text is None:
            text = "".join(word["text"] + word.get("punctuation", "") for word in words).strip()
        sentence["text"] = text
    sentence["begin_time"], sentence["end_time"] = sentence_times(sentence)


def _repair_words(sentence: dict[str, Any]) -> list[dict[str, Any]]:
    """The words that are objects, each repaired. The key goes if its value is no list."""
    words = sentence.get("words")
    if type(words) is not list:
        sentence.pop("words", None)
        return []
    if not all(type(word) is dict for word in words):
        words = sentence["words"] = [word for word in words if type(word) is dict]
    for word in words:
        _repair_word(word)
    return words


def _repair_word(word: dict[str, Any]) -> None:
    """Called 150,000 times for a long recording, so the usual form passes with one condition per key."""
    begin, end = word.get("begin_time"), word.get("end_time")
    if not (type(begin) is type(end) is int and 0 <= begin <= end <= MAX_TIME_MS):
        _repair_word_times(word)
    if not (type(word.get("text")) is type(word.get("punctuation")) is str):
        word["text"] = text_of(word, "text") or ""
        if "punctuation" in word:
            word["punctuation"] = text_of(word, "punctuation") or ""
        limit_depth(word)
    if len(word) > _WORD_KEYS:
        limit_depth(word)


def _repair_word_times(word: dict[str, Any]) -> None:
    for key in ("begin_time", "end_time"):
        time = milliseconds(word.pop(key, None))
        if time is not None:
            word[key] = time
    if word.get("end_time", MAX_TIME_MS) < word.get("begin_time", 0):
        word["end_time"] = word["begin_time"]
    limit_depth(word)


def remove_tags(sentence: dict[str, Any]) -> None:
    """Clean a SenseVoice sentence and set `emotion` and `event`, which are absent if nothing is tagged."""
    tagged = sentence["text"]
    sentence["text"] = sensevoice_tags.strip_other_tags(sensevoice_tags.clean(tagged))
    for key, found in (("emotion", sensevoice_tags.emotions(tagged)), ("event", sensevoice_tags.events(tagged))):
        sentence.pop(key, None)
        if found:
            sentence[key] = found


def milliseconds(value: Any) -> int | None:
    """A time as a whole, non-negative number of milliseconds. None for anything but a number, also as plain digits."""
    if type(value) is str and _DECIMAL.fullmatch(value):
        value = float(value)
    if type(value) not in (int, float) or not isfinite(value) or abs(value) > MAX_TIME_MS:
        return None
    return max(0, int(value))


def whole_number(value: Any) -> int | None:
    """A number from 0 to 999,999,999, also as a string. None for any other value."""
    if type(value) not in (int, float, str) or not _WHOLE.fullmatch(str(value)):
        return None
    return int(float(value))


def _speaker(value: Any) -> int | str | None:
    """A speaker as a number: upstream documents a number from 0, on one page a string such as "spk0"."""
    if isinstance(value, str) and (match := _SPEAKER.fullmatch(value)):
        return int(match[1])
    if type(value) is float:
        return int(value) if value.is_integer() and 0 <= value < 10**9 else str(value)
    return value if type(value) in (int, str) else None


def text_of(holder: Mapping[str, Any], key: str) -> str | None:
    """The text, also if it is a number. None for any other value."""
    value = holder.get(key)
    if type(value) in (int, float):
        return orjson.dumps(value).decode()
    return value if isinstance(value, str) else None


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def limit_depth(holder: dict[str, Any], *, known: str = "") -> None:
    """Put null in place of values that nest too deeply to be written. `known`: a key that is checked elsewhere."""
    for key, value in holder.items():
        if type(value) in (dict, list) and key != known:
            _cut_below(value, _MAX_DEPTH)


def _cut_below(value: dict[str, Any] | list[Any], levels: int) -> None:
    places: Any = list(value) if isinstance(value, dict) else range(len(value))
    for place in places:
        child = value[place]
        if type(child) in (dict, list):
            if levels > 1:
                _cut_below(child, levels - 1)
            else:
                value[place] = None
