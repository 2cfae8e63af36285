"""`/v1/jobs`: what clients ask for, and how far it is. Answers are bytes made from rows; the models are for OpenAPI."""

from contextlib import suppress
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response

from app.api.bodies import read_json
from app.api.conditional import not_modified, validator_headers
from app.api.dependencies import SessionsDep
from app.api.pagination import DEFAULT_LIMIT, Cursor, Limit, decode_cursor, paginate, scoped_key
from app.api.problems import responses
from app.api.strict_route import prefixed_query, query_prefix, query_values, validate_request
from app.clients.authentication import AuthenticatedRequestRoute, AuthenticatedRoute, ClientDep, current_client
from app.db import transaction
from app.errors import (
    DatabaseUnavailable,
    Fault,
    IdempotencyKeyReused,
    InvalidCursor,
    InvalidRequest,
    JobFinal,
    JobNotFinal,
    ModelNotInRegion,
    NotFound,
    NothingToRetry,
    RegionNotServed,
    TooManyWaitingFiles,
    UnknownModel,
)
from app.jobs.dependencies import job_services, wait_for_job, wait_s
from app.jobs.parameters import CREATE_JOB, GET_JOB, LIST_JOBS, CreateJob, GetJob, ListJobs
from app.jobs.preference import preference_applied
from app.jobs.schemas import MAX_FILES, Job, JobFilePage, JobPage
from app.jobs.validation import validate_new_job
from app.queue import commands, queries
from app.queue.job_json import file_json, job_bytes, job_etag, page_bytes
from app.queue.lifecycle import FileStatus
from app.queue.queries import JobFilters, JobRow

# The calls that get most requests.
request_router = APIRouter(prefix="/v1/jobs", route_class=AuthenticatedRequestRoute, tags=["jobs"])
router = APIRouter(prefix="/v1/jobs", route_class=AuthenticatedRoute, tags=["jobs"])

_RETRY_AFTER = {
    "Retry-After": {
        "description": "While the job is not final: after so many seconds, 1 to 60, it is worth looking again."
        " Estimated from the job's own pace, or from similar jobs that finished lately. `wait` is better.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 60},
    }
}
_PREFERENCE_APPLIED = {
    "Preference-Applied": {
        "description": "`wait=N` when `Prefer` asked for it and the parameter did not; N is at most 60.",
        "schema": {"type": "string"},
    }
}
_ETAG = {"ETag": {"description": "Changes with the job.", "schema": {"type": "string"}}}
_READ = {**_ETAG, **_RETRY_AFTER, **_PREFERENCE_APPLIED}
_CREATED: dict[str, Any] = {
    "description": "The job is durable: it will be done, whatever happens to the gateway.",
    "headers": {
        "Location": {"description": "Where the job is.", "schema": {"type": "string"}},
        "Idempotency-Replayed": {
            "description": "`true` when the job was there already under this Idempotency-Key.",
            "schema": {"type": "string", "enum": ["true"]},
        },
        **_RETRY_AFTER,
        **_PREFERENCE_APPLIED,
    },
}

FileIndex = Annotated[int, msgspec.Meta(ge=0, lt=MAX_FILES)]


