"""Copies transcripts to other files: a copy shares nothing with its original, so each can be deleted alone.

The document of a copy has its own id, job, URL and time. These stand in the head of the JSON, so only the first part
of the gzip stream is compressed again.
"""

import asyncio
import hashlib
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
import orjson
from sqlalchemy import ARRAY, LargeBinary, Row, bindparam, insert, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.identifiers import standard_uuid
from app.transcripts.models import Transcript
from app.transcripts.seekable_gzip import Channel, Index, Span, pack, unpack
from app.transcripts.storage import list_columns

# Compressed documents that are in memory at once, unless one is larger.
BATCH_BYTES = 8 * 1024 * 1024
_DEFLATE_WBITS = -zlib.MAX_WBITS
_TRAILER_BYTES = 8
_INFLATE_BYTES = 1024 * 1024
# As for small documents: a first part has little more than 64 KiB.
_LEVEL = 6


@dataclass(frozen=True, slots=True)
class TranscriptCopy:
    """A copy for one file of a job. `gzip_bytes`: size of the original's document. `row`: that of the copy."""

    original_id: UUID
    gzip_bytes: int
    row: Transcript


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A document with another head, compressed. `sha256` and `size_bytes` are those of the JSON."""

    gzip: bytes
    sha256: bytes
    size_bytes: int
    index: Index


async def copy_transcripts(session: AsyncSession, copies: Sequence[TranscriptCopy]) -> None:
    """Four statements for each BATCH_BYTES of documents.

    The originals must be locked against their deletion. The segments of the copies are indexed later, as all are.
    """
    for batch in _batches(copies):
        await _copy(session, batch)


def with_head(gzip: bytes, index: Index, changes: Mapping[str, Any]) -> Rewritten:
    """The document with other values in its head. Costs as much as inflating: 0.1 s for 12 hours of audio. Pure."""
    old = index.head
    first_end = old.at + old.length
    is_last = first_end == len(gzip)
    before = zlib.decompressobj(_DEFLATE_WBITS).decompress(gzip[old.at : first_end])
    head = _changed_head(before[: old.stop], changes)
    first = head + before[old.stop :]
    compressor = zlib.compressobj(_LEVEL, wbits=_DEFLATE_WBITS)
    compressed = compressor.compress(first) + compressor.flush(zlib.Z_FINISH if is_last else zlib.Z_FULL_FLUSH)
    rest = b"" if is_last else gzip[first_end:-_TRAILER_BYTES]
    sha256, crc, size = hashlib.sha256(), 0, 0
    for piece in (first, *_inflated(rest)):
        sha256.update(piece)
        crc = zlib.crc32(piece, crc)
        size += len(piece)
    trailer = struct.pack("<II", crc, size % 2**32)
    length = len(compressed) + (_TRAILER_BYTES if is_last else 0)
    moved = _moved(index, Span(old.at, length, 0, len(head)))
    return Rewritten(gzip[: old.at] + compressed + rest + trailer, sha256.digest(), size, moved)


def _changed_head(head: bytes, changes: Mapping[str, Any]) -> bytes:
    """The head is the document up to the first transcript. The values that do not change stay byte for byte."""
    values = msgspec.json.decode(head + b"]}", type=dict[str, msgspec.Raw])
    values |= {name: msgspec.Raw(orjson.dumps(value, option=orjson.OPT_UTC_Z)) for name, value in changes.items()}
    return msgspec.json.encode(values)[:-2]


def _moved(index: Index, head: Span) -> Index:
    """The places of all parts after the first part of the stream got the length of `head`."""
    old = index.head

    def move(span: Span) -> Span:
        if span.at == old.at:
            shift = head.stop - old.stop
            return Span(head.at, head.length, span.start + shift, span.stop + shift)
        return Span(span.at + head.length - old.length, span.length, span.start, span.stop)

    channels = [
        Channel(
            channel.channel_id,
            move(channel.before),
            move(channel.after),
            [msgspec.structs.replace(block, span=move(block.span)) for block in channel.blocks],
        )
        for channel in index.channels
    ]
    return Index(head, channels)


def _inflated(deflated: bytes) -> Iterator[bytes]:
    inflater = zlib.decompressobj(_DEFLATE_WBITS)
    while deflated:
        yield inflater.decompress(deflated, _INFLATE_BYTES)
        deflated = inflater.unconsumed_tail
    yield inflater.flush()


def _batches(copies: Sequence[TranscriptCopy]) -> Iterator[Sequence[TranscriptCopy]]:
    """Consecutive copies of up to BATCH_BYTES together."""
    start = size = 0
    for end, copy in enumerate(copies, 1):
        size += copy.gzip_bytes
        if size >= BATCH_BYTES or end == len(copies):
            yield copies[start:end]
            start, size = end, 0


async def _copy(session: AsyncSession, copies: Sequence[TranscriptCopy]) -> None:
    originals = [copy.original_id for copy in copies]
    found = await session.execute(_DOCUMENTS, {"ids": list(set(originals))})
    rows = {standard_uuid(row.transcript_id): row for row in found}
    documents = await asyncio.to_thread(_rewrite_all, rows, copies)
    pairs = {"ids": [copy.row.id for copy in copies], "originals": originals}
    await session.execute(insert(Transcript), [list_columns(copy.row) for copy in copies])
    await session.execute(
        _INSERT_BODIES,
        {
            **pairs,
            "gzips": [document.gzip for document in documents],
            "hashes": [document.sha256 for document in documents],
            "sizes": [document.size_bytes for document in documents],
            "indexes": [pack(document.index) for document in documents],
        },
    )
    await session.execute(_INSERT_SEGMENTS, {**pairs, "client_ids": [copy.row.client_id for copy in copies]})


def _rewrite_all(originals: Mapping[UUID, Row[Any]], copies: Iterable[TranscriptCopy]) -> list[Rewritten]:
    documents = []
    for copy in copies:
        original = originals[standard_uuid(copy.original_id)]
        head = {
            "id": copy.row.id,
            "job_id": standard_uuid(copy.row.job_id),
            "file_url": copy.row.file_url,
            "region": copy.row.region,
            "created_at": copy.row.created_at,
        }
        documents.append(with_head(original.document_gzip, unpack(original.document_index), head))
    return documents


_DOCUMENTS = text("""
    SELECT transcript_id, document_gzip, document_index FROM transcript_bodies WHERE transcript_id = ANY(:ids)
