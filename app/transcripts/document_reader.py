"""Reads a stored document block by block: blocks that are not needed are neither fetched nor inflated. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import islice, zip_longest
from math import inf
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec
import orjson

from app.transcripts.seekable_gzip import Block, Index, ReadBytes, read_block, read_span
from app.transcripts.sentences import read_sentences
from app.transcripts.text import TimeOrdered, stated_duration

Reduce = Callable[[dict[str, Any]], dict[str, Any] | None]

# Bytes that are fetched at once by readers of the whole document.
READ_AHEAD_BYTES = 256 * 1024


class SentencePosition(NamedTuple):
    """The place of a sentence in a document, in order of time; sentences that begin together are in channel order."""

    begin_time: int
    channel: int  # index in `transcripts`
    number: int  # index in its `sentences`


class BlockEntry(NamedTuple):
    """A block and its place in the document. `first`: the earliest position that its first sentence can have."""

    first: SentencePosition
    block: Block

    @property
    def last(self) -> SentencePosition:
        """The latest position that its last sentence can have."""
        return SentencePosition(self.block.begins[1], self.first.channel, self.first.number + self.block.count - 1)


@dataclass(frozen=True, slots=True)
class SentenceFilters:
    """None: any. From `from_ms` to before `to_ms`, in milliseconds; `after`: last sentence of the page before."""

    channel_id: int | None = None
    speaker_id: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    after: SentencePosition | None = None


class _Head(msgspec.Struct):
    """The keys that are read from the head. msgspec skips all others without building them."""

    text: str
    file_url: str = ""
    properties: dict[str, Any] = {}


class StoredDocument:
    """A document with its index. `read` returns bytes of its gzip stream."""

    def __init__(self, index: Index, read: ReadBytes) -> None:
        self._index = index
        self._read = read

    @property
    def channel_ids(self) -> list[int]:
        return [channel.channel_id for channel in self._index.channels]

    @property
    def file_url(self) -> str:
        return self._head().file_url

    @property
    def audio_duration_ms(self) -> int | None:
        """The duration that upstream stated. None if it is unknown."""
        return stated_duration(self._head().properties)

    def text(self) -> str:
        return self._head().text

    def head(self) -> dict[str, Any]:
        """The members of the document before its transcripts."""
        members: dict[str, Any] = orjson.loads(read_span(self._index.head, self._read) + b"]}")
        return members

    def channel_fields(self, number: int) -> dict[str, Any]:
        """An entry of `transcripts`, with its sentences left out."""
        channel = self._index.channels[number]
        around = read_span(channel.before, self._read) + read_span(channel.after, self._read)
        fields: dict[str, Any] = orjson.loads(around.removeprefix(b","))
        return fields

    def channel_sentences(self, number: int) -> Iterator[dict[str, Any]]:
        """The sentences of an entry of `transcripts`, in their order."""
        read = read_ahead(self._read)
        for block in self._index.channels[number].blocks:
            yield from read_block(block, read)

    def transcripts(self, channel_id: int | None = None) -> list[Mapping[str, Any]]:
        """The entries of `transcripts` of one channel or of all; their sentences are read during iteration.

        The sentences have the form of `sentences.Sentence`.
        """
        return [self._transcript(number) for number in self._channel_numbers(channel_id)]

    def entries(self, channel_id: int | None = None) -> Iterator[BlockEntry]:
        for number in self._channel_numbers(channel_id):
            yield from self._entries_of(number)

    def sentences(
        self, entries: Iterable[BlockEntry], *, ahead: bool = False
    ) -> Iterator[tuple[SentencePosition, dict[str, Any]]]:
        """All sentences of these blocks in order of time. `ahead`: fetch more at once, because all will be read."""
        return _by_time(entries, read_ahead(self._read) if ahead else self._read)

    def _head(self) -> _Head:
        return msgspec.json.decode(read_span(self._index.head, self._read) + b"]}", type=_Head)

    def _channel_numbers(self, channel_id: int | None) -> list[int]:
        return [number for number, known in enumerate(self.channel_ids) if channel_id is None or known == channel_id]

    def _entries_of(self, channel: int) -> Iterator[BlockEntry]:
        number = 0
        for block in self._index.channels[channel].blocks:
            yield BlockEntry(SentencePosition(block.begins[0], channel, number), block)
            number += block.count

    def _transcript(self, number: int) -> dict[str, Any]:
        fields = self.channel_fields(number)
        entries = list(self._entries_of(number))
        fields["sentences"] = TimeOrdered(_Sentences(lambda: _by_time(entries, read_ahead(self._read), read_sentences)))
        return fields


class _Sentences:
    """Sentences without their positions; each iteration reads them again."""

    def __init__(self, start: Callable[[], Iterator[tuple[SentencePosition, dict[str, Any]]]]) -> None:
        self._start = start

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (sentence for _, sentence in self._start())


def find_sentences(
    document: StoredDocument, filters: SentenceFilters, limit: int, reduce: Reduce | None = None
) -> list[tuple[SentencePosition, dict[str, Any]]]:
    """Up to `limit` sentences in order of time over all channels, each with its `channel_id` added.

    `reduce` changes a sentence, or returns None to leave it out.
    """
    found = _matching_sentences(document, filters)
    if reduce is not None:
        changed = ((position, reduce(sentence)) for position, sentence in found)
        found = ((position, sentence) for position, sentence in changed if sentence is not None)
    return list(islice(found, limit))


def _matching_sentences(
    document: StoredDocument, filters: SentenceFilters
) -> Iterator[tuple[SentencePosition, dict[str, Any]]]:
    channel_ids = document.channel_ids
    entries = [entry for entry in document.entries(filters.channel_id) if _may_match(entry, filters)]
    for position, sentence in document.sentences(entries):
        if filters.to_ms is not None and position.begin_time >= filters.to_ms:
            return
        if _matches(position, sentence, filters):
            yield position, {**sentence, "channel_id": channel_ids[position.channel]}


def _may_match(entry: BlockEntry, filters: SentenceFilters) -> bool:
    speakers = entry.block.speakers
    return (
        (filters.after is None or entry.last > filters.after)
        and (filters.speaker_id is None or speakers is None or filters.speaker_id in speakers)
        and _overlaps(entry.first.begin_time, entry.block.end, filters)
    )


def _matches(position: SentencePosition, sentence: Mapping[str, Any], filters: SentenceFilters) -> bool:
    speaker = sentence.get("speaker_id")
    return (
        (filters.after is None or position > filters.after)
        and (filters.speaker_id is None or (speaker is not None and str(speaker) == filters.speaker_id))
        and _overlaps(sentence["begin_time"], sentence["end_time"], filters)
    )


def _overlaps(begin_time: int, end_time: int, filters: SentenceFilters) -> bool:
    """A sentence without duration counts as one millisecond long; an empty range contains nothing."""
    from_ms = -inf if filters.from_ms is None else filters.from_ms
    to_ms = inf if filters.to_ms is None else filters.to_ms
    return from_ms < to_ms and begin_time < to_ms and max(end_time, begin_time + 1) > from_ms


def read_ahead(read: ReadBytes) -> ReadBytes:
    """Like `read`, but fetches at least READ_AHEAD_BYTES, for readers that continue where they stopped."""
    at, fetched = 0, b""

    def ahead(wanted: int, length: int) -> bytes:
        nonlocal at, fetched
        if not at <= wanted <= wanted + length <= at + len(fetched):
            at, fetched = wanted, read(wanted, max(length, READ_AHEAD_BYTES))
        return fetched[wanted - at : wanted - at + length]

    return ahead


def _by_time(
    entries: Iterable[BlockEntry], read: ReadBytes, decode: Callable[[bytes], list[Any]] = orjson.loads
) -> Iterator[tuple[SentencePosition, Any]]:
    """Read a block only when all earlier sentences are out, so an ordered document needs about one block of memory."""
    plan = sorted(entries, key=lambda entry: entry.first)
    pending: list[tuple[SentencePosition, Any]] = []
    for entry, following in zip_longest(plan, plan[1:]):
        _, channel, first = entry.first
        sentences = enumerate(read_block(entry.block, read, decode), first)
        block = [(SentencePosition(each["begin_time"], channel, number), each) for number, each in sentences]
        block.sort(key=itemgetter(0))
        if not pending and (following is None or block[-1][0] < following.first):
            yield from block  # as in nearly all documents
            continue
        for each in block:
            heappush(pending, each)
        while pending and (following is None or pending[0][0] < following.first):
            yield heappop(pending)
