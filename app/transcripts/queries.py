"""Queries for the transcripts of one client. Lists never read the bodies; bodies are read compressed, in slices."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any, Literal
from uuid import UUID

from cachetools import LRUCache
from sqlalchemy import ColumnElement, Integer, bindparam, case, func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.clients.models import Client
from app.db import COMMAND_TIMEOUT_S, CompiledQuery, Sessions, raw_connection, transaction
from app.errors import NotFound, TranscriptUnreadable
from app.identifiers import lowest_id_at
from app.loose_scans import newest_of_groups
from app.search.filters import CLOCK_TOLERANCE_S, TranscriptFilters
from app.transcripts.block_indexing import index_document
from app.transcripts.models import Transcript, TranscriptBody
from app.transcripts.seekable_gzip import pack

# Each reader holds two slices in memory. Smaller slices cost more statements, larger ones gain nothing.
SLICE_BYTES = 1024 * 1024
SMALL_BYTES = 16 * 1024
CACHE_BYTES = 16 * 1024 * 1024

BodyKind = Literal["document", "raw"]
SliceKey = tuple[UUID, BodyKind, int]  # transcript, kind of body, offset


class SliceCache:
    """The slices of stored bodies that were read last, up to `max_bytes`. Used by the event loop and by threads.

    Bodies never change, and every request checks in the database that the client owns the transcript: the cache
    only saves fetching.
    """

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self._slices: LRUCache[SliceKey, bytes] = LRUCache(max_bytes, getsizeof=len)
        self._lock = Lock()

    def get(self, key: SliceKey) -> bytes | None:
        with self._lock:
            return self._slices.get(key)

    def put(self, key: SliceKey, contents: bytes) -> None:
        """Raises ValueError if the slice is larger than the whole cache."""
        with self._lock:
            self._slices[key] = contents

    def forget_transcript(self, transcript_id: UUID) -> None:
        """Remove the slices of a deleted transcript from the memory of this process."""
        with self._lock:
            for key in [key for key in self._slices if key[0] == transcript_id]:
                del self._slices[key]


@dataclass(frozen=True, slots=True)
class StoredBodies:
    """Access to stored bodies, shared by all requests of one application."""

    sessions: Sessions
    slices: SliceCache = field(default_factory=SliceCache)
    # Held while one piece of a large document is rendered, so that large documents take turns with the CPU.
    large_rendering: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True, slots=True)
class StoredBody:
    """A stored body and its first slice. `sha256` and `size_bytes` are those of the contents before compression."""

    bodies: StoredBodies
    transcript_id: UUID
    kind: BodyKind
    sha256: bytes
    size_bytes: int
    gzip_bytes: int
    first: bytes
    model: str

    async def stream(self) -> AsyncIterator[bytes]:
        """The whole body. Each slice is fetched while the one before is sent; a slow reader holds no connection.

        Raises NotFound if the transcript is deleted meanwhile.
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

    def cached(self, at: int, length: int) -> bytes | None:
        """`length` bytes of the gzip stream from `at` on, if they are in memory."""
        if at + length <= len(self.first) or len(self.first) == self.gzip_bytes:
            return self.first[at : at + length]
        contents = self.bodies.slices.get((self.transcript_id, self.kind, at - at % SLICE_BYTES))
        start = at % SLICE_BYTES
        return contents[start : start + length] if contents and start + length <= len(contents) else None

    async def fetch(self, at: int, length: int) -> bytes:
        """`length` bytes of the gzip stream from `at` on; fewer at its end. Raises NotFound."""
        async with raw_connection(self.bodies.sessions) as connection:
            rows = await _SLICES[self.kind].fetch(
                connection, transcript_id=self.transcript_id, start=at + 1, length=length
            )
        if not rows:
            raise transcript_not_found(self.transcript_id)
        contents: bytes = rows[0][0]
        return contents

    async def _slice(self, at: int) -> bytes:
        slices = self.bodies.slices
        key: SliceKey = (self.transcript_id, self.kind, at)
        contents = slices.get(key)
        if contents is None:
            slices.put((self.transcript_id, self.kind, 0), self.first)
            contents = await self.fetch(at, SLICE_BYTES)
            slices.put(key, contents)
        return contents


async def list_transcripts(
    session: AsyncSession, client_id: UUID, filters: TranscriptFilters, before_id: UUID | None, limit: int
) -> Sequence[Any]:
    """Newest first, in one statement. `before_id`: last transcript of the page before. Columns are the list's keys."""
    own = [Transcript.client_id == client_id]
    conditions = [*_filter_conditions(filters)]
    if before_id:
        conditions.append(Transcript.id < before_id)
    query = select(*_LIST_COLUMNS).order_by(Transcript.id.desc())
    if filters.job_id or not (filters.model is not None or filters.region):
        query = query.where(*own, *conditions).limit(limit)
    else:
        groups = [Transcript.model, Transcript.region]
        page = newest_of_groups(Transcript.id, groups, own, conditions, limit).subquery("page")
        query = query.join(page, page.c.id == Transcript.id)
    return (await session.execute(query)).all()


