"""Whether a segment has what was asked for, and where: the index only says that it may. Pure."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from app.search.folding import BORDER, LETTER, UNSPACED, fold, open_borders, origins
from app.search.query import Part, Query
from app.search.segments import Row, Segment
from app.search.snippets import snippet

_WORD_BEGINS = re.compile(f"(?<!{LETTER})|(?<={UNSPACED})")
_WORD_ENDS = re.compile(f"(?!{LETTER})|(?={UNSPACED})")


@dataclass(frozen=True, slots=True)
class Match:
    """`row`: the number of the sentence in its segment, in the order of hits. Times in milliseconds."""

    row: int
    channel_id: int
    begin_time: int
    end_time: int
    speaker_id: Any
    snippet: str


class _Texts(NamedTuple):
    """The two forms of a text in which parts are looked for; places in them are the same."""

    folded: str
    opened: str

    def of(self, part: Part) -> str:
        return self.opened if part.over_borders else self.folded


@dataclass(frozen=True, slots=True)
class _Found:
    """Where one part of the query was found: in rows `first` to `last`, mostly the same."""

    first: int
    last: int


def matches(segment: Segment, query: Query, first_row: int = 0) -> Iterator[Match]:
    """One for each sentence that has all parts of the query; a part may go on in the sentences after it."""
    at = 0
    for text in segment.channels:
        found = _in_channel(text, query)
        if found:
            overlap, rows = segment.read_head()
            seen = {} if at else _in_overlap(text, overlap, query)
            sentences = text.split(BORDER)
            for row, (first, last) in found.items():
                if at + row >= first_row and row not in seen:
                    shown = BORDER.join(sentences[first : last + 1])
                    yield _match(rows[at + first : at + last + 1], shown, query, row=at + row)
        at += text.count(BORDER) + 1


def _in_overlap(text: str, rows: int, query: Query) -> dict[int, tuple[int, int]]:
    """What the segment before has found already."""
    return _in_channel(BORDER.join(text.split(BORDER)[:rows]), query) if rows else {}


def _in_channel(text: str, query: Query) -> dict[int, tuple[int, int]]:
    """By the row of each hit: the first and the last that it goes over."""
    texts = _texts(text, query)
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


def _texts(text: str, query: Query) -> _Texts:
    folded = fold(text)
    return _Texts(folded, open_borders(folded) if any(part.over_borders for part in query.parts) else folded)


def _by_row(part: Part, text: str, starts: Sequence[int]) -> dict[int, _Found]:
    """For each row the occurrence that begins last, so in the row itself if one does."""
    by_row: dict[int, _Found] = {}
    for start, stop in _spans(part, text):
        found = _Found(bisect_right(starts, start) - 1, bisect_right(starts, stop - 1) - 1)
        for row in range(found.first, found.last + 1):
            if row not in by_row or found.first > by_row[row].first:
                by_row[row] = found
    return by_row


def _spans(part: Part, text: str) -> Iterator[tuple[int, int]]:
    at = 0
    while found := part.pattern.search(text, at):
        start, stop = found.span()
        begins = not part.begins_word or _WORD_BEGINS.match(text, start)
        ends = not part.ends_word or _WORD_ENDS.match(text, stop)
        if begins and ends:
            yield start, stop
        # What goes over the end of a sentence may have the beginning of the next occurrence in it.
        at = stop if begins and ends and BORDER not in text[start:stop] else start + 1


def _match(rows: Sequence[Row], shown: str, query: Query, *, row: int) -> Match:
    channel_id, begin_time, _, speaker_id = rows[0]
    return Match(row, channel_id, begin_time, rows[-1][2], speaker_id, _snippet(shown, query))


def _snippet(text: str, query: Query) -> str:
    texts = _texts(text, query)
    spans = [span for part in query.parts for span in _spans(part, texts.of(part))]
    places = origins(text)
    if places is None:
        return snippet(texts.folded.replace(BORDER, " "), spans)
    marks = [(places[start], _end(places, stop)) for start, stop in spans]
    return snippet(text.replace(BORDER, " "), marks)


def _end(places: Sequence[int], stop: int) -> int:
    """Past the whole of a letter of which only a part was found: `ﬀ` and `㎏` are two each."""
    return places[bisect_right(places, places[stop - 1], stop)]
