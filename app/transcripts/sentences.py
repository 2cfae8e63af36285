"""Which sentences of a document are asked for, found by the blocks that can have them. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import Any

from app.transcripts.document_reader import Entry, Position, StoredDocument


@dataclass(frozen=True, slots=True)
class SentenceFilters:
    """None: any. Milliseconds from `from_ms` to before `to_ms`; `after` is the last sentence of the page before."""

    channel_id: int | None = None
    speaker_id: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    after: Position | None = None


def find_sentences(
    document: StoredDocument, filters: SentenceFilters, limit: int
) -> list[tuple[Position, dict[str, Any]]]:
    """In order of time over all channels; each as the document has it, and its channel."""
    return list(islice(_found(document, filters), limit))


def _found(document: StoredDocument, filters: SentenceFilters) -> Iterator[tuple[Position, dict[str, Any]]]:
    channel_ids = document.channel_ids
    entries = [entry for entry in document.entries(filters.channel_id) if _may_have(entry, filters)]
    for position, sentence in document.sentences(entries):
        if filters.to_ms is not None and position.begin_time >= filters.to_ms:
            return
        if _is_wanted(position, sentence, filters):
            yield position, {**sentence, "channel_id": channel_ids[position.channel]}


def _may_have(entry: Entry, filters: SentenceFilters) -> bool:
    speakers = entry.block.speakers
    return (
        (filters.after is None or entry.last > filters.after)
        and (filters.speaker_id is None or speakers is None or filters.speaker_id in speakers)
        and _overlaps(entry.first.begin_time, entry.block.end, filters)
    )


def _is_wanted(position: Position, sentence: Mapping[str, Any], filters: SentenceFilters) -> bool:
    speaker = sentence.get("speaker_id")
    return (
        (filters.after is None or position > filters.after)
        and (filters.speaker_id is None or (speaker is not None and str(speaker) == filters.speaker_id))
        and _overlaps(sentence["begin_time"], sentence["end_time"], filters)
    )


def _overlaps(begin_time: int, end_time: int, filters: SentenceFilters) -> bool:
    """What takes no time is there in its moment; a range that takes none has nothing in it."""
    from_ms = -inf if filters.from_ms is None else filters.from_ms
    to_ms = inf if filters.to_ms is None else filters.to_ms
    return from_ms < to_ms and begin_time < to_ms and max(end_time, begin_time + 1) > from_ms
