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
from app.transcripts.text import strip_controls

# Breaks that are checked for words that have begun and not ended yet.
MAX_UNFINISHED = 200


class WordTimes(NamedTuple):
    """Words in the order of the text. `stops`: characters up to the end of each word, without spaces. Milliseconds."""

    stops: Sequence[int]
    begins: Sequence[int]
    ends: Sequence[int]


class TimedSentence(NamedTuple):
    """A sentence with the times of its words. `positions`: the breaks of `source`, counted as `words.stops`."""

    source: BreakableText
    positions: Sequence[int]
    words: WordTimes

    def begin(self, index: int) -> int:
        """The time at which the text after a break begins. Ascends with the breaks."""
        stops = self.words.stops
        position = self.positions[index]
        word = bisect_right(stops, position, hi=len(stops) - 1)
        # Words may overlap: no text inside a word begins after the next word does.
        return min([self._time_at(word, position), *self.words.begins[word + 1 : word + 2]])

    def end(self, index: int) -> int:
        """The time at which the text before a break ends, and never before it began."""
        position = self.positions[index]
        return max(self._time_at(bisect_left(self.words.stops, position), position), self.begin(index - 1))

    def last_break_before(self, moment: int, index: int, lowest: int) -> int:
        """The last break in `lowest`..`index` before which all words have ended by `moment`; otherwise `lowest`.

        At most MAX_UNFINISHED breaks are checked: if more words have begun and not ended, their ends are wrong.
        """
        stops, begins, _ = self.words
        begun = bisect_right(begins, moment)
        index = min(index, bisect_right(self.positions, stops[begun - 1]) - 1) if begun else lowest
        last_checked = max(lowest, index - MAX_UNFINISHED)
        while index > last_checked and self.end(index) > moment:
            index -= 1
        return max(index, lowest)

    def pauses(self, min_ms: int) -> list[int]:
        """The breaks between two words at which there is silence for at least `min_ms`."""
        stops, begins, ends = self.words
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

    The times are those of the words if the words spell the text. Otherwise the sentence's time is divided by width:
    SenseVoice sends no words, qwen only on request, and Paraformer not always. Spaces come from the sentence's text,
    so Fun-ASR's space before a Latin word and Paraformer's after it give the same result.
    """
    text = " ".join(strip_controls(sentence["text"]).split())
    if not any(width(character) for character in text if character != " "):
        return None
    if words := _words(sentence, text):
        source = find_breaks(text, columns, frozenset(words.stops))
        return TimedSentence(source, source.nonblank, words)
    return _by_width(find_breaks(text, columns), sentence)


def _words(sentence: Mapping[str, Any], text: str) -> WordTimes | None:
    """None unless the words together are the text and each has its times."""
    words = sentence.get("words")
    if not words:
        return None
    try:
        spelled = [word["text"] + (word.get("punctuation") or "") for word in words]
        begins = [word["begin_time"] for word in words]
        ends = [word["end_time"] for word in words]
    except KeyError:
        return None
    whole = "".join(spelled)
    if whole.split() != [strip_controls(whole)]:
        spelled = ["".join(strip_controls(characters).split()) for characters in spelled]
        whole = "".join(spelled)
    if whole != text.replace(" ", ""):
        return None
    low = max(0, min(sentence["begin_time"], begins[0]))
    high = max(low, sentence["end_time"], ends[-1])
    if not all(spelled):
        begins, ends = list(compress(begins, spelled)), list(compress(ends, spelled))
    begins, ends = _in_order(begins, ends, low, high)
    return WordTimes(list(accumulate(map(len, filter(None, spelled)))), begins, ends)


def _in_order(begins: list[int], ends: list[int], low: int, high: int) -> tuple[list[int], list[int]]:
    """Raise each begin to the begin before it, and limit all times to low..high."""
    if begins == sorted(begins) and all(map(le, begins, ends)) and low <= begins[0] and max(ends) <= high:
        return begins, ends
    begins = [min(max(begin, low), high) for begin in accumulate(begins, max)]
    return begins, [min(max(end, begin), high) for begin, end in zip(begins, ends, strict=True)]


def _by_width(source: BreakableText, sentence: Mapping[str, Any]) -> TimedSentence:
    """Treats the sentence as one word, with columns in place of characters."""
    positions = [0, *accumulate(map(sub, source.ends[1:], source.begins))]
    begin = max(0, sentence["begin_time"])
    words = WordTimes([positions[-1] or 1], [begin], [max(begin, sentence["end_time"])])
    return TimedSentence(source, positions, words)
