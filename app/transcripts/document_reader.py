"""Reading a stored document piece by piece: what is not asked for is neither fetched nor inflated. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import heappop, heappush
from itertools import zip_longest
from typing import Any, NamedTuple

import msgspec
import orjson

from app.transcripts.seekable_gzip import Block, Index, Read, read_block, read_span
from app.transcripts.text import TimeOrdered

# Who goes through a whole document fetches so much of it at a time.
AHEAD_BYTES = 256 * 1024


class Position(NamedTuple):
    """Where a sentence stands among all of a document, in order of time: those that begin together by channel."""

    begin_time: int
    channel: int  # the place in `transcripts`
    number: int  # the place in its `sentences`


class Entry(NamedTuple):
    """A block where it stands. `first` is where its first sentence can be at the earliest."""

    first: Position
    block: Block

    @property
    def last(self) -> Position:
        """Where its last one can be at the latest."""
        return Position(self.block.begins[1], self.first.channel, self.first.number + self.block.count - 1)


class _Head(msgspec.Struct):
    """Skips everything else without building it."""

    text: str
    file_url: str = ""


class StoredDocument:
    """`read` gives bytes of the gzip stream, wherever they are."""

    def __init__(self, index: Index, read: Read) -> None:
        self._index = index
        self._read = read

    @property
    def channel_ids(self) -> list[int]:
        return [channel.channel_id for channel in self._index.channels]

    @property
    def file_url(self) -> str:
        return self._head().file_url

    def text(self) -> str:
        return self._head().text

    def transcripts(self, channel_id: int | None = None) -> list[Mapping[str, Any]]:
        """The entries of `transcripts` of one channel or of all, each with its sentences still to be read."""
        return [self._transcript(number) for number in self._chosen(channel_id)]

    def entries(self, channel_id: int | None = None) -> Iterator[Entry]:
        for channel in self._chosen(channel_id):
            yield from self._entries_of(channel)

    def sentences(self, entries: Iterable[Entry], *, ahead: bool = False) -> Iterator[tuple[Position, dict[str, Any]]]:
        """All sentences of these blocks in order of time. `ahead`: all of them will be wanted."""
        return _in_time(entries, read_ahead(self._read) if ahead else self._read)

    def _head(self) -> _Head:
        return msgspec.json.decode(read_span(self._index.head, self._read) + b"]}", type=_Head)

    def _chosen(self, channel_id: int | None) -> list[int]:
        return [number for number, known in enumerate(self.channel_ids) if channel_id is None or known == channel_id]

    def _entries_of(self, channel: int) -> Iterator[Entry]:
        number = 0
        for block in self._index.channels[channel].blocks:
            yield Entry(Position(block.begins[0], channel, number), block)
            number += block.count

    def _transcript(self, number: int) -> dict[str, Any]:
        channel = self._index.channels[number]
        around = read_span(channel.before, self._read) + read_span(channel.after, self._read)
        fields: dict[str, Any] = orjson.loads(around.removeprefix(b","))
        entries = list(self._entries_of(number))
        fields["sentences"] = TimeOrdered(_Once(lambda: _in_time(entries, read_ahead(self._read))))
        return fields


class _Once:
    """The sentences without their positions."""

    def __init__(self, start: Callable[[], Iterator[tuple[Position, dict[str, Any]]]]) -> None:
        self._start = start

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (sentence for _, sentence in self._start())


def read_ahead(read: Read) -> Read:
    """Fetches more than it is asked for, for who goes on where it stopped."""
    at, fetched = 0, b""

    def ahead(wanted: int, length: int) -> bytes:
        nonlocal at, fetched
        if not at <= wanted <= wanted + length <= at + len(fetched):
            at, fetched = wanted, read(wanted, max(length, AHEAD_BYTES))
        return fetched[wanted - at : wanted - at + length]

    return ahead


def _in_time(entries: Iterable[Entry], read: Read) -> Iterator[tuple[Position, dict[str, Any]]]:
    """A block is read when no sentence before it is left, so of a document in order hardly more than one is held."""
    plan = sorted(entries, key=lambda entry: entry.first)
    held: list[tuple[Position, dict[str, Any]]] = []
    for entry, following in zip_longest(plan, plan[1:]):
        _, channel, first = entry.first
        for number, sentence in enumerate(read_block(entry.block, read), first):
            heappush(held, (Position(sentence["begin_time"], channel, number), sentence))
        while held and (following is None or held[0][0] < following.first):
            yield heappop(held)
