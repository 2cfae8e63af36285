"""Times of the parts of a sentence. Pure; the times that come out ascend, whatever upstream sent.

Twelve hours of speech have 150,000 words and twice as many breaks, of which captions use a few thousand. So words are
stored as columns, and times are computed only for the breaks that are used.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate, compress
from operator import le, sub
from typing import Any, NamedTuple

from app.transcripts.line_breaking import BreakableText, find_breaks, width
from app.transcripts.text import one_line, spoken_times, strip_controls
from app.transcripts.word_alignment import TimedWord, align
from app.transcripts.word_breaks import breaks_at_words

# Breaks that are checked for words that have begun and not ended yet.
MAX_UNFINISHED = 200
# A silence of this length at the begin or the end of a sentence is not a part of its text.
EDGE_SILENCE_MS = 2000


class WordTimes(NamedTuple):
    """Words in the order of the text. `stops`: characters up to the end of each word, without spaces. Milliseconds."""

    stops: Sequence[int]
    begins: Sequence[int]
    ends: Sequence[int]


class TimedSentence(NamedTuple):
    """A sentence with the times of its words. `positions`: the breaks of `source`, counted as `words.stops`.

    `by_word`: the breaks are the ends of the words, and both have the same indexes.
    """

    source: BreakableText
    positions: Sequence[int]
    words: WordTimes
    by_word: bool = False

    def begin(self, index: int) -> int:
        """The time at which the text after a break begins. Ascends with the breaks."""
        if self.by_word:
            return self.words.begins[index]
        stops = self.words.stops
        position = self.positions[index]
        word = bisect_right(stops, position, hi=len(stops) - 1)
        # Words may overlap: no text inside a word begins after the next word does.
        return min([self._time_at(word, position), *self.words.begins[word + 1 : word + 2]])

    def end(self, index: int) -> int:
        """The time at which the text before a break ends, and never before it began."""
        if self.by_word:
            return self.words.ends[index - 1]
        position = self.positions[index]
        return max(self._time_at(bisect_left(self.words.stops, position), position), self.begin(index - 1))

    def last_break_before(self, moment: int, index: int, lowest: int) -> int:
        """The last break in `lowest`..`index` before which all words have ended by `moment`; otherwise `lowest`.

        At most MAX_UNFINISHED breaks are checked: if more words have begun and not ended, their ends are wrong.
        """
        stops, begins, ends = self.words
        if self.by_word and ends[index - 1] <= moment:
            return index
        begun = bisect_right(begins, moment)
        if self.by_word:
            index = min(index, max(begun, lowest))
            if index == lowest or ends[index - 1] <= moment:
                return index
        index = min(index, bisect_right(self.positions, stops[begun - 1]) - 1) if begun else lowest
        last_checked = max(lowest, index - MAX_UNFINISHED)
        while index > last_checked and self.end(index) > moment:
            index -= 1
        return max(index, lowest)

    def pauses(self, min_ms: int) -> list[int]:
        """The breaks between two words at which there is silence for at least `min_ms`."""
        stops, begins, ends = self.words
        if len(begins) < 2 or max(map(sub, begins[1:], ends)) < min_ms:
            return []
        found = []
        for stop, end, begin in zip(stops, ends, begins[1:], strict=False):
            if begin - end >= min_ms:
                index = bisect_left(self.positions, stop)
                if self.positions[index] == stop and begin - self.end(index) >= min_ms:
                    found.append(index)
        return found

    def _time_at(self, word: int, position: int) -> int:
        """The time of a position inside a word, by its share of the word's characters."""
        stops, begins, ends = self.words
        start = stops[word - 1] if word else 0
        return begins[word] + (ends[word] - begins[word]) * (position - start) // (stops[word] - start)


def time_words(sentence: Mapping[str, Any], columns: int) -> TimedSentence | None:
    """The sentence's text with breaks at most `columns` apart, and its times. None if no character is visible.

    The times are those of the words that are in the text. Text that no word spells shares the time between its
    neighbours, and a text without words the time of the sentence, by width: SenseVoice sends no words, qwen only on
    request, and Paraformer not always. Spaces come from the sentence's text, so Fun-ASR's space before a Latin word and
    Paraformer's after it give the same result.
    """
    text = one_line(sentence["text"])
    if not any(map(width, text.replace(" ", ""))):
        return None
    spoken = spoken_times(sentence)
    first, last = spoken or (sentence["begin_time"], sentence["end_time"])
    low = max(0, min(sentence["begin_time"], first))
    high = max(low, sentence["end_time"], last)
    if spoken and (timed := _words(sentence["words"], text, low, high)):
        words, spelled = timed
        if spelled and (source := breaks_at_words(text, spelled, words.stops, columns)):
            return TimedSentence(source, source.nonblank, words, by_word=True)
        source = find_breaks(text, columns, frozenset(words.stops))
        return TimedSentence(source, source.nonblank, words)
    return _by_width(find_breaks(text, columns), low, high)


