"""Finding transcripts of one client. Lists never touch the bodies; a body comes out as it is stored, in slices."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import Sessions, raw_connection, transaction
from app.errors import NotFound
from app.search.searching import TranscriptFilters
from app.transcripts.models import Transcript, TranscriptBody
from app.transcripts.slices import SLICE_BYTES, Slices

BodyKind = Literal["document", "raw"]


@dataclass(frozen=True, slots=True)
class Body:
    """A stored body and its first slice. `sha256` and `size_bytes` are those of the contents before compression."""

    sessions: Sessions
    slices: Slices
    transcript_id: UUID
    kind: BodyKind
    sha256: bytes
    size_bytes: int
    gzip_bytes: int
    first: bytes

    async def stream(self) -> AsyncIterator[bytes]:
        """All of it, each slice fetched while the one before is sent; no connection waits for a slow reader.

        Raises NotFound when it is deleted meanwhile.
        """
        current = self.first
        for at in range(len(self.first), self.gzip_bytes, SLICE_BYTES):
            following = asyncio.create_task(self._slice(at))
            try:
                yield current
                current = await following
            finally:
                following.cancel()
        yield current

    def here(self, at: int, length: int) -> bytes | None:
        """These bytes, if they need not be fetched."""
        if at + length <= len(self.first) or len(self.first) == self.gzip_bytes:
            return self.first[at : at + length]
        kept = self.slices.get((self.transcript_id, self.kind, at - at % SLICE_BYTES))
        start = at % SLICE_BYTES
        return kept[start : start + length] if kept and start + length <= len(kept) else None

    async def fetch(self, at: int, length: int) -> bytes:
        """So many bytes of the gzip stream from `at` on; at its end fewer. Raises NotFound."""
        async with raw_connection(self.sessions) as connection:
            found: bytes | None = await connection.fetchval(_SLICES[self.kind], self.transcript_id, at + 1, length)
        if found is None:
            raise transcript_not_found(self.transcript_id)
        return found

    async def _slice(self, at: int) -> bytes:
        key = (self.transcript_id, self.kind, at)
        found = self.slices.get(key)
        if found is None:
            self.slices.keep((self.transcript_id, self.kind, 0), self.first)
            found = await self.fetch(at, SLICE_BYTES)
            self.slices.keep(key, found)
        return found


async def list_transcripts(
    session: AsyncSession, client_id: UUID, filters: TranscriptFilters, before_id: UUID | None, limit: int
) -> Sequence[Any]:
    """Newest first, one statement. `before_id`: the last of the page before. The columns are the list's keys."""
    query = select(*_LIST_COLUMNS).where(Transcript.client_id == client_id)
    if filters.job_id:
        query = query.where(Transcript.job_id == filters.job_id)
    if filters.model is not None:
        query = query.where(Transcript.model == filters.model)
    if filters.region:
        query = query.where(Transcript.region == filters.region)
    if filters.created_after:
        query = query.where(Transcript.created_at > filters.created_after)
    if filters.created_before:
        query = query.where(Transcript.created_at < filters.created_before)
    if before_id:
        query = query.where(Transcript.id < before_id)
    return (await session.execute(query.order_by(Transcript.id.desc()).limit(limit))).all()


async def find_body(sessions: Sessions, slices: Slices, client_id: UUID, transcript_id: UUID, kind: BodyKind) -> Body:
    """One statement. Raises NotFound, also for the transcript of another client."""
    body, _ = await _find(sessions, slices, client_id, transcript_id, kind)
    return body


async def find_document(sessions: Sessions, slices: Slices, client_id: UUID, transcript_id: UUID) -> tuple[Body, bytes]:
    """The document and its packed index. One statement. Raises NotFound as `find_body`."""
    return await _find(sessions, slices, client_id, transcript_id, "document", TranscriptBody.document_index)


async def _find(
    sessions: Sessions, slices: Slices, client_id: UUID, transcript_id: UUID, kind: BodyKind, *others: Any
) -> tuple[Body, Any]:
    gzip, sha256, size_bytes = _BODY_COLUMNS[kind]
    first = slices.get((transcript_id, kind, 0))
    # EXTERNAL storage: a length and a slice of megabytes cost no more than that.
    fetched = literal(None) if first else func.substring(gzip, 1, SLICE_BYTES)
    query = select(sha256, size_bytes, func.octet_length(gzip), fetched, *others)
    # One statement needs no transaction around it: one round trip instead of three.
    async with transaction(sessions, autocommit=True) as session:
        found = (await session.execute(query.join(Transcript).where(*_own(client_id, transcript_id)))).one_or_none()
    if found is None:
        raise transcript_not_found(transcript_id)
    body = Body(sessions, slices, transcript_id, kind, found[0], found[1], found[2], first or found[3])
    return body, found[-1]


async def find_sha256(session: AsyncSession, client_id: UUID, transcript_id: UUID, kind: BodyKind) -> bytes:
    """What names the body's contents, without fetching them. One statement. Raises NotFound as `find_body`."""
    _, sha256, _ = _BODY_COLUMNS[kind]
    found = await session.scalar(select(sha256).join(Transcript).where(*_own(client_id, transcript_id)))
    if found is None:
        raise transcript_not_found(transcript_id)
    return found


def _own(client_id: UUID, transcript_id: UUID) -> tuple[Any, ...]:
    return Transcript.id == transcript_id, Transcript.client_id == client_id


def transcript_not_found(transcript_id: UUID) -> NotFound:
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

_SLICES = {
    kind: f"SELECT substring({kind}_gzip FROM $2 FOR $3) FROM transcript_bodies WHERE transcript_id = $1"  # noqa: S608
    for kind in _BODY_COLUMNS
}
