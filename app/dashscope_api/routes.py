"""The calls of DashScope's protocol. Each is there under three bases: with the region by path, and without."""

from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response

from app.api.dependencies import sessions_of
from app.api.request_body import parse_body
from app.clients.authentication import bearer_token
from app.clients.tokens import hash_token
from app.dashscope_api import listing, tasks
from app.dashscope_api.customization import customize
from app.dashscope_api.errors import Refused
from app.dashscope_api.links import transcription_url
from app.dashscope_api.route import BASES, DashScopeRoute, client_of, region_of, respond
from app.dashscope_api.submit import new_job
from app.db import transaction
from app.errors import NotFound
from app.jobs.bound_accounts import bind_accounts
from app.jobs.dependencies import job_services
from app.jobs.schemas import MAX_FILES
from app.queue import commands, queries
from app.queue.job_json import Job, JobSnapshot, JobSummary
from app.transcripts.queries import small_raw_bodies
from app.uploads.routes import uploader_of


async def submit(request: Request) -> Response:
    """`POST /services/audio/asr/transcription`. X-DashScope-OssResourceResolve is not needed: the gateway sends it.
    \f
    As `POST /v1/jobs`.
    """
    if request.headers.get("x-dashscope-async", "").lower() != "enable":
        raise Refused(403, "AccessDenied", "current user api does not support synchronous calls.")
    services = job_services(request)
    read = partial(new_job, client=client_of(request), region=region_of(request), served=services.served)
    new = await parse_body(await request.body(), read)
    created = await services.create(await bind_accounts(services.sessions, new))
    services.wakeup.notify()
    return respond(request, {"output": {"task_status": "PENDING", "task_id": str(created.snapshot.job.id)}})


async def show_task(request: Request) -> Response:
    """`GET /tasks/{task_id}`, and POST as in older pages. A task that the client does not have is UNKNOWN, and a 200.
    \f
    One statement; for a final job two more, and more for files without speech and for jobs of more than 100 files.
    """
    snapshot = await _find(request)
    if snapshot is None:
        return respond(request, tasks.unknown_task(request.path_params["task_id"]))
    job = snapshot.job
    shown = tasks.final_task(job, await _details(request, job)) if snapshot.final else tasks.open_task(job)
    return respond(request, shown)


async def list_tasks(request: Request) -> Response:
    """`GET /tasks`: the client's jobs of the last day, also those of `POST /v1/jobs`.
    \f
    Two statements.
    """
    client = client_of(request)
    query = listing.read_query(request.query_params, region_of(request))
    jobs: list[JobSummary] = []
    total = 0
    if query.filters is not None:
        async with transaction(sessions_of(request)) as session:
            jobs, total = await queries.list_summaries(
                session, client.id, query.filters, offset=query.offset, limit=query.page_size
            )
    return respond(request, listing.page(jobs, total, query, client))


async def cancel_task(request: Request) -> Response:
    """`POST /tasks/{task_id}/cancel`. As at DashScope, only a task that is PENDING can be canceled."""
    snapshot = await _find(request)
    services = job_services(request)
    refused = Refused(
        400,
        "UnsupportedOperation",
        "Failed to cancel the task, please confirm if the task is in PENDING status.",
    )
    try:
        if snapshot is None or not await commands.cancel_queued_job(
            services.sessions, client_of(request).id, snapshot.job.id
        ):
            raise refused
    except NotFound:
        raise refused from None
    services.wakeup.notify()
    return respond(request, {})


async def get_upload_policy(request: Request) -> Response:
    """`GET /uploads?action=getPolicy&model=M`: a policy of one of the accounts, as DashScope issued it."""
    query = request.query_params
    if query.get("action") != "getPolicy" or not query.get("model"):
        raise Refused(400, "InvalidParameter", "action must be getPolicy, and model is required")
    uploader = uploader_of(request)
    policy = await uploader.issue_policy(client_of(request).id, uploader.target(query["model"], region_of(request)))
    return respond(request, {"data": policy.data})


def dashscope_router() -> APIRouter:
    """The routes are not in the OpenAPI document: official SDKs are their clients, and generated ones use /v1."""
    router = APIRouter(route_class=DashScopeRoute, include_in_schema=False)
    for base in BASES:
        add = partial(_add, router, base)
        add("POST", "/services/audio/asr/transcription", submit)
        add("POST", "/services/audio/asr/customization", customize)
        add("GET", "/uploads", get_upload_policy)
        for path in ("/tasks", "/tasks/"):
            add("GET", path, list_tasks)
        for method in ("GET", "POST"):
            add(method, "/tasks/{task_id}", show_task)
        add("POST", "/tasks/{task_id}/cancel", cancel_task)
    return router


def _add(router: APIRouter, base: str, method: str, path: str, endpoint: Any) -> None:
    name = f"{endpoint.__name__} {method} {base}{path}"
    router.add_api_route(base + path, endpoint, methods=[method], name=name, response_model=None)


async def _find(request: Request) -> JobSnapshot | None:
    """The client's job with the id of the path, in the region of the path."""
    try:
        job_id = UUID(request.path_params["task_id"])
        snapshot = await job_services(request).find_job((client_of(request).id, job_id))
    except (ValueError, NotFound):
        return None
    return snapshot if region_of(request) in {"auto", snapshot.job.region} else None


async def _details(request: Request, job: Job) -> tasks.TaskDetails:
    client, token_sha256, now = client_of(request), hash_token(bearer_token(request)), datetime.now(UTC)
    async with transaction(sessions_of(request)) as session:
        files = job.files
        if job.files_truncated:
            files = await queries.list_files(session, client.id, job.id, limit=MAX_FILES)
        given_urls = await queries.given_urls(session, client.id, job.id)
        billed = await queries.billed_units(session, client.id, job.id)
        doubtful = tasks.without_audio(files)
        bodies = await small_raw_bodies(session, client.id, doubtful) if doubtful else {}
    items = {transcript_id: tasks.silent_item(raw) for transcript_id, raw in bodies.items()}
    link = partial(transcription_url, request, token_sha256=token_sha256, finished_at=job.finished_at or now, now=now)
    silent = {transcript_id: item for transcript_id, item in items.items() if item}
    return tasks.TaskDetails(files, given_urls, silent, billed, link)
