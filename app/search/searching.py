"""Search over the segments of a client. The work per request is bounded: a page may be short and still continue.

First a walk over the client's newest segments, in the order of hits, finds frequent matches at once, without fetching
thousands of others from the index. If matches turn out to be rare, the index is searched. Both only name candidates;
the segments' texts decide.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.identifiers import UUID_MAX, UUID_MIN, lowest_id_at, standard_uuid
from app.search.filters import CLOCK_TOLERANCE_S, TranscriptFilters
from app.search.indexing import labels
from app.search.matching import Match, matches
from app.search.query import Query
from app.search.segments import unpack

# Segments of the first step of the walk, and of each further step.
FIRST_WALK = 32
WALK = 256
# While at least this share of the walked segments are candidates, walking is cheaper than the index.
COMMON = 1 / 8
MAX_WALKED = 2000
# Candidates that one request reads: at most MAX_READ, at least MIN_READ, and no more than those after READ_S.
MAX_READ = 1000
MIN_READ = 32
READ_S = 0.05
# Candidates that are read in one statement.
READ_BATCH = 64


class HitPosition(NamedTuple):
    """The place of a hit in the order of results: newest transcript first, then by segment and row."""

    transcript_id: UUID = UUID_MAX
    number: int = 0
    row: int = 0


@dataclass(frozen=True, slots=True)
class Hit:
    transcript_id: UUID
    number: int
    job_id: UUID
    file_url: str
    match: Match


@dataclass(frozen=True, slots=True, kw_only=True)
class _ReadLimits:
    """Limits for reading a batch: at most `max_hits` hits, and at least `min_rows` rows even after `stop_at`."""

    query: Query
    start: HitPosition
    max_hits: int
    min_rows: int
    stop_at: float


@dataclass(frozen=True, slots=True)
class SearchResult:
    """`next`: position to continue from; None: everything was searched."""

    hits: Sequence[Hit]
    next: HitPosition | None


async def search(
    session: AsyncSession,
    client_id: UUID,
    query: Query,
    filters: TranscriptFilters,
    *,
    limit: int,
    start: HitPosition,
) -> SearchResult:
    """Up to `limit` hits from `start` on. Three statements for frequent matches, about ten at most."""
    # No statement here needs a sequential scan, but without statistics of `terms` the planner might choose one.
    await session.execute(_NO_SCANS)
    parameters = _parameters(client_id, query, filters)
    hits: list[Hit] = []
    read, stop_at = 0, time.monotonic() + READ_S
    async with aclosing(_candidates(session, parameters, start)) as batches:
        async for candidates in batches:
            pointers = {
                "transcript_ids": [each.transcript_id for each in candidates],
                "numbers": [each.number for each in candidates],
            }
            rows = (await session.execute(_READ, pointers | parameters)).all()
            limits = _ReadLimits(
                query=query, start=start, max_hits=limit + 1 - len(hits), min_rows=MIN_READ - read, stop_at=stop_at
            )
            found, unread = await asyncio.to_thread(_read, rows, limits)
            hits += found
            if len(hits) > limit:
                hit = hits[limit - 1]
                return SearchResult(hits[:limit], HitPosition(hit.transcript_id, hit.number, hit.match.row + 1))
            if unread is not None:
                return SearchResult(hits, _position(unread))
            read += len(candidates)
            if read >= MAX_READ:
                last = candidates[-1]
                return SearchResult(hits, HitPosition(last.transcript_id, last.number + 1))
    return SearchResult(hits, None)


async def _candidates(
    session: AsyncSession, parameters: dict[str, Any], start: HitPosition
) -> AsyncGenerator[Sequence[HitPosition]]:
    """Segments that may match, in order, in batches. The index returns at most one more than a request may read."""
    start = min(start, HitPosition(parameters["newest"]), key=lambda each: each.transcript_id)
    rows = FIRST_WALK
    for _ in range(0, MAX_WALKED, WALK):
        walked = (await session.execute(_WALK, _from(start, rows) | parameters)).all()
        candidates = [_position(row) for row in walked if row.candidate]
        for at in range(0, len(candidates), READ_BATCH):
            yield candidates[at : at + READ_BATCH]
        if len(walked) < rows:
            return
        start = HitPosition(standard_uuid(walked[-1].transcript_id), walked[-1].number + 1)
        if len(candidates) < COMMON * rows:
            break
        rows = WALK
    found = (await session.execute(_FROM_INDEX, _from(start, MAX_READ + 1) | parameters)).all()
    for at in range(0, len(found), READ_BATCH):
        yield [_position(row) for row in found[at : at + READ_BATCH]]


def _read(rows: Sequence[Row[Any]], limits: _ReadLimits) -> tuple[list[Hit], Row[Any] | None]:
    """The hits, and the first row that was not read because the time was over."""
    hits: list[Hit] = []
    start = limits.start
    for place, row in enumerate(rows):
        if place >= limits.min_rows and time.monotonic() > limits.stop_at:
            return hits, row
        first_row = start.row if (row.transcript_id, row.number) == (start.transcript_id, start.number) else 0
        for match in matches(unpack(row.texts), limits.query, first_row):
            transcript_id, job_id = standard_uuid(row.transcript_id), standard_uuid(row.job_id)
            hits.append(Hit(transcript_id, row.number, job_id, row.file_url, match))
            if len(hits) == limits.max_hits:
                return hits, None
    return hits, None


def _parameters(client_id: UUID, query: Query, filters: TranscriptFilters) -> dict[str, Any]:
    exact = {"job_id": filters.job_id, "model": filters.model, "region": filters.region}
    given = {kind: value for kind, value in exact.items() if value is not None}
    after, before = filters.created_after, filters.created_before
    return {
        "client_id": client_id,
        "terms": [*labels(client_id, **given), *query.terms],
        **exact,
        "created_after": after,
        "created_before": before,
        "oldest": lowest_id_at(after, shift_s=-CLOCK_TOLERANCE_S) if after else UUID_MIN,
        "newest": lowest_id_at(before, shift_s=CLOCK_TOLERANCE_S) if before else UUID_MAX,
    }


def _from(start: HitPosition, limit: int) -> dict[str, Any]:
    return {"transcript_id": start.transcript_id, "number": start.number, "limit": limit}


def _position(row: Row[Any]) -> HitPosition:
    return HitPosition(standard_uuid(row.transcript_id), row.number)


_NO_SCANS = text("SET LOCAL enable_seqscan = off")

# The LIMIT is in the subquery, so no plan reads more rows, whatever the planner expects of the terms.
_WALK = text("""
    SELECT transcript_id, number, CASE WHEN terms IS NULL THEN readable ELSE terms @> CAST(:terms AS int[]) END
        AS candidate
    FROM (
        SELECT transcript_id, number, terms, texts IS NOT NULL AS readable FROM transcript_segments
        WHERE client_id = :client_id AND transcript_id BETWEEN :oldest AND :transcript_id
          AND (transcript_id < :transcript_id OR number >= :number)
        ORDER BY transcript_id DESC, number LIMIT :limit
    ) AS walked
    ORDER BY transcript_id DESC, number
""")

# MATERIALIZED: otherwise the planner may read the segments in order, hoping to find rare terms early.
_FROM_INDEX = text("""
    WITH known AS MATERIALIZED (
        SELECT transcript_id, number, client_id FROM transcript_segments WHERE terms @> CAST(:terms AS int[])
    ), unindexed AS MATERIALIZED (
        SELECT transcript_id, number, client_id FROM transcript_segments
        WHERE client_id = :client_id AND terms IS NULL AND texts IS NOT NULL
          AND transcript_id BETWEEN :oldest AND :transcript_id AND (transcript_id < :transcript_id OR number >= :number)
        ORDER BY transcript_id DESC, number LIMIT :limit
    )
    SELECT transcript_id, number FROM (SELECT * FROM known UNION ALL SELECT * FROM unindexed) AS candidates
    WHERE client_id = :client_id AND transcript_id BETWEEN :oldest AND :transcript_id
      AND (transcript_id < :transcript_id OR number >= :number)
    ORDER BY transcript_id DESC, number LIMIT :limit
""")

# Different labels or texts may share a term. This statement drops wrong labels, `matches` drops wrong texts.
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
