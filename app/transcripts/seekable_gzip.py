"""Gzip streams with an index, of which any block can be inflated alone. Pure.

The compressor is flushed completely between sentences, every 64 KiB. The result is an ordinary gzip stream, 3 %
longer. With the index, a page of sentences inflates only the blocks that it needs, and captions one block at a time.
"""

import hashlib
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import orjson

BLOCK_BYTES = 64 * 1024
# A block with more speakers does not list them, and every filter by speaker reads it.
MAX_SPEAKERS = 8

# zlib's window bits for a gzip header. zlib writes no time into it, so equal contents give equal bytes.
GZIP_WBITS = zlib.MAX_WBITS | 16
# For a part of the stream, which has no header.
_DEFLATE_WBITS = -zlib.MAX_WBITS

ReadBytes = Callable[[int, int], bytes]  # offset in the gzip stream, number of bytes


class Span(msgspec.Struct, array_like=True, frozen=True):
    """A piece of JSON: bytes `start` to `stop` of the inflated `length` bytes of the gzip stream from `at` on."""

    at: int
    length: int
    start: int
    stop: int


class Block(msgspec.Struct, array_like=True, frozen=True):
    """One or more consecutive sentences, described without reading them.

    `begins`: the smallest and the largest begin. `end`: the largest end; a sentence without duration takes 1 ms.
    """

    span: Span
    count: int
    begins: tuple[int, int]
    end: int
    speakers: tuple[str, ...] | None


class Channel(msgspec.Struct, array_like=True, frozen=True):
    """An entry of `transcripts`: its JSON before and after its sentences. `channel_id` is 0 if upstream sent none."""

    channel_id: int
    before: Span
    after: Span
    blocks: list[Block]


class Index(msgspec.Struct, array_like=True, frozen=True):
    """The places of all parts of a document. `head`: the JSON up to the first transcript."""

    head: Span
    channels: list[Channel]


class Written(msgspec.Struct, frozen=True):
    """A compressed document. `sha256` and `size_bytes` are those of the JSON; `end_time`: latest end of a sentence."""

    gzip: bytes
    sha256: bytes
    size_bytes: int
    index: Index
    end_time: int | None


class GzipWriter:
    """Compresses the JSON of a document, which is added in pieces in order. Only compressed bytes stay in memory."""

    def __init__(self, level: int, *, block_bytes: int = BLOCK_BYTES) -> None:
        self._stream = _Stream(level, block_bytes)
        self._block_bytes = block_bytes
        self._head = self._stream.add(b"")
        self._channels: list[_OpenChannel] = []
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._block_facts = _BlockFacts()
        self._end_time: int | None = None

    def head(self, json: bytes) -> None:
        self._head = self._stream.add(json)

    def open_channel(self, channel_id: int, json: bytes) -> None:
        self._channels.append(_OpenChannel(channel_id, self._stream.add(json)))

    def add(self, sentence: Mapping[str, Any]) -> None:
        """Add the next sentence of the open channel."""
        json = orjson.dumps(sentence)
        self._waiting.append(json)
        self._waiting_bytes += len(json)
        self._block_facts.note(sentence)
        self._end_time = max(self._end_time or 0, sentence["end_time"])
        if self._waiting_bytes >= self._block_bytes:
            self._close_block()

    def close_channel(self, json: bytes) -> None:
        self._close_block()
        self._channels[-1].after = self._stream.add(json)

    def finish(self, json: bytes) -> Written:
        self._stream.add(json)
        gzip = self._stream.finish()
        index = Index(self._head.span(), [channel.closed() for channel in self._channels])
        return Written(gzip, self._stream.sha256.digest(), self._stream.size_bytes, index, self._end_time)

    def _close_block(self) -> None:
        if not self._waiting:
            return
        channel = self._channels[-1]
        if channel.blocks:
            self._stream.add(b",")
        piece = self._stream.add(b",".join(self._waiting))
        channel.blocks.append((piece, len(self._waiting), self._block_facts))
        self._waiting, self._waiting_bytes, self._block_facts = [], 0, _BlockFacts()


