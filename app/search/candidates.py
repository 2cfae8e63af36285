"""Names the segments of a client that may match a query, newest transcript first. Their texts decide.

First a walk over the client's newest segments, in the order of hits, finds frequent matches at once, without fetching
thousands of others from the index. Rarer matches are looked up in the index: in one window of the client's segments
after the other, or all that are left at once if they are few.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from itertools import chain, repeat
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.identifiers import UUID_MAX, UUID_MIN, lowest_id_at, standard_uuid
from app.search.filters import CLOCK_TOLERANCE_S, TranscriptFilters
from app.search.indexing import labels
from app.search.query import Query

# Segments of the first walk, and of each further one.
FIRST_WALK = 256
WALK = 1024
# While at least this share of the walked segments are candidates, walking is cheaper than the index: a walk reads eight
# segments on a page, a look-up a page for each.
COMMON = 1 / 32
# Candidates that one statement returns with their texts.
READ_BATCH = 64
# More candidates than this are looked up by windows. A look-up of a window reads the index entries of all its segments,
# but the pages of the candidates only.
FEW = 500
WINDOWS = (8192, 32768)
MAX_IN_WINDOW = 1000


class HitPosition(NamedTuple):
    """The place of a hit in the order of results: newest transcript first, then by segment and row."""

    transcript_id: UUID = UUID_MAX
    number: int = 0
    row: int = 0

    @classmethod
    def of(cls, row: Row[Any]) -> "HitPosition":
        """The first position of a segment."""
        return cls(standard_uuid(row.transcript_id), row.number)

    def after(self) -> "HitPosition":
        """The first position of the next segment."""
        return HitPosition(self.transcript_id, self.number + 1)


class Batch(NamedTuple):
    """`rows`: those of `candidates` candidates that meet the filters, in order, with their texts.

    `following`: the position after them; None: no candidates are left.
    """

    rows: Sequence[Row[Any]]
    candidates: int
    following: HitPosition | None


class _Found(NamedTuple):
    """Candidates without their texts, in order, and the position after the segments that were looked up."""

    rows: Sequence[Row[Any]]
    following: HitPosition | None


async def batches(
    session: AsyncSession, client_id: UUID, query: Query, filters: TranscriptFilters, start: HitPosition
) -> AsyncGenerator[Batch]:
    """The candidates from `start` on. A batch without candidates ends each window."""
    # No statement here needs a sequential scan, but without statistics of `terms` the planner might choose one.
    await session.execute(_NO_SCANS)
    parameters = await _parameters(session, client_id, query, filters)
    if parameters is None:
        return
    start = min(start, HitPosition(parameters["newest"]), key=lambda each: each.transcript_id)
    walk, seen, is_common = FIRST_WALK, False, True
    while is_common:
        rows = (await session.execute(_WALK, _from(start, READ_BATCH) | {"walk": walk} | parameters)).all()
        candidates = [row for row in rows if row.candidate]
        ended = len(rows) < READ_BATCH and (not rows or rows[-1].place < walk)
        start = start if ended else HitPosition.of(rows[-1]).after()
        yield Batch([row for row in candidates if row.job_id], len(candidates), None if ended else start)
        if ended:
            return
        walk, seen, is_common = WALK, seen or bool(candidates), len(candidates) >= COMMON * rows[-1].place
    async with aclosing(_looked_up(session, parameters, start, seen=seen)) as look_ups:
        async for found, following in look_ups:
            for at in range(0, len(found), READ_BATCH):
                few = found[at : at + READ_BATCH]
                yield Batch(await _read(session, parameters, few), len(few), HitPosition.of(few[-1]).after())
            yield Batch((), 0, following)


async def _looked_up(
    session: AsyncSession, parameters: dict[str, Any], start: HitPosition, *, seen: bool
) -> AsyncGenerator[_Found]:
    """The candidates of one window after the other; or all that are left, if they are few.

    `seen`: the walk has met candidates, so the first window probably has enough for a page.
    """
    for number, size in enumerate(chain(WINDOWS, repeat(WINDOWS[-1]))):
        if number == (1 if seen else 0):
            few = (await session.execute(_FEW, _from(start, FEW + 1) | parameters)).all()
            if len(few) <= FEW:
                yield _Found(_left(few, start, parameters["oldest"]), None)
                return
        lowest = await session.scalar(_WINDOW, _from(start, size) | parameters)
        window = {"lowest": lowest or parameters["oldest"]}
        rows = (await session.execute(_IN_WINDOW, _from(start, MAX_IN_WINDOW) | parameters | window)).all()
        if len(rows) == MAX_IN_WINDOW:
            start = HitPosition.of(rows[-1]).after()
        elif lowest is not None:
            start = HitPosition(UUID(int=lowest.int - 1))
        else:
            yield _Found(rows, None)
            return
        yield _Found(rows, start)


def _left(rows: Sequence[Row[Any]], start: HitPosition, oldest: UUID) -> list[Row[Any]]:
    """The client's own of the candidates, from `start` to `oldest`, in order."""
    left = [row for row in rows if row.own and oldest <= row.transcript_id <= start.transcript_id]
    left = [row for row in left if row.transcript_id < start.transcript_id or row.number >= start.number]
    return sorted(left, key=lambda row: (-row.transcript_id.int, row.number))


async def _read(session: AsyncSession, parameters: dict[str, Any], found: Sequence[Row[Any]]) -> Sequence[Row[Any]]:
    """Those of the candidates that meet the filters, with their texts."""
    pointers = {
        "transcript_ids": [row.transcript_id for row in found],
        "numbers": [row.number for row in found],
    }
    return (await session.execute(_READ, pointers | parameters)).all()