class _Timed(NamedTuple):
    """`spelled`: the words with their punctuation, if together they are the text without its spaces; else empty."""

    words: WordTimes
    spelled: Sequence[str] = ()


def _words(words: Sequence[Mapping[str, Any]], text: str, low: int, high: int) -> _Timed | None:
    """The times of the words, or None if there are none for this text."""
    try:
        begins, ends = [word["begin_time"] for word in words], [word["end_time"] for word in words]
    except KeyError:
        timed = [word for word in words if "begin_time" in word and "end_time" in word]
        return _aligned(timed, text, low, high)
    spelled = _spelled(words)
    if " " in text or not text.isprintable() or "".join(spelled) != text:
        spelled = _without_blanks(spelled)
        if "".join(spelled) != text.replace(" ", ""):
            return _aligned(words, text, low, high)
    if not all(spelled):
        begins, ends = list(compress(begins, spelled)), list(compress(ends, spelled))
        spelled = list(filter(None, spelled))
    begins, ends = _in_order(begins, ends, low, high)
    return _Timed(_from_edges(WordTimes(list(accumulate(map(len, spelled))), begins, ends), low, high), spelled)


def _spelled(words: Sequence[Mapping[str, Any]]) -> list[str]:
    """The words with their punctuation, which nearly all models send with each word."""
    try:
        return [word["text"] + word["punctuation"] for word in words]
    except (KeyError, TypeError):
        return [word["text"] + (word.get("punctuation") or "") for word in words]


def _without_blanks(spelled: list[str]) -> list[str]:
    """The words without blanks and control characters."""
    whole = "".join(spelled)
    if not whole.isprintable():
        return ["".join(strip_controls(word).split()) for word in spelled]
    # Of all blanks only the space is printable.
    return [word.replace(" ", "") for word in spelled] if " " in whole else spelled


def _aligned(words: Sequence[Mapping[str, Any]], text: str, low: int, high: int) -> _Timed | None:
    """The times of a text that differs from its words. None if none of the words is in the text."""
    if not words:
        return None
    begins, ends = _in_order([word["begin_time"] for word in words], [word["end_time"] for word in words], low, high)
    pieces = align(text, [TimedWord(*word) for word in zip(_spelled(words), begins, ends, strict=True)], low, high)
    if pieces is None:
        return None
    stops, begins, ends = (list(column) for column in zip(*pieces, strict=True))
    return _Timed(_from_edges(WordTimes(stops, begins, ends), low, high))


def _from_edges(words: WordTimes, low: int, high: int) -> WordTimes:
    """The first word begins with the sentence and the last one ends with it, unless there is a silence between."""
    stops, begins, ends = words
    if low < begins[0] < low + EDGE_SILENCE_MS:
        begins = [low, *begins[1:]]
    if high - EDGE_SILENCE_MS < ends[-1] < high:
        ends = [*ends[:-1], high]
    return WordTimes(stops, begins, ends)


def _in_order(begins: list[int], ends: list[int], low: int, high: int) -> tuple[list[int], list[int]]:
    """Raise each begin to the begin before it, and limit all times to low..high."""
    if begins == sorted(begins) and all(map(le, begins, ends)) and low <= begins[0] and max(ends) <= high:
        return begins, ends
    begins = [min(max(begin, low), high) for begin in accumulate(begins, max)]
    return begins, [min(max(end, begin), high) for begin, end in zip(begins, ends, strict=True)]


def _by_width(source: BreakableText, low: int, high: int) -> TimedSentence:
    """Treats the sentence as one word, with columns in place of characters."""
    positions = [0, *accumulate(map(sub, source.ends[1:], source.begins))]
    return TimedSentence(source, positions, WordTimes([positions[-1] or 1], [low], [high]))
