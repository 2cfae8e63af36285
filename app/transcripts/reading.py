"""Finding transcripts of one client. Lists never touch the bodies; a body comes out as it is stored, in slices."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import Sessions, transaction
from app.errors import NotFound
from app.transcripts.models import Transcript, TranscriptBody

BodyKind = Literal["document", "raw"]

# So much of a body is in memory at a time for each reader.
SLICE_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class TranscriptFilters:
    """None: any. `before_id` is the last id of the page before."""

    job_id: UUID | None = None
    model: str | None = None
    region: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    before_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Body:
    """A stored body and its first slice. `sha256` and `size_bytes` are those of the contents before compression."""

    sessions: Sessions
    transcript_id: UUID
    kind: BodyKind
    sha256: bytes
    size_bytes: int
    gzip_bytes: int
    first: bytes

    async def slices(self) -> AsyncIterator[bytes]:
        """All of it; no connection waits for a slow reader. Raises NotFound when it is deleted meanwhile."""
        yield self.first
        for at in range(len(self.first), self.gzip_bytes, SLICE_BYTES):
            yield await self.read(at, SLICE_BYTES)

    def has(self, at: int, length: int) -> bool:
        """Whether these bytes are here already."""
        return at + length <= len(self.first) or len(self.first) == self.gzip_bytes

    async def read(self, at: int, length: int) -> bytes:
        """So many bytes of the gzip stream from `at` on; at its end fewer. Raises NotFound."""
        gzip, *_ = _BODY_COLUMNS[self.kind]
        query = select(func.substring(gzip, at + 1, length)).where(TranscriptBody.transcript_id == self.transcript_id)
        async with transaction(self.sessions) as session:
            found: bytes | None = await session.scalar(query)
        if found is None:
            raise no_such_transcript(self.transcript_id)
        return found


async def list_transcripts(
    session: AsyncSession, client_id: UUID, filters: TranscriptFilters, limit: int
) -> Sequence[Any]:
    """Newest first, one statement. The columns are the list's keys."""
    query = select(*_LIST_COLUMNS).where(Transcript.client_id == client_id)
    if filters.job_id:
        query = query.where(Transcript.job_id == filters.job_id)
    if filters.model:
        query = query.where(Transcript.model == filters.model)
    if filters.region:
        query = query.where(Transcript.region == filters.region)
    if filters.created_after:
        query = query.where(Transcript.created_at > filters.created_after)
    if filters.created_before:
        query = query.where(Transcript.created_at < filters.created_before)
    if filters.before_id:
        query = query.where(Transcript.id < filters.before_id)
    return (await session.execute(query.order_by(Transcript.id.desc()).limit(limit))).all()


async def find_body(sessions: Sessions, client_id: UUID, transcript_id: UUID, kind: BodyKind) -> Body:
    """One statement. Raises NotFound, also for the transcript of another client."""
    query = select(*_body_columns(kind)).join(Transcript).where(*_own(client_id, transcript_id))
    async with transaction(sessions) as session:
        found = (await session.execute(query)).one_or_none()
    if found is None:
        raise no_such_transcript(transcript_id)
    return Body(sessions, transcript_id, kind, *found)


async def find_document(sessions: Sessions, client_id: UUID, transcript_id: UUID) -> tuple[Body, bytes]:
    """The document and its packed index. One statement. Raises NotFound as `find_body`."""
    query = (
        select(TranscriptBody.document_index, *_body_columns("document"))
        .join(Transcript)
        .where(*_own(client_id, transcript_id))
    )
    async with transaction(sessions) as session:
        found = (await session.execute(query)).one_or_none()
    if found is None:
        raise no_such_transcript(transcript_id)
    index, *body = found
    return Body(sessions, transcript_id, "document", *body), index


async def find_sha256(session: AsyncSession, client_id: UUID, transcript_id: UUID, kind: BodyKind) -> bytes:
    """What names the body's contents, without fetching them. One statement. Raises NotFound as `find_body`."""
    _, sha256, _ = _BODY_COLUMNS[kind]
    found = await session.scalar(select(sha256).join(Transcript).where(*_own(client_id, transcript_id)))
    if found is None:
        raise no_such_transcript(transcript_id)
    return found


def _body_columns(kind: BodyKind) -> tuple[Any, ...]:
    gzip, sha256, size_bytes = _BODY_COLUMNS[kind]
    # EXTERNAL storage: a length and a slice of megabytes cost no more than that.
    return sha256, size_bytes, func.octet_length(gzip), func.substring(gzip, 1, SLICE_BYTES)


def _own(client_id: UUID, transcript_id: UUID) -> tuple[Any, ...]:
    return Transcript.id == transcript_id, Transcript.client_id == client_id


def no_such_transcript(transcript_id: UUID) -> NotFound:
    return NotFound(f"There is no transcript {transcript_id} of this client.")


_LIST_COLUMNS = (
    Transcript.id,
    Transcript.job_id,
    Transcript.file_url,
    Transcript.model,
    Transcript.region,
    Transcript.created_at,
    Transcript.audio_duration_ms,
)

_BODY_COLUMNS = {
    "document": (TranscriptBody.document_gzip, TranscriptBody.document_sha256, TranscriptBody.document_bytes),
    "raw": (TranscriptBody.raw_gzip, TranscriptBody.raw_sha256, TranscriptBody.raw_bytes),
}