@request_router.post(
    "",
    operation_id="createJob",
    summary="Create a job",
    status_code=202,
    dependencies=[Depends(CreateJob)],
    response_model=Job,
    responses={
        202: _CREATED,
        **responses(
            InvalidRequest, UnknownModel, ModelNotInRegion, RegionNotServed, IdempotencyKeyReused, TooManyWaitingFiles
        ),
    },
)
async def create_job(request: Request) -> Response:
    """Answered once the job is committed. The gateway splits the files into upstream tasks by itself.

    A URL that turns out not to be fetchable fails its own file only; what is wrong with the request itself is told
    with all its places at once, and nothing is kept of it.
    \f
    One statement, two for a replay, and the token's. Waiting in vain adds one. What is sent at the same moment
    shares them.
    """
    client = await current_client(request)
    asked = validate_request(
        CREATE_JOB,
        query=query_values(request),
        header=_headers(request),
        body=await read_json(request),
    )
    if len(request.headers.getlist("idempotency-key")) > 1:
        detail = "may be given once only"
        raise InvalidRequest(f"The Idempotency-Key {detail}.", faults=[Fault("/header/Idempotency-Key", detail)])
    services = job_services(request)
    new = validate_new_job(
        asked.body, client_id=client.id, idempotency_key=asked.header.idempotency_key, served=services.served
    )
    created = await services.intake.create(new)
    job = created.job
    if not created.replayed:
        services.wakeup.ring()
    # The job is durable: an error now would invite its sender to send it again.
    with suppress(DatabaseUnavailable, NotFound):
        job = await _wait(request, job, wait_s(request, asked.query.wait, asked.header.prefer))
    headers = {"Location": f"/v1/jobs/{job.id}", **await services.retry_after(job)}
    if created.replayed:
        headers["Idempotency-Replayed"] = "true"
    return _json(job_bytes(job), headers | preference_applied(request), status_code=202)


@request_router.get(
    "",
    operation_id="listJobs",
    summary="List jobs, newest first",
    dependencies=[Depends(ListJobs)],
    response_model=JobPage,
    responses=responses(InvalidRequest, InvalidCursor),
    openapi_extra=query_prefix("metadata.", "Jobs with this pair in their metadata: `metadata.call=4711`."),
)
async def list_jobs(request: Request) -> Response:
    """Pages stay stable while new jobs arrive. Filters narrow each other; each job shows its first 100 files.
    \f
    One statement, another one when there are jobs that changed since this process last showed them, and the token's.
    """
    client = await current_client(request)
    query = validate_request(LIST_JOBS, query=query_values(request, repeatable="status")).query
    before_id = None
    if query.cursor is not None:
        before_id = decode_cursor(query.cursor, tuple[Literal["jobs"], UUID], client.cursor_key)[1]
    filters = JobFilters(
        statuses=query.status or (),
        model=query.model,
        region=query.region,
        created_after=query.created_after,
        created_before=query.created_before,
        metadata=prefixed_query(request, "metadata."),
        before_id=before_id,
    )
    jobs = await job_services(request).shown.page(client.id, filters, query.limit + 1)
    page, next_cursor = paginate(jobs, query.limit, lambda job: ("jobs", job[0]), client.cursor_key)
    return _json(page_bytes([msgspec.Raw(body) for _, body in page], next_cursor))


@request_router.get(
    "/{job_id}",
    operation_id="getJob",
    summary="Get a job",
    dependencies=[Depends(GetJob)],
    response_model=Job,
    responses={
        200: {"headers": _READ},
        304: {"description": "The job is as the caller knows it.", "headers": _READ},
        **responses(InvalidRequest, NotFound),
    },
)
async def get_job(request: Request) -> Response:
    """With `wait` it answers as soon as the job is final, and when the time is over with the job as it is then.
    \f
    One statement, two when the wait is over too early, and the token's; those who ask at the same moment share them.
    All who wait share one statement each 0.1 s, and another one for each 100 jobs that have moved.
    """
    client = await current_client(request)
    asked = validate_request(
        GET_JOB, job_id=request.path_params["job_id"], query=query_values(request), header=_headers(request)
    )
    services = job_services(request)
    job = await services.lookup.job(client.id, asked.job_id)
    job = await _wait(request, job, wait_s(request, asked.query.wait, asked.header.prefer))
    etag = job_etag(job)
    more = await services.retry_after(job) | preference_applied(request)
    return not_modified(request, etag, more) or _json(job_bytes(job), validator_headers(etag) | more)