def _filter_conditions(filters: TranscriptFilters) -> Iterator[ColumnElement[bool]]:
    """Ids are ordered by time and indexed: a range of ids bounds what is read, the exact condition decides."""
    if filters.job_id:
        yield Transcript.job_id == filters.job_id
    if filters.model is not None:
        yield Transcript.model == filters.model
    if filters.region:
        yield Transcript.region == filters.region
    if after := filters.created_after:
        yield Transcript.created_at > after
        yield Transcript.id >= lowest_id_at(after, shift_s=-CLOCK_TOLERANCE_S)
    if before := filters.created_before:
        yield Transcript.created_at < before
        yield Transcript.id < lowest_id_at(before, shift_s=CLOCK_TOLERANCE_S)


async def find_body(bodies: StoredBodies, client_id: UUID, transcript_id: UUID, kind: BodyKind) -> StoredBody:
    """One statement. Raises NotFound, also for the transcript of another client, and TranscriptUnreadable."""
    body, _ = await _find(bodies, client_id, transcript_id, kind)
    return body


async def find_document(bodies: StoredBodies, client_id: UUID, transcript_id: UUID) -> tuple[StoredBody, bytes]:
    """The document and its packed index. One statement. Raises as `find_body`.

    A document that has no index yet is indexed here, in a thread. It is stored with its index by a poller.
    """
    body, index = await _find(bodies, client_id, transcript_id, "document", TranscriptBody.document_index)
    if index is None:
        written = await asyncio.to_thread(index_document, body.first)
        body = replace(body, first=written.gzip, gzip_bytes=len(written.gzip))
        index = pack(written.index)
    return body, index


async def _find(
    bodies: StoredBodies, client_id: UUID, transcript_id: UUID, kind: BodyKind, *more_columns: Any
) -> tuple[StoredBody, Any]:
    contents, sha256, size_bytes = _BODY_COLUMNS[kind]
    first = bodies.slices.get((transcript_id, kind, 0))
    # The column's storage is EXTERNAL: the length and a slice of a value of megabytes are cheap.
    fetched = literal(None) if first else func.substring(contents, 1, _FIRST_BYTES[kind])
    query = select(sha256, size_bytes, func.octet_length(contents), fetched, Transcript.model, *more_columns)
    # A single statement needs no transaction: one round trip instead of three.
    async with transaction(bodies.sessions, autocommit=True) as session:
        found = (await session.execute(query.join(Transcript).where(*_own(client_id, transcript_id)))).one_or_none()
    if found is None:
        raise transcript_not_found(transcript_id)
    _require_document(transcript_id, kind, found[1])
    body = StoredBody(bodies, transcript_id, kind, found[0], found[1], found[2], first or found[3], found[4])
    return body, found[-1]


async def find_sha256(session: AsyncSession, client_id: UUID, transcript_id: UUID, kind: BodyKind) -> bytes:
    """The hash of the body's contents, without the contents. One statement. Raises as `find_body`."""
    _, sha256, size_bytes = _BODY_COLUMNS[kind]
    query = select(sha256, size_bytes).join(Transcript).where(*_own(client_id, transcript_id))
    found = (await session.execute(query)).one_or_none()
    if found is None:
        raise transcript_not_found(transcript_id)
    _require_document(transcript_id, kind, found[1])
    sha256_found: bytes = found[0]
    return sha256_found


def _require_document(transcript_id: UUID, kind: BodyKind, size_bytes: int) -> None:
    """Raises TranscriptUnreadable for the document of an unreadable result."""
    if kind == "document" and size_bytes == 0:
        raise TranscriptUnreadable(
            f"What DashScope returned for transcript {transcript_id} is no result document; /raw has its bytes."
        )


async def find_owner(session: AsyncSession, transcript_id: UUID) -> tuple[UUID, bytes] | None:
    """The client of a transcript, and the hash of its token. None if the client is revoked. One statement."""
    query = select(Client.id, Client.token_sha256).join(Transcript, Transcript.client_id == Client.id)
    row = (await session.execute(query.where(Transcript.id == transcript_id, Client.revoked_at.is_(None)))).first()
    return (row[0], row[1]) if row else None


async def small_raw_bodies(
    session: AsyncSession, client_id: UUID, transcript_ids: Collection[UUID]
) -> dict[UUID, bytes]:
    """Upstream's bytes of those transcripts that have at most SMALL_BYTES. One statement."""
    query = select(TranscriptBody.transcript_id, TranscriptBody.raw_gzip).join(Transcript)
    own = (Transcript.id.in_(transcript_ids), Transcript.client_id == client_id)
    rows = await session.execute(query.where(*own, TranscriptBody.raw_bytes <= SMALL_BYTES))
    return {row[0]: gzip.decompress(row[1]) for row in rows}


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

# A document without an index is read whole, because a poller may replace it between two slices.
_FIRST_BYTES = {
    "document": case(
        (TranscriptBody.document_index.is_(None), func.octet_length(TranscriptBody.document_gzip)), else_=SLICE_BYTES
    ),
    "raw": literal(SLICE_BYTES),
}

_SLICES = {
    kind: CompiledQuery(
        select(func.substring(contents, bindparam("start", type_=Integer), bindparam("length", type_=Integer))).where(
            TranscriptBody.transcript_id == bindparam("transcript_id")
        ),
        timeout_s=COMMAND_TIMEOUT_S,
    )
    for kind, (contents, _, _) in _BODY_COLUMNS.items()
}
