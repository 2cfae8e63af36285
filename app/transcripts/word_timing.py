"""Times of the parts of a sentence. Pure; the times that come out ascend, whatever upstream sent.

Twelve hours of speech have 150,000 words and twice as many breaks, of which captions use a few thousand. So words are
stored as columns, and times are computed only for the breaks that are used.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate, compress
from operator import sub
from typing import Any, NamedTuple, Protocol

import msgspec

from app.transcripts.line_breaking import BreakableText, find_breaks, width
from app.transcripts.sentences import Word
from app.transcripts.text import one_line, spoken_times, strip_controls
from app.transcripts.word_alignment import TimedWord, align
from app.transcripts.word_breaks import breaks_at_words

# Breaks that are checked for words that have begun and not ended yet.
MAX_UNFINISHED = 200
# A silence of this length at the begin or the end of a sentence is not a part of its text.
EDGE_SILENCE_MS = 2000


class TimedSentence(Protocol):
    """A sentence with the times of its breaks. Times are in milliseconds."""

    @property
    def source(self) -> BreakableText:
        """The text."""

    def begin(self, index: int) -> int:
        """The time at which the text after a break begins. Ascends with the breaks."""

    def end(self, index: int) -> int:
        """The time at which the text before a break ends, and never before it began."""

    def last_break_before(self, moment: int, index: int, lowest: int) -> int:
        """The last break in `lowest`..`index` before which all words have ended by `moment`; otherwise `lowest`.

        At most MAX_UNFINISHED breaks are checked: if more words have begun and not ended, their ends are wrong.
        """

    def pauses(self, min_ms: int) -> list[int]:
        """The breaks between two words at which there is silence for at least `min_ms`."""


class WordTimes(NamedTuple):
    """Words in the order of the text. `stops`: characters up to the end of each word, without spaces. Milliseconds."""

    stops: Sequence[int]
    begins: Sequence[int]
    ends: Sequence[int]


class TimedByWord(msgspec.Struct, frozen=True, gc=False):
    """A sentence with a break after each word and nowhere else. Break n + 1 is that after word n."""

    source: BreakableText
    begins: Sequence[int]
    ends: Sequence[int]

    def begin(self, index: int) -> int:
        return self.begins[index]

    def end(self, index: int) -> int:
        return self.ends[index - 1]

    def last_break_before(self, moment: int, index: int, lowest: int) -> int:
        ends = self.ends
        if ends[index - 1] <= moment:
            return index
        index = min(index, max(lowest, bisect_right(self.begins, moment)))
        last_checked = max(lowest, index - MAX_UNFINISHED)
        while index > last_checked and ends[index - 1] > moment:
            index -= 1
        return index

    def pauses(self, min_ms: int) -> list[int]:
        silences = list(map(sub, self.begins[1:], self.ends))
        if not silences or max(silences) < min_ms:
            return []
        return [index for index, silence in enumerate(silences, 1) if silence >= min_ms]


class TimedByCharacter(msgspec.Struct, frozen=True, gc=False):
    """A sentence with breaks anywhere. `positions`: its breaks, counted as `words.stops`."""

    source: BreakableText
    positions: Sequence[int]
    words: WordTimes

    def begin(self, index: int) -> int:
        stops = self.words.stops
        position = self.positions[index]
        word = bisect_right(stops, position, hi=len(stops) - 1)
        # Words may overlap: no text inside a word begins after the next word does.
        return min([self._time_at(word, position), *self.words.begins[word + 1 : word + 2]])

    def end(self, index: int) -> int:
        position = self.positions[index]
        return max(self._time_at(bisect_left(self.words.stops, position), position), self.begin(index - 1))

    def last_break_before(self, moment: int, index: int, lowest: int) -> int:
        begun = bisect_right(self.words.begins, moment)
        index = min(index, bisect_right(self.positions, self.words.stops[begun - 1]) - 1) if begun else lowest
        last_checked = max(lowest, index - MAX_UNFINISHED)
        while index > last_checked and self.end(index) > moment:
            index -= 1
        return max(index, lowest)

    def pauses(self, min_ms: int) -> list[int]:
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
    words = _columns(sentence.get("words") or ())
    spoken = spoken_times(sentence, words.begins, words.ends)
    low, high = sentence["begin_time"], sentence["end_time"]
    first, last = spoken or (low, high)
    if not 0 <= low <= first <= last <= high:  # the documents that normalise makes have such times
        low = max(0, min(low, first))
        high = max(low, high, last)
    if spoken and words.timed and (source := breaks_at_words(sentence["text"].strip(), words.spelled, columns)):
        begins, ends = _in_order(words.begins, words.ends, low, high)
        return TimedByWord(source, *_from_edges(begins, ends, low, high))
    text = one_line(sentence["text"])
    if not any(map(width, text.replace(" ", ""))):
        return None
    timed = _by_characters(words, text, columns, low, high) if spoken else None
    return timed or _by_width(find_breaks(text, columns)[0], low, high)


class _Columns(msgspec.Struct, frozen=True, gc=False):
    """The words of a sentence. `spelled`: with their marks. A time is None if upstream did not send it."""

    begins: Sequence[Any]
    ends: Sequence[Any]
    spelled: Sequence[str]

    @property
    def timed(self) -> bool:
        """Whether all words have both times."""
        # `all` is faster, but 0 is a time too.
        return (all(self.begins) and all(self.ends)) or (None not in self.begins and None not in self.ends)


def _columns(words: Sequence[Word]) -> _Columns:
    begins, ends, spelled = [], [], []
    for word in words:  # one loop takes two thirds of the time of three comprehensions
        begins.append(word.begin_time)
        ends.append(word.end_time)
        spelled.append(word.text + word.punctuation if word.punctuation else word.text)
    return _Columns(begins, ends, spelled)


def _by_characters(words: _Columns, text: str, columns: int, low: int, high: int) -> TimedSentence | None:
    """The text with the times of its words. None if no word is in the text."""
    times = _spelled(words, text, low, high) if words.timed else None
    times = times or _aligned(words, text, low, high)
    if times is None:
        return None
    source, positions = find_breaks(text, columns, frozenset(times.stops))
    begins, ends = _from_edges(times.begins, times.ends, low, high)
    return TimedByCharacter(source, positions, WordTimes(times.stops, begins, ends))


def _spelled(words: _Columns, text: str, low: int, high: int) -> WordTimes | None:
    """The times of words that together are the text, but for blanks and control characters. None for other words."""
    spelled = _without_blanks(words.spelled)
    if "".join(spelled) != text.replace(" ", ""):
        return None
    begins, ends = list(compress(words.begins, spelled)), list(compress(words.ends, spelled))
    stops = accumulate(map(len, filter(None, spelled)))
    return WordTimes(list(stops), *_in_order(begins, ends, low, high))


def _without_blanks(words: Sequence[str]) -> Sequence[str]:
    whole = "".join(words)
    if not whole.isprintable():
        return ["".join(strip_controls(word).split()) for word in words]
    # Of all blanks only the space is printable.
    return [word.replace(" ", "") for word in words] if " " in whole else words


def _aligned(words: _Columns, text: str, low: int, high: int) -> WordTimes | None:
    """The times of a text that differs from its words. None if none of the words is in the text."""
    timed = [begin is not None and end is not None for begin, end in zip(words.begins, words.ends, strict=True)]
    if not any(timed):
        return None
    begins, ends = _in_order(list(compress(words.begins, timed)), list(compress(words.ends, timed)), low, high)
    pieces = align(text, list(map(TimedWord, compress(words.spelled, timed), begins, ends)), low, high)
    return WordTimes(*zip(*pieces, strict=True)) if pieces else None


def _from_edges(begins: Sequence[int], ends: Sequence[int], low: int, high: int) -> tuple[Sequence[int], Sequence[int]]:
    """The first word begins with the sentence and the last one ends with it, unless there is a silence between."""
    if low < begins[0] < low + EDGE_SILENCE_MS:
        begins = [low, *begins[1:]]
    if high - EDGE_SILENCE_MS < ends[-1] < high:
        ends = [*ends[:-1], high]
    return begins, ends


def _in_order(begins: Sequence[int], ends: Sequence[int], low: int, high: int) -> tuple[Sequence[int], Sequence[int]]:
    """Raise each begin to the begin before it, and limit all times to low..high."""
    times = [*begins, *ends]
    times[::2], times[1::2] = begins, ends
    if low <= begins[0] and ends[-1] <= high and times == sorted(times):  # as in nearly all sentences
        return begins, ends
    begins = [min(max(begin, low), high) for begin in accumulate(begins, max)]
    return begins, [min(max(end, begin), high) for begin, end in zip(begins, ends, strict=True)]


def _by_width(source: BreakableText, low: int, high: int) -> TimedSentence:
    """Treats the sentence as one word, with columns in place of characters."""
    positions = [0, *accumulate(map(sub, source.ends[1:], source.begins))]
    return TimedByCharacter(source, positions, WordTimes([positions[-1] or 1], [low], [high]))
