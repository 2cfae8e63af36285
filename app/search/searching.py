"""Finding what was said. Work is bounded: an answer may be short of hits and still have a position to go on from.

First a walk over the client's newest segments, in the order of hits: what is common is there at once, and never asks
the index for the thousands of others. What the walk shows to be rare is looked up. Either only names candidates:
whether they have a hit, and what it is, their texts tell.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.identifiers import UUID_MAX, UUID_MIN, lowest_id_at
from app.search.indexing import labels
from app.search.matching import Match, matches
from app.search.query import Query
from app.search.segments import unpack

FIRST_WALK = 32
WALK = 256
# While at least this share of the walked segments are candidates, walking is cheaper than the index.
COMMON = 1 / 8
MAX_WALKED = 2000
# Candidates that one request reads: so many at most, some in any case, and after READ_S no more than those.
MAX_READ = 1000
MIN_READ = 32
READ_S = 0.05
READ_AT_ONCE = 64
# As in lists of jobs: ids and `created_at` of transcripts are of one clock, but that may be set back.
CLOCKS_DIFFER_S = 24 * 3600


class Position(NamedTuple):
    """Where a hit is, or would be: newest transcript first, then by segment and by row."""

    transcript_id: UUID = UUID_MAX
    number: int = 0
    row: int = 0


@dataclass(frozen=True, slots=True)
class TranscriptFilters:
    """Which transcripts, for their list as well. None: any."""

    job_id: UUID | None = None
    model: str | None = None
    region: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    transcript_id: UUID
    number: int
    job_id: UUID
    file_url: str
    match: Match


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """How a batch of candidates is read: up to `most` hits; the `least` first of them even when time is over."""

    query: Query
    start: Position
    most: int
    least: int
    stop_at: float


@dataclass(frozen=True, slots=True)
class Found:
    """`next`: None when everything was searched."""

    hits: Sequence[Hit]
    next: Position | None


async def search(
    session: AsyncSession, client_id: UUID, query: Query, filters: TranscriptFilters, *, limit: int, start: Position
) -> Found:
    """Up to `limit` hits from `start` on. Three statements for what is common, some ten at most."""
    # There is nothing to read all rows for, and without statistics of `terms` the planner might think so.
    await session.execute(_NO_SCANS)
    parameters = _parameters(client_id, query, filters)
    hits: list[Hit] = []
    read, stop_at = 0, time.monotonic() + READ_S
    async with aclosing(_candidates(session, parameters, start)) as batches:
        async for candidates in batches:
            rows = (await session.execute(_READ, _pointers(candidates) | parameters)).all()
            reading = _Reading(
                query=query, start=start, most=limit + 1 - len(hits), least=MIN_READ - read, stop_at=stop_at
            )
            found, unread = await asyncio.to_thread(_read, rows, reading)
            hits += found
            if len(hits) > limit:
                return Found(hits[:limit], _after(hits[limit - 1]))
            if unread is not None:
                return Found(hits, _position(unread))
            read += len(candidates)
            if read >= MAX_READ:
                last = candidates[-1]
                return Found(hits, Position(last.transcript_id, last.number + 1))
    return Found(hits, None)


async def _candidates(
    session: AsyncSession, parameters: dict[str, Any], start: Position
) -> AsyncGenerator[Sequence[Position]]:
    """Segments that may have hits, in order, a few at a time; of those that are looked up more than are ever read."""
    start = min(start, Position(parameters["newest"]), key=lambda each: each.transcript_id)
    rows = FIRST_WALK
    for _ in range(0, MAX_WALKED, WALK):
        walked = (await session.execute(_WALK, _from(start, rows) | parameters)).all()
        candidates = [_position(row) for row in walked if row.candidate]
        for at in range(0, len(candidates), READ_AT_ONCE):
            yield candidates[at : at + READ_AT_ONCE]
        if len(walked) < rows:
            return
        start = Position(_uuid(walked[-1].transcript_id), walked[-1].number + 1)
        if len(candidates) < COMMON * rows:
            break
        rows = WALK
    looked_up = (await session.execute(_LOOK_UP, _from(start, MAX_READ + 1) | parameters)).all()
    for at in range(0, len(looked_up), READ_AT_ONCE):
        yield [_position(row) for row in looked_up[at : at + READ_AT_ONCE]]


def _read(rows: Sequence[Row[Any]], reading: _Reading) -> tuple[list[Hit], Row[Any] | None]:
    """The hits, and the row to go on with if the time was over before it."""
    hits: list[Hit] = []
    start = reading.start
    for place, row in enumerate(rows):
        if place >= reading.least and time.monotonic() > reading.stop_at:
            return hits, row
        first_row = start.row if (row.transcript_id, row.number) == (start.transcript_id, start.number) else 0
        for match in matches(unpack(row.texts), reading.query, first_row):
            hits.append(Hit(_uuid(row.transcript_id), row.number, _uuid(row.job_id), row.file_url, match))
            if len(hits) == reading.most:
                return hits, None
    return hits, None


def _parameters(client_id: UUID, query: Query, filters: TranscriptFilters) -> dict[str, Any]:
    exact = {"job_id": filters.job_id, "model": filters.model, "region": filters.region}
    asked = {kind: value for kind, value in exact.items() if value is not None}
    after, before = filters.created_after, filters.created_before
    return {
        "client_id": client_id,
        "terms": [*labels(client_id, **asked), *query.terms],
        **exact,
        "created_after": after,
        "created_before": before,
        "oldest": lowest_id_at(after, shift_s=-CLOCKS_DIFFER_S) if after else UUID_MIN,
        "newest": lowest_id_at(before, shift_s=CLOCKS_DIFFER_S) if before else UUID_MAX,
    }


def _after(hit: Hit) -> Position:
    return Position(hit.transcript_id, hit.number, hit.match.row + 1)


def _from(start: Position, most: int) -> dict[str, Any]:
    return {"transcript_id": start.transcript_id, "number": start.number, "most": most}


def _pointers(candidates: Sequence[Position]) -> dict[str, Any]:
    return {
        "transcript_ids": [each.transcript_id for each in candidates],
        "numbers": [each.number for each in candidates],
    }


def _position(row: Row[Any]) -> Position:
    return Position(_uuid(row.transcript_id), row.number)


def _uuid(value: UUID) -> UUID:
    """asyncpg's own class is no UUID to JSON encoders."""
    return UUID(int=value.int)


