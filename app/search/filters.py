"""What the list of transcripts and the search over them are asked alike: filters and page."""

from typing import Annotated, NamedTuple

from fastapi import Depends

from app.api.filters import CreatedAfter, CreatedBefore, JobFilter, ModelFilter, RegionFilter
from app.api.pagination import DEFAULT_LIMIT, Cursor, Limit
from app.search.searching import TranscriptFilters


class TranscriptQuery(NamedTuple):
    """`cursor` is still to be read: each list has its own."""

    filters: TranscriptFilters
    limit: int
    cursor: str | None


async def _asked(
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


AskedDep = Annotated[TranscriptQuery, Depends(_asked)]
