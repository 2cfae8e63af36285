"""Search over the segments of a client. The work per request is bounded: a page may be short and still continue.

`candidates` names the segments that may match, in the order of hits; their texts decide.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncSession

from app.identifiers import standard_uuid
from app.search.candidates import HitPosition, batches
from app.search.filters import TranscriptFilters
from app.search.matching import Match, matches
from app.search.query import Query
from app.search.segments import unpack

# Candidates that one request reads: at most MAX_READ, at least MIN_READ, and no more than those after READ_S.
MAX_READ = 1000
MIN_READ = 32
READ_S = 0.04
# After this no further window is looked up: the look-up may take as long again.
LOOK_UP_S = READ_S / 2


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
    """Up to `limit` hits from `start` on. Two statements for frequent matches, about twenty at most."""
    hits: list[Hit] = []
    read, began = 0, time.monotonic()
    async with aclosing(batches(session, client_id, query, filters, start)) as found:
        async for rows, candidates, following in found:
            limits = _ReadLimits(
                query=query,
                start=start,
                max_hits=limit + 1 - len(hits),
                min_rows=MIN_READ - read,
                stop_at=began + READ_S,
            )
            matching, unread = await asyncio.to_thread(_read, rows, limits) if rows else ([], None)
            hits += matching
            if len(hits) > limit:
                hit = hits[limit - 1]
                return SearchResult(hits[:limit], HitPosition(hit.transcript_id, hit.number, hit.match.row + 1))
            if unread is not None:
                return SearchResult(hits, HitPosition.of(unread))
            read += candidates
            taken_s = time.monotonic() - began
            is_late = taken_s > LOOK_UP_S if not candidates else taken_s > READ_S and read >= MIN_READ
            if read >= MAX_READ or is_late:
                return SearchResult(hits, following)
    return SearchResult(hits, None)


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