_NO_SCANS = text("SET LOCAL enable_seqscan = off")

# The limit is within, so that no plan reads more rows than that, whatever it thinks of the terms.
_WALK = text("""
    SELECT transcript_id, number, CASE WHEN terms IS NULL THEN readable ELSE terms @> CAST(:terms AS int[]) END
        AS candidate
    FROM (
        SELECT transcript_id, number, terms, texts IS NOT NULL AS readable FROM transcript_segments
        WHERE client_id = :client_id AND transcript_id BETWEEN :oldest AND :transcript_id
          AND (transcript_id < :transcript_id OR number >= :number)
        ORDER BY transcript_id DESC, number LIMIT :most
    ) AS walked
    ORDER BY transcript_id DESC, number
""")

# MATERIALIZED: else the planner may read the segments in order instead, and hope to meet what is rare soon.
_LOOK_UP = text("""
    WITH known AS MATERIALIZED (
        SELECT transcript_id, number, client_id FROM transcript_segments WHERE terms @> CAST(:terms AS int[])
    ), unindexed AS MATERIALIZED (
        SELECT transcript_id, number, client_id FROM transcript_segments
        WHERE client_id = :client_id AND terms IS NULL AND texts IS NOT NULL
          AND transcript_id BETWEEN :oldest AND :transcript_id AND (transcript_id < :transcript_id OR number >= :number)
        ORDER BY transcript_id DESC, number LIMIT :most
    )
    SELECT transcript_id, number FROM (SELECT * FROM known UNION ALL SELECT * FROM unindexed) AS looked_up
    WHERE client_id = :client_id AND transcript_id BETWEEN :oldest AND :transcript_id
      AND (transcript_id < :transcript_id OR number >= :number)
    ORDER BY transcript_id DESC, number LIMIT :most
""")

# What shares a number with a label, or with another text, ends here and in `matches`.
_READ = text("""
    SELECT segments.transcript_id, segments.number, segments.texts, transcripts.job_id, transcripts.file_url
    FROM unnest(CAST(:transcript_ids AS uuid[]), CAST(:numbers AS int[])) AS wanted (transcript_id, number)
    JOIN transcript_segments AS segments USING (transcript_id, number)
    JOIN transcripts ON transcripts.id = segments.transcript_id
    WHERE transcripts.client_id = :client_id AND segments.texts IS NOT NULL
      AND (CAST(:job_id AS uuid) IS NULL OR transcripts.job_id = :job_id)
      AND (CAST(:model AS text) IS NULL OR transcripts.model = :model)
      AND (CAST(:region AS text) IS NULL OR transcripts.region = :region)
      AND (CAST(:created_after AS timestamptz) IS NULL OR transcripts.created_at > :created_after)
      AND (CAST(:created_before AS timestamptz) IS NULL OR transcripts.created_at < :created_before)
    ORDER BY segments.transcript_id DESC, segments.number
""")
