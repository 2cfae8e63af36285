"""Search over the segments of a client. The work per request is bounded: a page may be short and still continue.

First a walk over the client's newest segments, in the order of hits, finds frequent matches at once, without fetching
thousands of others from the index. If the index has few candidates, they are read at once; otherwise one window of the
client's segments after the other, each larger than the one before. All only name candidates; the segments' texts
decide.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
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
# While at least this share of the walked segments are candidates, walking is cheaper than the index: a walk reads eight
# segments on a page, a look-up a page for each.
COMMON = 1 / 32
MAX_WALKED = 2000
# Candidates that one request reads: at most MAX_READ, at least MIN_READ, and no more than those after READ_S.
MAX_READ = 1000
MIN_READ = 32
READ_S = 0.05
# Candidates that are read in one statement.
READ_BATCH = 64
# More candidates than this are looked up by windows. A look-up of a window reads the index entries of all its segments,
# but the pages of the candidates only.
FEW = 500
FIRST_WINDOW = 8192
MAX_WINDOW = 32768


class HitPosition(NamedTuple):
    """The place of a hit in the order of results: newest transcript first, then by segment and row."""

    transcript_id: UUID = UUID_MAX
    number: int = 0
    row: int = 0

    def after(self) -> "HitPosition":
        """The first position of the next segment."""
        return HitPosition(self.transcript_id, self.number + 1)


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
    """Up to `limit` hits from `start` on. Three statements for frequent matches, about twenty at most."""
    # No statement here needs a sequential scan, but without statistics of `terms` the planner might choose one.
    await session.execute(_NO_SCANS)
    parameters = _parameters(client_id, query, filters)
    hits: list[Hit] = []
    read, stop_at = 0, time.monotonic() + READ_S
    async with aclosing(_candidates(session, parameters, start)) as batches:
        async for candidates, following in batches:
            pointers = {
                "transcript_ids": [each.transcript_id for each in candidates],
                "numbers": [each.number for each in candidates],
            }
            rows = (await session.execute(_READ, pointers | parameters)).all() if candidates else []
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
            if read >= MAX_READ or (not candidates and time.monotonic() > stop_at):
                return SearchResult(hits, following)
    return SearchResult(hits, None)


# Segments that may match, in order, and the position after them.
_Batch = tuple[Sequence[HitPosition], HitPosition]


async def _candidates(session: AsyncSession, parameters: dict[str, Any], start: HitPosition) -> AsyncGenerator[_Batch]:
    """Batches of candidates in order. An empty one is the end of a window."""
    start = min(start, HitPosition(parameters["newest"]), key=lambda each: each.transcript_id)
    rows = FIRST_WALK
    for _ in range(0, MAX_WALKED, WALK):
        walked = (await session.execute(_WALK, _from(start, rows) | parameters)).all()
        candidates = [_position(row) for row in walked if row.candidate]
        for batch in _batches(candidates):
            yield batch
        if len(walked) < rows:
            return
        start = _position(walked[-1]).after()
        if len(candidates) < COMMON * rows:
            break
        rows = WALK
    few = (await session.execute(_FEW, _from(start, FEW + 1) | parameters)).all()
    if len(few) <= FEW:
        for batch in _batches(_left(few, start, parameters["oldest"])):
            yield batch
        return
    async for batch in _windows(session, parameters, start):
        yield batch


def _left(rows: Sequence[Row[Any]], start: HitPosition, oldest: UUID) -> list[HitPosition]:
    """The client's own of the candidates, from `start` to `oldest`, in order."""
    places = [_position(row) for row in rows if row.own]
    newest, number = start.transcript_id, start.number
    left = [each for each in places if oldest <= each.transcript_id <= newest]
    left = [each for each in left if each.transcript_id < newest or each.number >= number]
    return sorted(left, key=lambda each: (-each.transcript_id.int, each.number))


async def _windows(session: AsyncSession, parameters: dict[str, Any], start: HitPosition) -> AsyncGenerator[_Batch]:
    """The candidates of one window of the client's segments after the other."""
    # The plan depends on the window, and must not be one for windows of any size.
    await session.execute(_PLAN_EACH)
    size = FIRST_WINDOW
    while True:
        lowest = await session.scalar(_WINDOW, _from(start, size) | parameters)
        window = {"lowest": lowest or parameters["oldest"]}
        found = (await session.execute(_IN_WINDOW, _from(start, MAX_READ + 1) | parameters | window)).all()
        for batch in _batches([_position(row) for row in found]):
            yield batch
        if lowest is None:
            return
        start = HitPosition(UUID(int=lowest.int - 1))
        yield (), start
        size = min(size * 4, MAX_WINDOW)


def _batches(candidates: Sequence[HitPosition]) -> Iterator[_Batch]:
    for at in range(0, len(candidates), READ_BATCH):
        batch = candidates[at : at + READ_BATCH]
        yield batch, batch[-1].after()


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

_PLAN_EACH = text("SET LOCAL plan_cache_mode = force_custom_plan")

# All candidates, or `limit` of them. They are not restricted further, because a bitmap scan that skips rows may read
# many before it has `limit`.
_FEW = text("""
    WITH known AS MATERIALIZED (
        SELECT transcript_id, number, client_id FROM transcript_segments WHERE terms @> CAST(:terms AS int[])
        LIMIT :limit
    ), unindexed AS MATERIALIZED (
        SELECT transcript_id, number, client_id FROM transcript_segments
        WHERE client_id = :client_id AND terms IS NULL AND texts IS NOT NULL
          AND transcript_id BETWEEN :oldest AND :transcript_id AND (transcript_id < :transcript_id OR number >= :number)
        ORDER BY transcript_id DESC, number LIMIT :limit
    )
    SELECT transcript_id, number, client_id = :client_id AS own
    FROM (SELECT * FROM known UNION ALL SELECT * FROM unindexed) AS candidates LIMIT :limit
""")

# The transcript with which a window of `limit` segments ends. None: the window has all segments that are left.
_WINDOW = text("""
    SELECT transcript_id FROM transcript_segments
    WHERE client_id = :client_id AND transcript_id BETWEEN :oldest AND :transcript_id
      AND (transcript_id < :transcript_id OR number >= :number)
    ORDER BY transcript_id DESC, number OFFSET :limit LIMIT 1
""")

# Both indexes as bitmaps, of which only the intersection is read. The planner cannot see the terms in the subquery. If
# it could, it would take each for rare, for want of statistics, and read all candidates of the index of terms.
_IN_WINDOW = text("""
    SELECT transcript_id, number FROM (
        SELECT transcript_id, number FROM transcript_segments
        WHERE client_id = :client_id AND transcript_id BETWEEN :lowest AND :transcript_id
          AND (transcript_id < :transcript_id OR number >= :number)
          AND terms @> (SELECT CAST(:terms AS int[]))
        UNION ALL
        SELECT transcript_id, number FROM transcript_segments
        WHERE client_id = :client_id AND terms IS NULL AND texts IS NOT NULL
          AND transcript_id BETWEEN :lowest AND :transcript_id AND (transcript_id < :transcript_id OR number >= :number)
    ) AS candidates
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