@router.get(
    "/{job_id}/files",
    operation_id="listJobFiles",
    summary="List a job's files in order",
    response_model=JobFilePage,
    responses=responses(InvalidRequest, InvalidCursor, NotFound),
)
async def list_job_files(
    job_id: UUID,
    *,
    client: ClientDep,
    sessions: SessionsDep,
    status: Annotated[list[FileStatus] | None, Query(description="May be repeated: any of them.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response:
    """All files of the job, also those that the job itself does not show.
    \f
    One statement, two when there is nothing to show, and the token's.
    """
    key = scoped_key(client.cursor_key, job_id)
    after_index = decode_cursor(cursor, tuple[Literal["files"], FileIndex], key)[1] if cursor is not None else -1
    async with transaction(sessions) as session:
        files = await queries.list_files(
            session, client.id, job_id, statuses=status or (), after_index=after_index, limit=limit + 1
        )
    page, next_cursor = paginate(files, limit, lambda file: ("files", file.index), key)
    return _json(page_bytes([file_json(file) for file in page], next_cursor))


@router.post(
    "/{job_id}/cancel",
    operation_id="cancelJob",
    summary="Cancel a job",
    response_model=Job,
    responses=responses(NotFound, JobFinal),
)
async def cancel_job(request: Request, job_id: UUID, client: ClientDep) -> Response:
    """What is not finished is canceled at once; what is finished stays, with its transcripts.

    Files that wait never reach upstream. What waits upstream is cancelled there, unless it shares a task with
    another job. What upstream has begun cannot be stopped: it is billed, and its result is dropped.
    \f
    Six statements, five when nothing is under way, and the token's.
    """
    services = job_services(request)
    job = await commands.cancel_job(services.sessions, client.id, job_id)
    services.wakeup.ring()
    return _json(job_bytes(job))


@router.post(
    "/{job_id}/retry",
    operation_id="retryJob",
    summary="Retry failed and canceled files",
    status_code=202,
    response_model=Job,
    responses={
        202: {"description": "The files wait again, and that is durable.", "headers": _RETRY_AFTER},
        **responses(NotFound, NothingToRetry, TooManyWaitingFiles),
    },
)
async def retry_job(request: Request, job_id: UUID, client: ClientDep) -> Response:
    """Failed and canceled files are queued again, while others of the job may still run; the job is no longer final.

    `attempts` goes on counting, so a retry is one attempt: the second one that the gateway makes by itself when a
    new file fails by the engine's fault is not made again. A canceled file that upstream had begun is billed twice.
    \f
    Five statements, and the token's.
    """
    services = job_services(request)
    async with transaction(services.sessions) as session:
        job = await commands.retry_job(session, client.id, job_id, waiting_limit=services.waiting_limit)
    services.wakeup.ring()
    return _json(job_bytes(job), await services.retry_after(job), status_code=202)


@router.delete(
    "/{job_id}",
    operation_id="deleteJob",
    summary="Delete a job",
    status_code=204,
    responses={204: {"description": "The job is gone."}, **responses(NotFound, JobNotFinal)},
)
async def delete_job(job_id: UUID, client: ClientDep, sessions: SessionsDep) -> Response:
    """The job, its files and their transcripts are gone for good. Its Idempotency-Key may be used for another one.
    \f
    Two statements, and the token's.
    """
    async with transaction(sessions) as session:
        await commands.delete_job(session, client.id, job_id)
    return Response(status_code=204)


def _headers(request: Request) -> dict[str, str]:
    """The `header` part for `validate_request`."""
    names = ("Prefer", "Idempotency-Key")
    return {name: value for name in names if (value := request.headers.get(name)) is not None}


async def _wait(request: Request, job: JobRow, timeout_s: int) -> JobRow:
    """The caller's job as it is after waiting. Nothing is held meanwhile, no connection either."""
    if not timeout_s or job.final:
        return job
    services, client_id = job_services(request), request.state.client.id
    return await wait_for_job(request, services.waiters, job.id, timeout_s) or await services.lookup.job(
        client_id, job.id
    )


def _json(body: bytes, headers: dict[str, str] | None = None, *, status_code: int = 200) -> Response:
    return Response(body, status_code, headers, media_type="application/json")