def pack(index: Index) -> bytes:
    return msgspec.msgpack.encode(index)


def unpack(packed: bytes) -> Index:
    return msgspec.msgpack.decode(packed, type=Index)


def read_span(span: Span, read: ReadBytes) -> bytes:
    """The JSON of a span, inflated without the stream before it."""
    compressed = read(span.at, span.length)
    return zlib.decompressobj(_DEFLATE_WBITS).decompress(compressed, span.stop)[span.start :]


def read_block(block: Block, read: ReadBytes, decode: Callable[[bytes], list[Any]] = orjson.loads) -> list[Any]:
    """The sentences of a block. `decode`: makes them of a JSON array."""
    return decode(b"[%b]" % read_span(block.span, read))


class _BlockFacts:
    """Collects the begins, the end and the speakers of a block while its sentences are added."""

    def __init__(self) -> None:
        self.begins: tuple[int, int] | None = None
        self.end = 0
        self.speakers: set[str] = set()

    def note(self, sentence: Mapping[str, Any]) -> None:
        begin = sentence["begin_time"]
        end = max(sentence["end_time"], begin + 1)
        first, last = self.begins or (begin, begin)
        self.end = max(self.end, end) if self.begins else end
        self.begins = min(first, begin), max(last, begin)
        speaker = sentence.get("speaker_id")
        if speaker is not None and len(self.speakers) <= MAX_SPEAKERS:
            self.speakers.add(str(speaker))


class _OpenChannel:
    def __init__(self, channel_id: int, before: "_JsonPiece") -> None:
        self.channel_id = channel_id
        self.before = before
        self.after = before
        self.blocks: list[tuple[_JsonPiece, int, _BlockFacts]] = []

    def closed(self) -> Channel:
        blocks = [_block(*block) for block in self.blocks]
        return Channel(self.channel_id, self.before.span(), self.after.span(), blocks)


def _block(piece: "_JsonPiece", count: int, facts: _BlockFacts) -> Block:
    speakers = tuple(sorted(facts.speakers)) if len(facts.speakers) <= MAX_SPEAKERS else None
    return Block(piece.span(), count, facts.begins or (0, 0), facts.end, speakers)


class _FlushedPart:
    """The stream between two flushes. `length` is set by the flush."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.length = 0
        self.size_bytes = 0


class _JsonPiece(msgspec.Struct, frozen=True):
    part: _FlushedPart
    start: int
    stop: int

    def span(self) -> Span:
        return Span(self.part.at, self.part.length, self.start, self.stop)


class _Stream:
    """Compresses pieces. Flushes after a piece once there are `part_bytes`, so no piece is divided."""

    def __init__(self, level: int, part_bytes: int) -> None:
        self._compressor = zlib.compressobj(level, wbits=GZIP_WBITS)
        self._part_bytes = part_bytes
        self._gzip: list[bytes] = []
        self._gzip_bytes = 0
        # The first part begins after the gzip header, which has 10 bytes.
        self._part = _FlushedPart(10)
        self.sha256 = hashlib.sha256()
        self.size_bytes = 0

    def add(self, json: bytes) -> _JsonPiece:
        self._append(self._compressor.compress(json))
        self.sha256.update(json)
        self.size_bytes += len(json)
        part, start = self._part, self._part.size_bytes
        part.size_bytes += len(json)
        if part.size_bytes >= self._part_bytes:
            self._append(self._compressor.flush(zlib.Z_FULL_FLUSH))
            part.length = self._gzip_bytes - part.at
            self._part = _FlushedPart(self._gzip_bytes)
        return _JsonPiece(part, start, part.size_bytes)

    def finish(self) -> bytes:
        self._append(self._compressor.flush())
        self._part.length = self._gzip_bytes - self._part.at
        return b"".join(self._gzip)

    def _append(self, compressed: bytes) -> None:
        self._gzip.append(compressed)
        self._gzip_bytes += len(compressed)
