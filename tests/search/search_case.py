"""Transcripts of a few sentences, and the matches of a query in them."""

from typing import Any

from app.search.matching import Match, matches
from app.search.query import parse
from app.search.segments import Segment, Segments, segment_terms, unpack


def sentences(*texts: str, channel_id: int = 0) -> dict[str, Any]:
    """A channel with sentences of one second each."""
    timed = [
        {"begin_time": number * 1000, "end_time": number * 1000 + 900, "text": text}
        for number, text in enumerate(texts)
    ]
    return {"channel_id": channel_id, "sentences": timed}


def segmented(*channels: dict[str, Any], **sizes: int) -> list[Segment]:
    segments = Segments(**sizes)
    for channel in channels:
        segments.add_channel(channel)
    prepared = segments.finish()
    assert [each.number for each in prepared] == [*range(len(prepared))]
    return [unpack(each.texts) for each in prepared]


def find(q: str, *channels: dict[str, Any], **sizes: int) -> list[Match]:
    """Matches as in a search with the index: segments without the query's terms are not read."""
    query = parse(q)
    return [
        match
        for segment in segmented(*channels, **sizes)
        if {*query.terms} <= segment_terms(segment)
        for match in matches(segment, query)
    ]


def found(q: str, *texts: str) -> list[str]:
    """The snippets of the matches."""
    return [match.snippet for match in find(q, sentences(*texts))]
