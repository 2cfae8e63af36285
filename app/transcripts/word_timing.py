"""When each part of a sentence is heard. Pure; whatever the upstream's times are, what comes out is in order.

Twelve hours have 150,000 words and twice as many places where a line may end, of which a few thousand are chosen: so
words are kept in columns, and times worked out for the places that are asked for.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate, compress
from operator import le, sub
from typing import Any, NamedTuple

from app.transcripts.line_breaking import Passage, passage, width
from app.transcripts.text import strip_controls

# Breaks before which not all has been said, although all has begun.
MAX_UNFINISHED = 200


class Words(NamedTuple):
    """In order of the text; `stops` counts its characters up to each word's end, blanks left out. Milliseconds."""

    stops: Sequence[int]
    begins: Sequence[int]
    ends: Sequence[int]


class TimedSentence(NamedTuple):
    """A sentence and when it is heard. `positions` are those of the passage's breaks, as the words count."""

    passage: Passage
    positions: Sequence[int]
    words: Words

    def begin(self, index: int) -> int:
        """When what stands behind a break begins: ascending with the breaks."""
        stops = self.words.stops
        position = self.positions[index]
        return self._moment(bisect_right(stops, position, hi=len(stops) - 1), position)

    def end(self, index: int) -> int:
        """When what stands before a break has been said, and never before it began."""
        position = self.positions[index]
        return max(self._moment(bisect_left(self.words.stops, position), position), self.begin(index - 1))

    def said_by(self, moment: int, index: int, lowest: int) -> int:
        """The last break in `lowest`..`index` before which all has been said at that moment; else `lowest`.

        Words that have begun end soon. Where hundreds do not, their ends are wrong, and are not looked at further.
        """
        stops, begins, _ = self.words
        begun = bisect_right(begins, moment)
        index = min(index, bisect_right(self.positions, stops[begun - 1]) - 1) if begun else lowest
        looked_at_least = max(lowest, index - MAX_UNFINISHED)
        while index > looked_at_least and self.end(index) > moment:
            index -= 1
        return max(index, lowest)

    def silences(self, least_ms: int) -> list[int]:
        """The breaks at which nobody speaks for so long: they are between two words."""
        stops, begins, ends = self.words
        found = []
        for stop, end, begin in zip(stops, ends, begins[1:], strict=False):
            if begin - end >= least_ms:
                index = bisect_left(self.positions, stop)
                if self.positions[index] == stop and begin - self.end(index) >= least_ms:
                    found.append(index)
        return found

    def _moment(self, word: int, position: int) -> int:
        """Inside a word its share of the word's time, by characters."""
        stops, begins, ends = self.words
        start = stops[word - 1] if word else 0
        return begins[word] + (ends[word] - begins[word]) * (position - start) // (stops[word] - start)


def time_words(sentence: Mapping[str, Any], columns: int) -> TimedSentence | None:
    """The sentence's text with breaks such that nothing between two of them is wider than `columns`; None where there
    is nothing to be seen.

    Times come from the words where these spell the text, else they are shared out by width: SenseVoice sends no
    words, qwen only on demand, and neither need Paraformer. The blanks are the sentence's own, so that Fun-ASR's
    blank before a Latin word and Paraformer's after it come out alike.
    """
    text = " ".join(strip_controls(sentence["text"]).split())
    if not any(width(character) for character in text if character != " "):
        return None
    if words := _words(sentence, text):
        lines = passage(text, columns, frozenset(words.stops))
        return TimedSentence(lines, lines.solid, words)
    return _by_width(passage(text, columns), sentence)


def _words(sentence: Mapping[str, Any], text: str) -> Words | None:
    """None unless together they are the text and each has its times."""
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
    return Words(list(accumulate(map(len, filter(None, spelled)))), begins, ends)


def _in_order(begins: list[int], ends: list[int], low: int, high: int) -> tuple[list[int], list[int]]:
    """Each begin moved up to the one before, and everything into low..high."""
    if begins == sorted(begins) and all(map(le, begins, ends)) and low <= begins[0] and max(ends) <= high:
        return begins, ends
    begins = [min(max(begin, low), high) for begin in accumulate(begins, max)]
    return begins, [min(max(end, begin), high) for begin, end in zip(begins, ends, strict=True)]


def _by_width(lines: Passage, sentence: Mapping[str, Any]) -> TimedSentence:
    """As if the sentence were one word, whose characters are columns."""
    positions = [0, *accumulate(map(sub, lines.ends[1:], lines.begins))]
    begin = max(0, sentence["begin_time"])
    return TimedSentence(lines, positions, Words([positions[-1] or 1], [begin], [max(begin, sentence["end_time"])]))
