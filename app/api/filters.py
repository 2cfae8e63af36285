"""Filters that several lists have alike. All of them are exact, and all that are given have to hold."""

from typing import Annotated
from uuid import UUID

from fastapi import Query

from app.api.instants import Instant
from app.catalogue import RegionName

JobFilter = Annotated[UUID | None, Query(description="Only of this job.")]
ModelFilter = Annotated[str | None, Query(min_length=1, description="Only of this model.")]
RegionFilter = Annotated[RegionName | None, Query(description="Only of this region.")]
CreatedAfter = Annotated[Instant | None, Query(description="Only what was created after this instant (exclusive).")]
CreatedBefore = Annotated[Instant | None, Query(description="Only what was created before this instant (exclusive).")]
