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


# Segments of one transcript: its id, its client's id, and the segments.
TranscriptSegments = tuple[UUID, UUID, Sequence[PreparedSegment]]


async def insert_segments(session: AsyncSession, transcripts: Sequence[TranscriptSegments]) -> None:
    """Insert the segments of any number of transcripts in one statement.

    The transcripts must be stored already. The segments are found at once; `index_segments` makes that fast.
    """
    columns = segment_columns(transcripts)
    if columns["numbers"]:
        await session.execute(_INSERT, columns)


def segment_columns(transcripts: Sequence[TranscriptSegments]) -> dict[str, list[Any]]:
    """The parameters of INSERT_SEGMENTS."""
    rows = [
        (transcript_id, client_id, segment)
        for transcript_id, client_id, segments in transcripts
        for segment in segments
    ]
    return {
        "transcript_ids": [transcript_id for transcript_id, _, _ in rows],
        "client_ids": [client_id for _, client_id, _ in rows],
        "numbers": [segment.number for _, _, segment in rows],
        "texts": [segment.texts for _, _, segment in rows],
    }


async def count_unindexed(session: AsyncSession) -> int:
    """Segments that wait to be indexed. One statement, which reads all of them."""
    return await session.scalar(_COUNT_UNINDEXED) or 0


async def index_segments(session: AsyncSession, limit: int = BATCH) -> int:
    """Index up to `limit` segments; returns their number. Several pollers may index at once; a crash loses nothing."""
    rows = (await session.execute(_UNINDEXED, {"limit": limit})).all()
    if rows:
        terms = await asyncio.to_thread(lambda: [_terms(row) for row in rows])
        columns = {
            "transcript_ids": [row.transcript_id for row in rows],
            "numbers": [row.number for row in rows],
            "terms": [f"{{{','.join(map(str, found))}}}" for found in terms],
        }
        await session.execute(_SET_TERMS, columns)
    return len(rows)


def labels(client_id: UUID, **others: object) -> list[int]:
    """Terms for the client of a segment, and for its job, model and region."""
    return [label_term("client", client_id), *(label_term(kind, value) for kind, value in others.items())]


def _terms(row: Row[Any]) -> list[int]:
    own = labels(row.client_id, job_id=row.job_id, model=row.model, region=row.region)
    return [*{*own, *segment_terms(unpack(row.texts))}]


INSERT_SEGMENTS = """
    INSERT INTO transcript_segments (transcript_id, client_id, number, texts)
    SELECT * FROM unnest(
        CAST(:transcript_ids AS uuid[]), CAST(:client_ids AS uuid[]), CAST(:numbers AS int[]), CAST(:texts AS bytea[])
    )
"""
_INSERT = text(INSERT_SEGMENTS)

# SKIP LOCKED: waits neither for another poller nor for a deletion.
_UNINDEXED = text("""
    SELECT segments.transcript_id, segments.number, segments.client_id, texts, job_id, model, region
    FROM transcript_segments AS segments JOIN transcripts ON transcripts.id = transcript_id
    WHERE terms IS NULL AND texts IS NOT NULL LIMIT :limit
    FOR UPDATE OF segments SKIP LOCKED
""")

_COUNT_UNINDEXED = text("SELECT count(*) FROM transcript_segments WHERE terms IS NULL AND texts IS NOT NULL")

# The terms of a segment are text in the form of an array: arrays of unequal lengths are no array of arrays.
_SET_TERMS = text("""
    UPDATE transcript_segments SET terms = CAST(new.terms AS int[])
    FROM unnest(CAST(:transcript_ids AS uuid[]), CAST(:numbers AS int[]), CAST(:terms AS text[]))
        AS new (transcript_id, number, terms)
    WHERE transcript_segments.transcript_id = new.transcript_id AND transcript_segments.number = new.number
""")
