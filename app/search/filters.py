"""Filters and page parameters that the list of transcripts and the search over them share."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, NamedTuple
from uuid import UUID

from fastapi import Depends

from app.api.pagination import DEFAULT_LIMIT, Cursor, Limit
from app.api.parameters import CreatedAfter, CreatedBefore, JobFilter, ModelFilter, RegionFilter

# Tolerance between ids and `created_at`, which come from one clock, in case that clock was set back.
CLOCK_TOLERANCE_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class TranscriptFilters:
    """Conditions that a transcript must meet. None: any."""

    job_id: UUID | None = None
    model: str | None = None
    region: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


class TranscriptQuery(NamedTuple):
    """The query parameters. `cursor` is still encoded, because each list has its own kind of cursor."""

    filters: TranscriptFilters
    limit: int
    cursor: str | None


async def _transcript_query(
    *,
    job_id: JobFilter = None,
    model: ModelFilter = None,
    region: RegionFilter = None,
    created_after: CreatedAfter = None,
    created_before: CreatedBefore = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> TranscriptQuery:
    filters = TranscriptFilters(job_id, model, region, created_after, created_before)
    return TranscriptQuery(filters, limit, cursor)


TranscriptQueryDep = Annotated[TranscriptQuery, Depends(_transcript_query)]
