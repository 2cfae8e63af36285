"""`/v1/jobs`. Responses are JSON that `app.queue.job_json` wrote; the response models are for OpenAPI only.

The part of a docstring after `\\f` is not in the document.
"""

from contextlib import suppress
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response

from app.api.conditional import not_modified, validator_headers
from app.api.dependencies import SessionsDep
from app.api.headers import all_headers, first_header
from app.api.pagination import DEFAULT_LIMIT, Cursor, Limit, decode_cursor, encode_cursor, paginate, scoped_key
from app.api.problems import responses
from app.api.request_body import decode_json, parse_body, read_body
from app.api.strict_route import prefixed_query, query_prefix, query_values, validate_request
from app.clients.authentication import AuthenticatedRequestRoute, AuthenticatedRoute, ClientDep, authenticated_client
from app.clients.service import CurrentClient
from app.db import transaction
from app.errors import (
    BudgetCurrencyMismatch,
    BudgetExceeded,
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
    TooManyWaits,
    UnknownModel,
    VocabularyModelMismatch,
    VocabularyNotFound,
)
from app.jobs.bound_accounts import bind_accounts
from app.jobs.dependencies import (
    JobServices,
    deprecation_headers,
    job_services,
    requested_wait,
    wait_until_final,
)
from app.jobs.schemas import (
    CREATE_JOB,
    GET_JOB,
    LIST_JOBS,
    MAX_FILES,
    CreateJob,
    GetJob,
    JobFilePage,
    JobPage,
    ListJobs,
)
from app.jobs.validation import validate_new_job
from app.queue import commands, queries
from app.queue.creation import NewJob
from app.queue.job_json import Job, job_bytes, job_etag, page_bytes
from app.queue.lifecycle import FileStatus
from app.queue.queries import JobFilters
from app.webhooks import deliveries
from app.webhooks.schemas import Delivery, DeliveryPage

# The endpoints with the most requests.
request_router = APIRouter(prefix="/v1/jobs", route_class=AuthenticatedRequestRoute, tags=["jobs"])
router = APIRouter(prefix="/v1/jobs", route_class=AuthenticatedRoute)

_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds, 1 to 60, after which to read the job again; only while the job is not final."
        " Estimated from the job's progress, or from similar jobs that finished recently. `wait` needs fewer requests.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 60},
    }
}
_PREFERENCE_APPLIED = {
    "Preference-Applied": {
        "description": "`wait=N` if the wait comes from `Prefer` and not from the parameter. N is at most 60.",
        "schema": {"type": "string"},
    }
}
_ETAG = {"ETag": {"description": "Changes with the job.", "schema": {"type": "string"}}}
_READ = {**_ETAG, **_RETRY_AFTER, **_PREFERENCE_APPLIED}
_CREATED: dict[str, Any] = {
    "description": "The job is stored and will be processed, also after a restart of the gateway.",
    "headers": {
        "Location": {"description": "Path of the job.", "schema": {"type": "string"}},
        "Idempotency-Replayed": {
            "description": "`true` if the job was created by an earlier request with this Idempotency-Key.",
            "schema": {"type": "string", "enum": ["true"]},
        },
        "Deprecation": {
            "description": "Only if the retirement of the job's model is announced: since when, as in RFC 9745."
            " The job has a warning too.",
            "schema": {"type": "string"},
            "example": "@1769472000",
        },
        "Sunset": {
            "description": "When the model is to be retired, as in RFC 8594. Jobs are accepted after that date too.",
            "schema": {"type": "string"},
            "example": "Sat, 10 Oct 2026 00:00:00 GMT",
        },
        **_RETRY_AFTER,
        **_PREFERENCE_APPLIED,
    },
}

_HEADERS = {"Prefer": b"prefer", "Idempotency-Key": b"idempotency-key"}

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
            InvalidRequest,
            UnknownModel,
            ModelNotInRegion,
            RegionNotServed,
            VocabularyNotFound,
            VocabularyModelMismatch,
            IdempotencyKeyReused,
            TooManyWaitingFiles,
            BudgetExceeded,
            BudgetCurrencyMismatch,
        ),
    },
)
async def create_job(request: Request) -> Response:
    """The response is sent once the job is committed. The gateway splits the files into upstream tasks by itself.

    A URL that cannot be fetched fails only its own file. A request that is not valid is refused with all its faults,
    and creates nothing.
    \f
    One statement, two for a replay, and the token's. A wait that times out adds one. Concurrent requests share them.
    With `reuse` two or three, and ten more if files are reused; these are not shared.
    """
    client = authenticated_client(request)
    services = job_services(request)
    body = await read_body(request)
    values, new = await parse_body(body, partial(_read_new_job, request, client, services))
    created = await services.create(await bind_accounts(services.sessions, new))
    snapshot = created.snapshot
    if not created.replayed:
        services.wakeup.notify()
    # The job is durable: an error now would make the client send it again.
    timeout_s, applied = requested_wait(request, values.query.wait, values.header.prefer)
    if timeout_s:
        with suppress(DatabaseUnavailable, NotFound, TooManyWaits):
            snapshot = await wait_until_final(request, client.id, snapshot, timeout_s)
    headers = {"Location": f"/v1/jobs/{snapshot.job.id}", **await services.retry_after(snapshot)}
    headers |= deprecation_headers(snapshot.job.model)
    if created.replayed:
        headers["Idempotency-Replayed"] = "true"
    return _json(job_bytes(snapshot), headers | applied, status_code=202)


