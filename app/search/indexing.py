"""Stores segments and indexes them later: computing the terms costs more than storing the transcript."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.search.segments import PreparedSegment, segment_terms, unpack
from app.search.terms import label_term

# Segments that one call indexes.
BATCH = 100


async def insert_segments(
    session: AsyncSession, transcripts: Sequence[tuple[UUID, UUID, Sequence[PreparedSegment]]]
) -> None:
    """Insert the segments of any number of transcripts in one statement: (transcript id, client id, segments) each.

    The transcripts must be stored already. The segments are found at once; `index_segments` makes that fast.
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


async def count_unindexed(session: AsyncSession) -> int:
    """Segments that wait to be indexed. One statement, which reads all of them."""
    return await session.scalar(_COUNT_UNINDEXED) or 0


async def index_segments(session: AsyncSession, limit: int = BATCH) -> int:
    """Index up to `limit` segments; returns their number. Several pollers may index at once; a crash loses nothing."""
    rows = (await session.execute(_UNINDEXED, {"limit": limit})).all()
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


def labels(client_id: UUID, **others: object) -> list[int]:
    """Terms for the client of a segment, and for its job, model and region."""
    return [label_term("client", client_id), *(label_term(kind, value) for kind, value in others.items())]


def _terms(row: Row[Any]) -> list[int]:
    own = labels(row.client_id, job_id=row.job_id, model=row.model, region=row.region)
    return [*{*own, *segment_terms(unpack(row.texts))}]


_INSERT = text("""
    INSERT INTO transcript_segments (transcript_id, client_id, number, texts)
    SELECT * FROM unnest(
        CAST(:transcript_ids AS uuid[]), CAST(:client_ids AS uuid[]), CAST(:numbers AS int[]), CAST(:texts AS bytea[])
    )
""")

# SKIP LOCKED: waits neither for another poller nor for a deletion.
_UNINDEXED = text("""
    SELECT segments.transcript_id, segments.number, segments.client_id, texts, job_id, model, region
    FROM transcript_segments AS segments JOIN transcripts ON transcripts.id = transcript_id
    WHERE terms IS NULL AND texts IS NOT NULL LIMIT :limit
    FOR UPDATE OF segments SKIP LOCKED
""")

_COUNT_UNINDEXED = text("SELECT count(*) FROM transcript_segments WHERE terms IS NULL AND texts IS NOT NULL")

_SET_TERMS = text("""
    UPDATE transcript_segments SET terms = CAST(:terms AS int[])
    WHERE transcript_id = :transcript_id AND number = :number
""")