""")

_INSERT_BODIES = text("""
    INSERT INTO transcript_bodies (transcript_id, raw_gzip, raw_sha256, raw_bytes,
                                   document_gzip, document_sha256, document_bytes, document_index)
    SELECT copy.id, raw_gzip, raw_sha256, raw_bytes, copy.gzip, copy.sha256, copy.size_bytes, copy.document_index
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:originals AS uuid[]), CAST(:gzips AS bytea[]), CAST(:hashes AS bytea[]),
        CAST(:sizes AS bigint[]), CAST(:indexes AS bytea[])
    ) AS copy (id, original_id, gzip, sha256, size_bytes, document_index)
    JOIN transcript_bodies AS original ON original.transcript_id = copy.original_id
""").bindparams(*(bindparam(name, type_=ARRAY(LargeBinary)) for name in ("gzips", "hashes", "indexes")))

# A placeholder of a transcript that is older than search stays one: its segments are made later.
_INSERT_SEGMENTS = text("""
    INSERT INTO transcript_segments (transcript_id, number, client_id, texts)
    SELECT copy.id, original.number, copy.client_id, original.texts
    FROM unnest(CAST(:ids AS uuid[]), CAST(:originals AS uuid[]), CAST(:client_ids AS uuid[]))
        AS copy (id, original_id, client_id)
    JOIN transcript_segments AS original ON original.transcript_id = copy.original_id
""")