@request_router.get(
    "/{job_id}",
    operation_id="getJob",
    summary="Get a job",
    dependencies=[Depends(GetJob)],
    response_model=Job,
    responses={
        200: {"headers": _READ},
        304: {"description": "The job has not changed since the response with this ETag.", "headers": _READ},
        **responses(InvalidRequest, NotFound, TooManyWaits),
    },
)
async def get_job(request: Request) -> Response:
    """With `wait`, the response is sent as soon as the job is final, or after that time with the job as it is then.
    \f
    One statement, two if a wait times out, and the token's; concurrent requests share them. All waits share one
    statement each 0.1 s, and one more for each 100 jobs that changed.
    """
    client = authenticated_client(request)
    values = validate_request(
        GET_JOB, job_id=request.path_params["job_id"], query=query_values(request), header=_headers(request)
    )
    services = job_services(request)
    snapshot = await services.find_job((client.id, values.job_id))
    timeout_s, applied = requested_wait(request, values.query.wait, values.header.prefer)
    if timeout_s:
        snapshot = await wait_until_final(request, client.id, snapshot, timeout_s)
    etag = job_etag(snapshot)
    more = await services.retry_after(snapshot) | applied
    return not_modified(request, etag, more) or _json(job_bytes(snapshot), validator_headers(etag) | more)


@request_router.get(
    "",
    operation_id="listJobs",
    summary="List jobs, newest first",
    dependencies=[Depends(ListJobs)],
    response_model=JobPage,
    responses=responses(InvalidRequest, InvalidCursor),
    openapi_extra=query_prefix("metadata.", "Only jobs with this pair in their metadata: `metadata.call=4711`."),
)
async def list_jobs(request: Request) -> Response:
    """Pages stay stable while new jobs arrive. A job must match all filters. Each job shows its first 100 files.

    A page ends early, with a `next_cursor`, at the job with which it reaches 8 MiB.
    \f
    One statement, one more if jobs changed since this process last listed them, and the token's. Jobs of many files
    are read in several statements of about 16 MB.
    """
    client = authenticated_client(request)
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
    listed = await job_services(request).job_lists.page(client.id, filters, query.limit)
    next_cursor = None
    if listed.next_before is not None:
        next_cursor = encode_cursor(("jobs", listed.next_before), client.cursor_key)
    return _json(page_bytes([msgspec.Raw(body) for _, body in listed.jobs], next_cursor))


