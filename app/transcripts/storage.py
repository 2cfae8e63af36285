"""Stores transcripts. Bodies are compressed before the transaction and served as they are stored."""

import asyncio
import gzip
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import DIALECT
from app.search.indexing import INSERT_SEGMENTS, insert_segments, segment_columns
from app.search.segments import PreparedSegment, Segments
from app.transcripts.audio_keys import audio_key
from app.transcripts.models import Transcript, TranscriptBody
from app.transcripts.normalise import Document, write_document
from app.transcripts.seekable_gzip import GzipWriter, Index, Span, Written, pack

# Documents up to this size are compressed at level 6.
_SMALL_BYTES = 1024 * 1024
# The document of an unreadable result: its size of 0 bytes tells it apart, because JSON has at least one.
_NO_DOCUMENT = Written(b"", hashlib.sha256(b"").digest(), 0, Index(Span(0, 0, 0, 0), []), None)
# Transcripts from before there was search. A call locks them, so a deletion may wait for as long.
_OLD_BATCH = 100
_OLD_S = 0.1


@dataclass(frozen=True, slots=True)
class CompressedBody:
    """A body to be stored. `sha256` and `size_bytes` are those of the contents before compression."""

    gzip: bytes
    sha256: bytes
    size_bytes: int


@dataclass(frozen=True, slots=True)
class PreparedTranscript:
    """A transcript for `insert_transcripts`, compressed already. It holds up to a few megabytes: store it soon."""

    row: Transcript
    # Not in log lines and tracebacks: their representations have megabytes of a client's words.
    raw: CompressedBody = field(repr=False)
    document: Written = field(repr=False)
    segments: Sequence[PreparedSegment] = field(repr=False)

    @property
    def id(self) -> UUID:
        return self.row.id


def prepare_transcript(row: Transcript, *, raw: bytes, document: Document) -> PreparedTranscript:
    """Convert and compress a result: 0.4 s for 12 hours of audio. Call it in a thread and outside of transactions.

    Sets the duration and the audio key of `row`.
    """
    segments = Segments()
    written = write_document(
        document,
        GzipWriter(_level(len(raw))),
        id=row.id,
        job_id=row.job_id,
        model=row.model,
        region=row.region,
        created_at=row.created_at,
        segments=segments,
    )
    # Some results do not state the duration; the end of speech is the best estimate.
    row.audio_duration_ms = document.audio_duration_ms or written.end_time or 0
    row.audio_key = audio_key(row.client_id, row.model, row.file_url)
    return PreparedTranscript(row, _compress(raw), written, segments.finish())


def prepare_unreadable(row: Transcript, *, raw: bytes) -> PreparedTranscript:
    """A transcript of bytes that are no result document. It has `/raw` and no document. `reuse` does not find it."""
    return PreparedTranscript(row, _compress(raw), _NO_DOCUMENT, segments=[])


async def insert_transcripts(session: AsyncSession, transcripts: Sequence[PreparedTranscript]) -> None:
    """One statement for any number of transcripts. The caller updates their files and jobs in its transaction."""
    if not transcripts:
        return
    columns = [{**list_columns(transcript.row), **_body_columns(transcript)} for transcript in transcripts]
    segments = segment_columns([(each.id, each.row.client_id, each.segments) for each in transcripts])
    await session.execute(_INSERT, {**{name: [row[name] for row in columns] for name in columns[0]}, **segments})


async def segment_old_transcripts(session: AsyncSession) -> int:
    """Make search segments for some transcripts from before there was search, and return their number.

    Each has a placeholder segment until then.
    """
    stop_at = time.monotonic() + _OLD_S
    rows = (await session.execute(_UNSEGMENTED, {"limit": _OLD_BATCH})).all()
    for done, row in enumerate(rows, 1):
        document_gzip = await session.scalar(_DOCUMENT, {"transcript_id": row.transcript_id})
        segments = await asyncio.to_thread(_segments, document_gzip)
        await session.execute(_DELETE_PLACEHOLDER, {"transcript_id": row.transcript_id})
        await insert_segments(session, [(row.transcript_id, row.client_id, segments)])
        if time.monotonic() > stop_at:
            return done
    return len(rows)


def _segments(document_gzip: bytes) -> Sequence[PreparedSegment]:
    segments = Segments()
    for channel in orjson.loads(gzip.decompress(document_gzip))["transcripts"]:
        segments.add_channel(channel)
    return segments.finish()


def _compress(contents: bytes) -> CompressedBody:
    # No time in the header: equal contents make equal bytes.
    compressed = gzip.compress(contents, _level(len(contents)), mtime=0)
    return CompressedBody(compressed, hashlib.sha256(contents).digest(), len(contents))


def _level(size_bytes: int) -> int:
    """Level 6 for small contents; level 4 for hours of audio, which takes half the time for a twentieth more bytes."""
    return 6 if size_bytes <= _SMALL_BYTES else 4


def list_columns(row: Transcript) -> dict[str, Any]:
    return {column.key: getattr(row, column.key) for column in Transcript.__table__.columns}


def _body_columns(transcript: PreparedTranscript) -> dict[str, Any]:
    return {
        "raw_gzip": transcript.raw.gzip,
        "raw_sha256": transcript.raw.sha256,
        "raw_bytes": transcript.raw.size_bytes,
        "document_gzip": transcript.document.gzip,
        "document_sha256": transcript.document.sha256,
        "document_bytes": transcript.document.size_bytes,
        "document_index": pack(transcript.document.index),
    }


_LIST_COLUMNS = list(Transcript.__table__.columns)
_BODY_COLUMNS = [column for column in TranscriptBody.__table__.columns if not column.primary_key]
_ARRAYS = ", ".join(
    f"CAST(:{column.key} AS {column.type.compile(DIALECT)}[])" for column in _LIST_COLUMNS + _BODY_COLUMNS
)
_LIST_NAMES = ", ".join(column.key for column in _LIST_COLUMNS)
_BODY_NAMES = ", ".join(column.key for column in _BODY_COLUMNS)

_INSERT = text(f"""
    WITH new AS (
        SELECT * FROM unnest({_ARRAYS}) AS new ({_LIST_NAMES}, {_BODY_NAMES})
    ), transcript AS (
        INSERT INTO transcripts ({_LIST_NAMES}) SELECT {_LIST_NAMES} FROM new
    ), body AS (
        INSERT INTO transcript_bodies (transcript_id, {_BODY_NAMES}) SELECT id, {_BODY_NAMES} FROM new
    )
    {INSERT_SEGMENTS}
""")  # noqa: S608 - constants

# Newest first, as searches show them. SKIP LOCKED: waits neither for another poller nor for a deletion.
_UNSEGMENTED = text("""
    SELECT segments.transcript_id, segments.client_id
    FROM transcript_segments AS segments JOIN transcripts ON transcripts.id = transcript_id
    WHERE texts IS NULL ORDER BY segments.transcript_id DESC LIMIT :limit
    FOR UPDATE OF segments SKIP LOCKED FOR KEY SHARE OF transcripts SKIP LOCKED
""")

_DOCUMENT = text("SELECT document_gzip FROM transcript_bodies WHERE transcript_id = :transcript_id")

_DELETE_PLACEHOLDER = text("DELETE FROM transcript_segments WHERE transcript_id = :transcript_id AND texts IS NULL")
