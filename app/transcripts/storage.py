"""Storing and deleting transcripts. Bodies are compressed before the transaction and served as they are stored."""

import gzip
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.identifiers import new_id
from app.search.indexing import insert_segments
from app.search.segments import PreparedSegment, Segments
from app.transcripts.models import Transcript, TranscriptBody
from app.transcripts.normalise import Document, write_document
from app.transcripts.queries import transcript_not_found
from app.transcripts.seekable_gzip import Writer, Written, pack

_SMALL_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Body:
    """One stored body. `sha256` and `size_bytes` are those of the contents before compression."""

    gzip: bytes
    sha256: bytes
    size_bytes: int


@dataclass(frozen=True, slots=True)
class PreparedTranscript:
    """What `insert_transcripts` writes, compressed already. Holds up to a few megabytes: store it soon."""

    id: UUID
    client_id: UUID
    job_id: UUID
    file_index: int
    file_url: str
    model: str
    region: str
    audio_duration_ms: int
    created_at: datetime
    raw: Body
    document: Written
    segments: Sequence[PreparedSegment]


def prepare_transcript(
    *,
    raw: bytes,
    document: Document,
    client_id: UUID,
    job_id: UUID,
    file_index: int,
    file_url: str,
    model: str,
    region: str,
) -> PreparedTranscript:
    """All that costs time (0.4 s for 12 hours of audio): call it in a thread, and outside of any transaction.

    The id and `created_at` are made here because the served document contains them. Raises UnreadableResult.
    """
    transcript_id, created_at = new_id(), datetime.now(UTC)
    segments = Segments()
    written = write_document(
        document,
        Writer(_level(len(raw))),
        id=transcript_id,
        job_id=job_id,
        model=model,
        region=region,
        created_at=created_at,
        segments=segments,
    )
    return PreparedTranscript(
        id=transcript_id,
        client_id=client_id,
        job_id=job_id,
        file_index=file_index,
        file_url=file_url,
        model=model,
        region=region,
        # Where upstream does not say, the end of speech stands for it.
        audio_duration_ms=document.audio_duration_ms or written.end_time or 0,
        created_at=created_at,
        raw=_compress(raw),
        document=written,
        segments=segments.finish(),
    )


async def insert_transcripts(session: AsyncSession, transcripts: Sequence[PreparedTranscript]) -> None:
    """Three statements for any number of transcripts. The caller's transaction also changes their files and jobs."""
    if not transcripts:
        return
    await session.execute(insert(Transcript), [_list_columns(transcript) for transcript in transcripts])
    await session.execute(insert(TranscriptBody), [_body_columns(transcript) for transcript in transcripts])
    await insert_segments(session, [(each.id, each.client_id, each.segments) for each in transcripts])


async def delete_transcript(session: AsyncSession, client_id: UUID, transcript_id: UUID) -> None:
    """Also from its file; the job counts it as a change. Two statements. Raises NotFound."""
    own = {"transcript_id": transcript_id, "client_id": client_id}
    await session.execute(_LOCK_JOB, own)
    deleted = await session.execute(_DELETE, own)
    if not deleted.rowcount:  # type: ignore[attr-defined]
        raise transcript_not_found(transcript_id)


def _compress(contents: bytes) -> Body:
    # No time in the header: equal contents make equal bytes.
    compressed = gzip.compress(contents, _level(len(contents)), mtime=0)
    return Body(compressed, hashlib.sha256(contents).digest(), len(contents))


def _level(size_bytes: int) -> int:
    """Level 6 where it costs milliseconds; level 4 for hours of audio, half the time for a twentieth more bytes."""
    return 6 if size_bytes <= _SMALL_BYTES else 4


def _list_columns(transcript: PreparedTranscript) -> dict[str, Any]:
    return {column.key: getattr(transcript, column.key) for column in Transcript.__table__.columns}


def _body_columns(transcript: PreparedTranscript) -> dict[str, Any]:
    return {
        "transcript_id": transcript.id,
        "raw_gzip": transcript.raw.gzip,
        "raw_sha256": transcript.raw.sha256,
        "raw_bytes": transcript.raw.size_bytes,
        "document_gzip": transcript.document.gzip,
        "document_sha256": transcript.document.sha256,
        "document_bytes": transcript.document.size_bytes,
        "document_index": pack(transcript.document.index),
    }


# As whoever deletes the job: the job first, then what hangs on it.
_LOCK_JOB = text("""
    SELECT FROM jobs
    WHERE id = (SELECT job_id FROM transcripts WHERE id = :transcript_id AND client_id = :client_id)
    FOR NO KEY UPDATE
""")

_DELETE = text("""
    WITH deleted AS (
        DELETE FROM transcripts WHERE id = :transcript_id AND client_id = :client_id RETURNING job_id, file_index
    ), file AS (
        UPDATE files SET transcript_id = NULL FROM deleted
        WHERE files.job_id = deleted.job_id AND files.index = deleted.file_index
          AND files.transcript_id = :transcript_id
    )
    UPDATE jobs SET version = version + 1 FROM deleted WHERE jobs.id = deleted.job_id
""")