@router.get(
    "/{job_id}/files",
    operation_id="listJobFiles",
    tags=["jobs"],
    summary="List a job's files in order",
    response_model=JobFilePage,
    responses=responses(InvalidRequest, InvalidCursor, NotFound),
)
async def list_job_files(
    job_id: UUID,
    *,
    client: ClientDep,
    sessions: SessionsDep,
    status: Annotated[
        list[FileStatus] | None, Query(description="May be given several times; matches any of the values.")
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response:
    """All files of the job, also those beyond the first 100 that the job itself shows.
    \f
    One statement, two if the page is empty, and the token's.
    """
    key = scoped_key(client.cursor_key, job_id)
    after_index = decode_cursor(cursor, tuple[Literal["files"], FileIndex], key)[1] if cursor is not None else -1
    async with transaction(sessions) as session:
        files = await queries.list_files(
            session, client.id, job_id, statuses=status or (), after_index=after_index, limit=limit + 1
        )
    page, next_cursor = paginate(files, limit, lambda file: ("files", file.index), key)
    return _json(page_bytes(page, next_cursor))


@router.post(
    "/{job_id}/cancel",
    operation_id="cancelJob",
    tags=["jobs"],
    summary="Cancel a job",
    response_model=Job,
    responses=responses(NotFound, JobFinal),
)
async def cancel_job(request: Request, job_id: UUID, client: ClientDep) -> Response:
    """Files that are not finished are canceled at once. Finished files stay, with their transcripts.

    Queued files never reach DashScope. Files that DashScope has not begun are canceled there, unless they share a task
    with another job. Files that DashScope has begun cannot be stopped: they are billed, and their results are dropped.
    \f
    Six statements, five if no file is in a task, and the token's.
    """
    services = job_services(request)
    snapshot = await commands.cancel_job(services.sessions, client.id, job_id)
    services.wakeup.notify()
    return _json(job_bytes(snapshot))


@router.post(
    "/{job_id}/retry",
    operation_id="retryJob",
    tags=["jobs"],
    summary="Retry failed and canceled files",
    status_code=202,
    response_model=Job,
    responses={
        202: {"description": "The files are queued again, and that is stored.", "headers": _RETRY_AFTER},
        **responses(NotFound, NothingToRetry, TooManyWaitingFiles, BudgetExceeded, BudgetCurrencyMismatch),
    },
)
async def retry_job(request: Request, job_id: UUID, client: ClientDep) -> Response:
    """Failed and canceled files are queued again, also while other files of the job run. The job is no longer final.

    `attempts` is not reset, so a retry makes one attempt: only a new file gets a second attempt by itself when
    DashScope fails. A canceled file that DashScope had begun is billed twice.
    \f
    Five statements, and the token's.
    """
    services = job_services(request)
    async with transaction(services.sessions) as session:
        snapshot = await commands.retry_job(
            session,
            client.id,
            job_id,
            waiting_limit=services.waiting_limit,
            budget_assumed_s=services.budget_assumed_s if client.has_budget else None,
        )
    services.wakeup.notify()
    return _json(job_bytes(snapshot), await services.retry_after(snapshot), status_code=202)


@router.delete(
    "/{job_id}",
    operation_id="deleteJob",
    tags=["jobs"],
    summary="Delete a job",
    status_code=204,
    responses={204: {"description": "The job was deleted."}, **responses(NotFound, JobNotFinal)},
)
async def delete_job(job_id: UUID, client: ClientDep, sessions: SessionsDep) -> Response:
    """Deletes the job, its files and their transcripts for good. Its Idempotency-Key may be used for another job.
    \f
    Two statements, and the token's.
    """
    async with transaction(sessions) as session:
        await commands.delete_job(session, client.id, job_id)
    return Response(status_code=204)


@router.get(
    "/{job_id}/deliveries",
    operation_id="listJobDeliveries",
    tags=["webhooks"],
    summary="List the webhook deliveries of a job",
    responses=responses(InvalidRequest, InvalidCursor, NotFound),
)
async def list_job_deliveries(
    job_id: UUID, *, client: ClientDep, sessions: SessionsDep, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> DeliveryPage:
    """Newest first: one delivery for each time that the job became final, with its attempts.
    \f
    Three statements, and the token's.
    """
    key = scoped_key(client.cursor_key, job_id)
    before = decode_cursor(cursor, tuple[Literal["deliveries"], UUID], key)[1] if cursor is not None else None
    async with transaction(sessions) as session:
        await queries.find_job(session, client.id, job_id)
        logs = await deliveries.list_deliveries(session, client.id, job_id, before=before, limit=limit + 1)
    page, next_cursor = paginate(logs, limit, lambda log: ("deliveries", log.delivery.id), key)
    return DeliveryPage(items=[Delivery.of(log) for log in page], next_cursor=next_cursor)


def _read_new_job(
    request: Request, client: CurrentClient, services: JobServices, body: bytes
) -> tuple[CreateJob, NewJob]:
    """The request as it was sent, and the job that it asks for. Raises the errors of both validations."""
    values = validate_request(CREATE_JOB, query=query_values(request), header=_headers(request), **decode_json(body))
    idempotency_key = values.header.idempotency_key
    if idempotency_key is not None and len(all_headers(request.scope, b"idempotency-key")) > 1:
        detail = "may be given once only"
        raise InvalidRequest(f"The Idempotency-Key {detail}.", faults=[Fault("/header/Idempotency-Key", detail)])
    new = validate_new_job(
        values.body,
        client_id=client.id,
        client_name=client.name,
        has_budget=client.has_budget,
        idempotency_key=idempotency_key,
        served=services.served,
        webhook_networks=services.webhook_networks,
    )
    return values, new


def _headers(request: Request) -> dict[str, str]:
    """The `header` part for `validate_request`."""
    found = {name: first_header(request.scope, key) for name, key in _HEADERS.items()}
    return {name: value for name, value in found.items() if value is not None}


def _json(body: bytes, headers: dict[str, str] | None = None, *, status_code: int = 200) -> Response:
    return Response(body, status_code, headers, media_type="application/json")
