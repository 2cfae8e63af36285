"""When each piece of a sentence is heard. Pure; whatever the upstream's times are, what comes out is in order."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from app.transcripts.lines import INSIDE, PLAIN, Piece, measure, split

# A named tuple's own constructor takes twice as long, and twelve hours have half a million of them.
_new = tuple.__new__


class _Word(NamedTuple):
    """`stop` counts the characters of the sentence up to the word's end, blanks left out. Times in milliseconds."""

    stop: int
    begin_time: int
    end_time: int


def pieces(sentence: Mapping[str, Any], columns: int) -> list[Piece]:
    """The sentence's text in pieces no wider than `columns`, begins in ascending order, no end before its begin.

    Times come from the words where these spell the text, else they are shared out by width: SenseVoice sends no
    words, qwen only on demand, and neither need Paraformer. The blanks are the sentence's own, so that Fun-ASR's
    blank before a Latin word and Paraformer's after it come out alike.
    """
    text = " ".join(sentence["text"].split())
    if not text:
        return []
    parts = split(text, columns)
    words = _words(sentence, text)
    return _by_words(parts, words) if words else _by_width(parts, sentence)


def _words(sentence: Mapping[str, Any], text: str) -> list[_Word]:
    """The words in order of the text; none unless together they are the text and each has its times."""
    words = sentence.get("words")
    if not words:
        return []
    try:
        spelled = [word["text"] + (word.get("punctuation") or "") for word in words]
        times = [(word["begin_time"], word["end_time"]) for word in words]
    except KeyError:
        return []
    whole = "".join(spelled)
    if whole.split() != [whole]:
        spelled = ["".join(characters.split()) for characters in spelled]
    if "".join(spelled) != text.replace(" ", ""):
        return []
    low = max(0, min(sentence["begin_time"], times[0][0]))
    return _in_order(spelled, times, low, max(low, sentence["end_time"], times[-1][1]))


def _in_order(spelled: Sequence[str], times: Sequence[tuple[int, int]], low: int, high: int) -> list[_Word]:
    """The words in order of the text, each begin moved up to the one before, and everything into low..high."""
    ordered: list[_Word] = []
    stop, earliest = 0, low
    for characters, (begin, end) in zip(spelled, times, strict=True):
        if not characters:
            continue
        stop += len(characters)
        if not earliest <= begin <= end <= high:
            begin = min(max(begin, earliest), high)  # noqa: PLW2901 - the usual case stays free of calls
            end = min(max(end, begin), high)  # noqa: PLW2901
        earliest = begin
        ordered.append(_new(_Word, (stop, begin, end)))
    return ordered


def _by_words(parts: Sequence[str], words: Sequence[_Word]) -> list[Piece]:
    """A piece that begins or ends inside a word gets its share of the word's time, by characters."""
    timed: list[Piece] = []
    following = iter(words)
    start, position = 0, 0
    stop, word_begin, word_end = next(following)
    for part in parts:
        columns, characters, blank, quality = measure(part)
        while position >= stop:
            start = stop
            stop, word_begin, word_end = next(following)
        begin = word_begin
        if position > start:
            begin += (word_end - word_begin) * (position - start) // (stop - start)
        position += characters
        while position > stop:
            start = stop
            stop, word_begin, word_end = next(following)
        end = word_end
        if position < stop:
            end = word_begin + (word_end - word_begin) * (position - start) // (stop - start)
            if quality == PLAIN and not blank:
                quality = INSIDE
        timed.append(_new(Piece, (part, columns, blank, quality, begin, end if end > begin else begin)))  # noqa: FURB136
    return timed


def _by_width(parts: Sequence[str], sentence: Mapping[str, Any]) -> list[Piece]:
    begin = max(0, sentence["begin_time"])
    span = max(0, sentence["end_time"] - begin)
    total = sum(measure(part).columns for part in parts) or 1
    timed, seen = [], 0
    for part in parts:
        columns, _, blank, quality = measure(part)
        start, seen = begin + span * seen // total, seen + columns
        timed.append(Piece(part, columns, blank, quality, start, begin + span * seen // total))
    return timed