async def _parameters(
    session: AsyncSession, client_id: UUID, query: Query, filters: TranscriptFilters
) -> dict[str, Any] | None:
    """None if the client has no transcript of the filters' time."""
    exact = {"job_id": filters.job_id, "model": filters.model, "region": filters.region}
    given = {kind: value for kind, value in exact.items() if value is not None}
    after, before = filters.created_after, filters.created_before
    span = {
        "oldest": lowest_id_at(after, shift_s=-CLOCK_TOLERANCE_S) if after else UUID_MIN,
        "newest": lowest_id_at(before, shift_s=CLOCK_TOLERANCE_S) if before else UUID_MAX,
    }
    times = {"client_id": client_id, "created_after": after, "created_before": before}
    if after or before:
        row = (await session.execute(_SPAN, times | span)).one()
        if row.oldest is None or row.newest is None:
            return None
        span = {"oldest": standard_uuid(row.oldest), "newest": standard_uuid(row.newest)}
    return {"terms": [*labels(client_id, **given), *query.terms], **exact, **times, **span}


def _from(start: HitPosition, limit: int) -> dict[str, Any]:
    return {"transcript_id": start.transcript_id, "number": start.number, "limit": limit}


_NO_SCANS = text("SET LOCAL enable_seqscan = off")

# The first and the last transcript of a time. Otherwise a search would read the candidates of CLOCK_TOLERANCE_S before
# and after it, which are a thousand times as large as the rows that are read here.
_SPAN = text("""
    SELECT (SELECT id FROM transcripts WHERE client_id = :client_id AND id BETWEEN :oldest AND :newest
            AND (CAST(:created_after AS timestamptz) IS NULL OR created_at > :created_after)
            ORDER BY id LIMIT 1) AS oldest,
        (SELECT id FROM transcripts WHERE client_id = :client_id AND id BETWEEN :oldest AND :newest
            AND (CAST(:created_before AS timestamptz) IS NULL OR created_at < :created_before)
            ORDER BY id DESC LIMIT 1) AS newest
""")

# The conditions that labels and ids only approximate. Different labels may share a term.
_MEETS_FILTERS = """
    transcripts.id = segments.transcript_id AND transcripts.client_id = :client_id
    AND (CAST(:job_id AS uuid) IS NULL OR transcripts.job_id = :job_id)
    AND (CAST(:model AS text) IS NULL OR transcripts.model = :model)
    AND (CAST(:region AS text) IS NULL OR transcripts.region = :region)
    AND (CAST(:created_after AS timestamptz) IS NULL OR transcripts.created_at > :created_after)
    AND (CAST(:created_before AS timestamptz) IS NULL OR transcripts.created_at < :created_before)
"""

# The candidates among the next `walk` segments, with their texts, up to `limit` of them. The last of the walked
# segments is returned too, to tell where the walk ended. `job_id` is NULL where a candidate does not meet the filters.
# The inner LIMIT bounds every plan, whatever the planner expects of the terms.
_WALK = text(f"""
    SELECT segments.transcript_id, segments.number, segments.place, segments.candidate, segments.texts,
           transcripts.job_id, transcripts.file_url
    FROM (
        SELECT transcript_id, number, place, candidate, CASE WHEN candidate THEN texts END AS texts FROM (
            SELECT transcript_id, number, texts, row_number() OVER (ORDER BY transcript_id DESC, number) AS place,
                   CASE WHEN terms IS NULL THEN texts IS NOT NULL ELSE terms @> CAST(:terms AS int[]) END AS candidate
            FROM (
                SELECT transcript_id, number, texts, terms FROM transcript_segments
                WHERE client_id = :client_id AND transcript_id BETWEEN :oldest AND :transcript_id
                  AND (transcript_id < :transcript_id OR number >= :number)
                ORDER BY transcript_id DESC, number LIMIT :walk
            ) AS newest
        ) AS walked
        WHERE candidate OR place = :walk ORDER BY transcript_id DESC, number LIMIT :limit
    ) AS segments LEFT JOIN transcripts ON segments.candidate AND {_MEETS_FILTERS}
    ORDER BY segments.transcript_id DESC, segments.number
""")  # noqa: S608 - our own text

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

# The transcript with which a window of `limit` segments ends. None: the window has all segments that are left. The
# statements after it are planned each time: a plan for windows of any size does not use both indexes.
_WINDOW = text("""
    SELECT (
        SELECT transcript_id FROM transcript_segments
        WHERE client_id = :client_id AND transcript_id BETWEEN :oldest AND :transcript_id
          AND (transcript_id < :transcript_id OR number >= :number)
        ORDER BY transcript_id DESC, number OFFSET :limit LIMIT 1
    ) AS lowest, set_config('plan_cache_mode', 'force_custom_plan', true)
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

_READ = text(f"""
    SELECT segments.transcript_id, segments.number, segments.texts, transcripts.job_id, transcripts.file_url
    FROM unnest(CAST(:transcript_ids AS uuid[]), CAST(:numbers AS int[])) AS wanted (transcript_id, number)
    JOIN transcript_segments AS segments USING (transcript_id, number)
    JOIN transcripts ON {_MEETS_FILTERS}
    WHERE segments.texts IS NOT NULL
    ORDER BY segments.transcript_id DESC, segments.number
""")  # noqa: S608 - our own text
