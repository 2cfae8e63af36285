"""Checks whether a segment matches a query, and cuts the snippets. The index only names candidates. Pure."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple

from app.search.folding import BORDER, LETTER, UNSPACED, fold, open_borders, origins
from app.search.query import Part, Query
from app.search.segments import Segment, SentenceRow

SNIPPET_LENGTH = 120
# Characters of a snippet before its first match.
SNIPPET_LEAD = 30
_CUT = "…"

_WORD_BEGINS = re.compile(f"(?<!{LETTER})|(?<={UNSPACED})")
_WORD_ENDS = re.compile(f"(?!{LETTER})|(?={UNSPACED})")

TextRange = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Match:
    """`row`: index of the sentence in its segment, in the order of hits. Times in milliseconds."""

    row: int
    channel_id: int
    begin_time: int
    end_time: int
    speaker_id: Any
    snippet: str


class _FoldedText(NamedTuple):
    """The two forms of a text that patterns are searched in. Offsets are the same in both."""

    folded: str
    opened: str

    def of(self, part: Part) -> str:
        return self.opened if part.over_borders else self.folded


@dataclass(frozen=True, slots=True)
class _Occurrence:
    """One part of the query was found in rows `first` to `last`, which mostly are the same."""

    first: int
    last: int


def matches(segment: Segment, query: Query, first_row: int = 0) -> Iterator[Match]:
    """One match for each sentence that contains all parts of the query; a part may continue in the next sentences."""
    at = 0
    for text in segment.channels:
        found = _in_channel(text, query)
        if found:
            overlap, rows = segment.read_head()
            sentences = text.split(BORDER)
            # The previous segment has reported the matches of the overlap already.
            seen = _in_channel(BORDER.join(sentences[:overlap]), query) if overlap and not at else {}
            for row, (first, last) in found.items():
                if at + row >= first_row and row not in seen:
                    passage = BORDER.join(sentences[first : last + 1])
                    yield _match(rows[at + first : at + last + 1], passage, query, row=at + row)
        at += text.count(BORDER) + 1


def _in_channel(text: str, query: Query) -> dict[int, tuple[int, int]]:
    """For the row of each match: its first and its last row."""
    texts = _fold(text, query)
    if not all(part.pattern.search(texts.of(part)) for part in query.parts):
        return {}
    starts = [0, *(found.end() for found in re.finditer(BORDER, texts.folded))]
    parts = [_by_row(part, texts.of(part), starts) for part in query.parts]
    hits: dict[int, tuple[int, int]] = {}
    for row in sorted(set.intersection(*({*part} for part in parts))):
        found = [part[row] for part in parts]
        if any(each.first == row for each in found):
            hits[row] = min(each.first for each in found), max(each.last for each in found)
    return hits


def _fold(text: str, query: Query) -> _FoldedText:
    folded = fold(text)
    return _FoldedText(folded, open_borders(folded) if any(part.over_borders for part in query.parts) else folded)


def _by_row(part: Part, text: str, starts: Sequence[int]) -> dict[int, _Occurrence]:
    """For each row the occurrence that begins last: in the row itself, if one does."""
    by_row: dict[int, _Occurrence] = {}
    for start, stop in _ranges(part, text):
        found = _Occurrence(bisect_right(starts, start) - 1, bisect_right(starts, stop - 1) - 1)
        for row in range(found.first, found.last + 1):
            if row not in by_row or found.first > by_row[row].first:
                by_row[row] = found
    return by_row


def _ranges(part: Part, text: str) -> Iterator[TextRange]:
    at = 0
    while found := part.pattern.search(text, at):
        start, stop = found.span()
        begins = not part.begins_word or _WORD_BEGINS.match(text, start)
        ends = not part.ends_word or _WORD_ENDS.match(text, stop)
        if begins and ends:
            yield start, stop
        # An occurrence over the end of a sentence may contain the beginning of the next occurrence.
        at = stop if begins and ends and BORDER not in text[start:stop] else start + 1


def _match(rows: Sequence[SentenceRow], passage: str, query: Query, *, row: int) -> Match:
    channel_id, begin_time, _, speaker_id = rows[0]
    return Match(row, channel_id, begin_time, rows[-1][2], speaker_id, _snippet_of(passage, query))


def _snippet_of(text: str, query: Query) -> str:
    texts = _fold(text, query)
    ranges = [found for part in query.parts for found in _ranges(part, texts.of(part))]
    places = origins(text)
    if places is None:
        return snippet(texts.folded.replace(BORDER, " "), ranges)
    # A match extends to the end of its last letter: `ﬀ` and `㎏` fold to two characters each.
    marks = [(places[start], places[bisect_right(places, places[stop - 1], stop)]) for start, stop in ranges]
    return snippet(text.replace(BORDER, " "), marks)


def snippet(text: str, marks: Iterable[TextRange]) -> str:
    """At most SNIPPET_LENGTH characters around the first mark, as HTML with `<mark>`. `marks` must not be empty."""
    joined = _joined(marks)
    begin = max(0, min(joined[0][0] - SNIPPET_LEAD, len(text) - SNIPPET_LENGTH))
    end = min(len(text), begin + SNIPPET_LENGTH)
    pieces, at = [_CUT] if begin else [], begin
    for start, stop in joined:
        if start >= end:
            break
        mark = escape(text[start : min(stop, end)], quote=False)
        pieces.append(f"{escape(text[at:start], quote=False)}<mark>{mark}</mark>")
        at = min(stop, end)
    pieces.append(escape(text[at:end], quote=False))
    return "".join(pieces) + (_CUT if end < len(text) else "")


def _joined(marks: Iterable[TextRange]) -> list[TextRange]:
    """In order; overlapping marks become one."""
    joined: list[TextRange] = []
    for start, stop in sorted(marks):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(stop, joined[-1][1])
        else:
            joined.append((start, stop))
    return joined
