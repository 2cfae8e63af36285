"""The requests of createJob, listJobs and getJob, as `validate_request` checks them and OpenAPI describes them."""

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Header, Query
from pydantic import BaseModel, TypeAdapter

from app.api.pagination import DEFAULT_LIMIT, Cursor, Limit
from app.api.parameters import CreatedAfter, CreatedBefore, ModelFilter, RegionFilter
from app.jobs.dependencies import PreferHeader, WaitParameter
from app.jobs.schemas import JobRequest
from app.jobs.validation import IdempotencyKey
from app.queue.lifecycle import JobStatus


class WaitQuery(BaseModel):
    wait: WaitParameter = None


class WaitHeaders(BaseModel):
    prefer: PreferHeader = None


class CreateJobHeaders(WaitHeaders):
    idempotency_key: IdempotencyKey = None


class ListJobsQuery(BaseModel):
    status: Annotated[
        list[JobStatus] | None, Query(description="May be given several times; matches any of the values.")
    ] = None
    model: ModelFilter = None
    region: RegionFilter = None
    created_after: CreatedAfter = None
    created_before: CreatedBefore = None
    limit: Limit = DEFAULT_LIMIT
    cursor: Cursor = None


@dataclass(frozen=True, slots=True)
class CreateJob:
    query: Annotated[WaitQuery, Query()]
    header: Annotated[CreateJobHeaders, Header()]
    body: JobRequest


@dataclass(frozen=True, slots=True)
class ListJobs:
    query: Annotated[ListJobsQuery, Query()]


@dataclass(frozen=True, slots=True)
class GetJob:
    job_id: UUID
    query: Annotated[WaitQuery, Query()]
    header: Annotated[WaitHeaders, Header()]


CREATE_JOB = TypeAdapter(CreateJob)
LIST_JOBS = TypeAdapter(ListJobs)
GET_JOB = TypeAdapter(GetJob)
