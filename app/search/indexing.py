"""Storing segments, and indexing them afterwards: looking a text's terms up costs more than storing its transcript."""

import asyncio
import gzip
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.search.segments import PreparedSegment, Segments, segment_terms, unpack
from app.search.terms import label_term

# Of segments and of old documents; and so long at most for those, which may be of twelve hours each.
BATCH = 100
OLD_BATCH = 20
OLD_S = 1.0


async def insert_segments(
    session: AsyncSession, transcripts: Sequence[tuple[UUID, UUID, Sequence[PreparedSegment]]]
) -> None:
    """Of any number of transcripts, each with its id and its client's, in one statement. The rows must be there.

    They are found at once; `index_segments` makes that fast.
    """
    rows = [
        (transcript_id, client_id, segment)
        for transcript_id, client_id, segments in transcripts
        for segment in segments
    ]
    if rows:
        columns = {
            "transcript_ids": [transcript_id for transcript_id, _, _ in rows],
            "client_ids": [client_id for _, client_id, _ in rows],
            "numbers": [segment.number for _, _, segment in rows],
            "texts": [segment.texts for _, _, segment in rows],
        }
        await session.execute(_INSERT, columns)


async def index_segments(session: AsyncSession, most: int = BATCH) -> int:
    """Index some that are not; how many there were. Several may do this at once, and a crash loses nothing."""
    rows = (await session.execute(_UNINDEXED, {"most": most})).all()
    if rows:
        terms = await asyncio.to_thread(lambda: [_terms(row) for row in rows])
        await session.execute(
            _SET_TERMS,
            [
                {"transcript_id": row.transcript_id, "number": row.number, "terms": found}
                for row, found in zip(rows, terms, strict=True)
            ],
        )
    return len(rows)


async def segment_old_transcripts(session: AsyncSession) -> None:
    """Make segments of some transcripts from before there was search."""
    stop_at = time.monotonic() + OLD_S
    for row in await session.execute(_UNSEGMENTED, {"most": OLD_BATCH}):
        segments = await asyncio.to_thread(_segments, row.document_gzip)
        await session.execute(_DELETE_PLACEHOLDER, {"transcript_id": row.transcript_id})
        await insert_segments(session, [(row.transcript_id, row.client_id, segments)])
        if time.monotonic() > stop_at:
            return


def labels(client_id: UUID, **others: object) -> list[int]:
    """Terms that stand for whose segment it is, and of which job, model and region."""
    return [label_term("client", client_id), *(label_term(kind, value) for kind, value in others.items())]


def _terms(row: Row[Any]) -> list[int]:
    own = labels(row.client_id, job_id=row.job_id, model=row.model, region=row.region)
    return [*{*own, *segment_terms(unpack(row.texts))}]


def _segments(document_gzip: bytes) -> list[PreparedSegment]:
    document = msgspec.json.decode(gzip.decompress(document_gzip), type=_Document)
    segments = Segments()
    for channel in document.transcripts:
        segments.add_channel(channel)
    return segments.finish()


_INSERT = text("""
    INSERT INTO transcript_segments (transcript_id, client_id, number, texts)
    SELECT * FROM unnest(
        CAST(:transcript_ids AS uuid[]), CAST(:client_ids AS uuid[]), CAST(:numbers AS int[]), CAST(:texts AS bytea[])
    )
""")

# SKIP LOCKED: neither waits for another poller, nor for a deletion that waits for it.
_UNINDEXED = text("""
    SELECT segments.transcript_id, segments.number, segments.client_id, texts, job_id, model, region
    FROM transcript_segments AS segments JOIN transcripts ON transcripts.id = transcript_id
    WHERE terms IS NULL AND texts IS NOT NULL LIMIT :most
    FOR UPDATE OF segments SKIP LOCKED
""")

_SET_TERMS = text("""
    UPDATE transcript_segments SET terms = CAST(:terms AS int[])
    WHERE transcript_id = :transcript_id AND number = :number
""")

_UNSEGMENTED = text("""
    SELECT segments.transcript_id, segments.client_id, document_gzip
    FROM transcript_segments AS segments
    JOIN transcripts ON transcripts.id = transcript_id JOIN transcript_bodies USING (transcript_id)
    WHERE terms IS NULL AND texts IS NULL LIMIT :most
    FOR UPDATE OF segments SKIP LOCKED FOR KEY SHARE OF transcripts SKIP LOCKED
""")

_DELETE_PLACEHOLDER = text("DELETE FROM transcript_segments WHERE transcript_id = :transcript_id AND texts IS NULL")


class _Document(msgspec.Struct):
    transcripts: list[dict[str, Any]]
