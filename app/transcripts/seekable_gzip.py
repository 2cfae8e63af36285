"""A stored document as one gzip stream of which any part can be read alone. Pure.

Deflate is flushed whole at borders of sentences, every 64 kB: for everybody an ordinary gzip stream, 3 % longer, and
for who has its index a row of blocks. A page of sentences inflates the few that it needs, captions one at a time.
"""

import hashlib
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import orjson

BLOCK_BYTES = 64 * 1024
# A block with more speakers does not list them: it is read, whoever is asked for.
MAX_SPEAKERS = 8

# Window bits of zlib for a gzip header, which then holds no time: equal contents make equal bytes.
GZIP_WBITS = zlib.MAX_WBITS | 16
# And for a part of the stream, which has no header.
_DEFLATE_WBITS = -zlib.MAX_WBITS

ReadBytes = Callable[[int, int], bytes]  # offset in the gzip stream, number of bytes


class Span(msgspec.Struct, array_like=True, frozen=True):
    """A piece of JSON: `start` and `stop` within what `length` bytes of the gzip stream from `at` on inflate to."""

    at: int
    length: int
    start: int
    stop: int


class Block(msgspec.Struct, array_like=True, frozen=True):
    """Sentences that follow each other, at least one: what is known of them without reading them.

    `begins` is the first and the last of their begins; at `end` all are over, also those that take no time.
    """

    span: Span
    count: int
    begins: tuple[int, int]
    end: int
    speakers: tuple[str, ...] | None


class Channel(msgspec.Struct, array_like=True, frozen=True):
    """An entry of `transcripts`: its JSON up to its sentences, and after them. Whose `channel_id` is missing is 0."""

    channel_id: int
    before: Span
    after: Span
    blocks: list[Block]


class Index(msgspec.Struct, array_like=True, frozen=True):
    """Where everything is. `head` is the JSON up to the first transcript."""

    head: Span
    channels: list[Channel]


class Written(msgspec.Struct, frozen=True):
    """A document, compressed. `sha256` and `size_bytes` are those of the JSON; `end_time` that of its last sentence."""

    gzip: bytes
    sha256: bytes
    size_bytes: int
    index: Index
    end_time: int | None


class GzipWriter:
    """Takes a document's JSON in pieces, from the first byte to the last, and keeps only what is compressed."""

    def __init__(self, level: int, *, block_bytes: int = BLOCK_BYTES) -> None:
        self._stream = _Stream(level, block_bytes)
        self._block_bytes = block_bytes
        self._head = self._stream.add(b"")
        self._channels: list[_OpenChannel] = []
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._facts = _Facts()
        self._end_time: int | None = None

    def head(self, json: bytes) -> None:
        self._head = self._stream.add(json)

    def open_channel(self, channel_id: int, json: bytes) -> None:
        self._channels.append(_OpenChannel(channel_id, self._stream.add(json)))

    def add(self, sentence: Mapping[str, Any]) -> None:
        """The next sentence of the open channel."""
        json = orjson.dumps(sentence)
        self._waiting.append(json)
        self._waiting_bytes += len(json)
        self._facts.note(sentence)
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
        channel.blocks.append((piece, len(self._waiting), self._facts))
        self._waiting, self._waiting_bytes, self._facts = [], 0, _Facts()


def pack(index: Index) -> bytes:
    return msgspec.msgpack.encode(index)


def unpack(packed: bytes) -> Index:
    return msgspec.msgpack.decode(packed, type=Index)


def read_span(span: Span, read: ReadBytes) -> bytes:
    """The piece's JSON, inflated without what stands before it in the stream."""
    compressed = read(span.at, span.length)
    return zlib.decompressobj(_DEFLATE_WBITS).decompress(compressed, span.stop)[span.start :]


def read_block(block: Block, read: ReadBytes) -> list[dict[str, Any]]:
    sentences: list[dict[str, Any]] = orjson.loads(b"[%b]" % read_span(block.span, read))
    return sentences


class _Facts:
    """What a block's sentences have in common, gathered while they pass."""

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
    def __init__(self, channel_id: int, before: "_Piece") -> None:
        self.channel_id = channel_id
        self.before = before
        self.after = before
        self.blocks: list[tuple[_Piece, int, _Facts]] = []

    def closed(self) -> Channel:
        blocks = [_block(*block) for block in self.blocks]
        return Channel(self.channel_id, self.before.span(), self.after.span(), blocks)


def _block(piece: "_Piece", count: int, facts: _Facts) -> Block:
    speakers = tuple(sorted(facts.speakers)) if len(facts.speakers) <= MAX_SPEAKERS else None
    return Block(piece.span(), count, facts.begins or (0, 0), facts.end, speakers)


class _Part:
    """What lies between two flushes. `length` is known once it has been flushed."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.length = 0
        self.size_bytes = 0


class _Piece(msgspec.Struct, frozen=True):
    part: _Part
    start: int
    stop: int

    def span(self) -> Span:
        return Span(self.part.at, self.part.length, self.start, self.stop)


class _Stream:
    """Compresses pieces, and flushes behind one once enough of them have come: no piece is torn."""

    def __init__(self, level: int, part_bytes: int) -> None:
        self._compressor = zlib.compressobj(level, wbits=GZIP_WBITS)
        self._part_bytes = part_bytes
        self._gzip: list[bytes] = []
        self._gzip_bytes = 0
        # The gzip header comes out with the first bytes; it is no part of what can be inflated alone.
        self._part = _Part(10)
        self.sha256 = hashlib.sha256()
        self.size_bytes = 0

    def add(self, json: bytes) -> _Piece:
        self._keep(self._compressor.compress(json))
        self.sha256.update(json)
        self.size_bytes += len(json)
        part, start = self._part, self._part.size_bytes
        part.size_bytes += len(json)
        if part.size_bytes >= self._part_bytes:
            self._keep(self._compressor.flush(zlib.Z_FULL_FLUSH))
            part.length = self._gzip_bytes - part.at
            self._part = _Part(self._gzip_bytes)
        return _Piece(part, start, part.size_bytes)

    def finish(self) -> bytes:
        self._keep(self._compressor.flush())
        self._part.length = self._gzip_bytes - self._part.at
        return b"".join(self._gzip)

    def _keep(self, compressed: bytes) -> None:
        self._gzip.append(compressed)
        self._gzip_bytes += len(compressed)
