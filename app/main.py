"""Builds the FastAPI application: state, middleware, error handlers and the routers of all packages."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import httpx
import msgspec
from fastapi import FastAPI, Request, Response
from starlette.datastructures import State

from app import __version__
from app.api import docs, health
from app.api.conditional import ConstantBody
from app.api.exception_handlers import add_problem_handlers
from app.api.middleware import add_middleware
from app.api.openapi.document import build_openapi, operation_id
from app.api.openapi.v30 import to_openapi_30
from app.api.problems import add_error_format
from app.catalogue_api import models_routes, regions_routes
from app.clients import routes as clients
from app.clients.authentication import Authenticator, require_token
from app.dashscope_api import links
from app.dashscope_api.errors import ERROR_FORMAT as DASHSCOPE_ERRORS
from app.dashscope_api.routes import dashscope_router
from app.db import Sessions
from app.jobs import client_revocation, event_stream, transcript_deletion, webhook_docs
from app.jobs import routes as jobs
from app.jobs.dependencies import JobServices
from app.jobs.long_poll import JobWaiters
from app.openai_api import routes as openai_api
from app.openai_api.errors import ERROR_FORMAT as OPENAI_ERRORS
from app.openai_api.outcome import MAX_WAIT_S
from app.queue.wakeup import WakeUp
from app.search import routes as search
from app.settings import Settings
from app.tls import ssl_context
from app.transcripts import caption_routes as captions
from app.transcripts import export_routes as exports
from app.transcripts import routes as transcripts
from app.transcripts.queries import StoredBodies
from app.uploads import routes as uploads
from app.uploads.stores import open_store
from app.uploads.uploader import Uploader
from app.usage import routes as usage
from app.vocabularies import routes as vocabularies
from app.vocabularies.lists import VocabularyLists
from app.webhooks import routes as webhooks
from app.webhooks.sender import Sender

DESCRIPTION = """
Durable speech recognition of recorded files over DashScope: submit URLs, get stored transcripts.

All calls under `/v1` need `Authorization: Bearer <token>`. Instants are RFC 3339 in UTC, positions inside audio are
integer milliseconds, ids are UUIDs. Unknown fields and query parameters are refused. Errors are Problems (RFC 9457),
listed at `/docs/errors`. If clients have limits, responses have them in `RateLimit-Policy` and the rest of the quota
in `RateLimit`; a request that exceeds a limit is a 429 with `Retry-After`. HEAD works for every GET.
"""
TAGS = [
    {"name": "jobs", "description": "Up to 10,000 files that are transcribed with the same model and parameters."},
    {"name": "transcripts", "description": "The results of the files, stored until you delete them."},
    {"name": "uploads", "description": "Local files, stored where DashScope can fetch them."},
    {"name": "vocabularies", "description": "Hot-word lists, which improve the recognition of names and terms."},
    {"name": "audio", "description": "OpenAI's protocol, for programs written for OpenAI's clients."},
    {"name": "usage", "description": "What clients used, and what it cost."},
    {"name": "models", "description": "The models and regions of DashScope, with parameters, limits and prices."},
    {"name": "webhooks", "description": "Notifications of final jobs, in the form of Standard Webhooks 1.0."},
    {
        "name": "webhook events",
        "description": "Requests that the gateway sends to a job's `webhook_url`, for you to implement.",
    },
    {"name": "clients", "description": "Clients and their tokens, managed with ADMIN_TOKEN."},
    {"name": "health", "description": "For load balancers and monitoring, without a token."},
]


def create_app(
    settings: Settings,
    *,
    sessions: Sessions,
    http: httpx.AsyncClient | None = None,
    waiters: JobWaiters | None = None,
    wakeup: WakeUp | None = None,
) -> FastAPI:
    """The API over one database. Close `waiters` when the server stops; `wakeup` wakes a poller in this process.

    `http` is for calls to DashScope, such as those of uploads and hot-word lists. Tests without such calls need none.
    """
    app = FastAPI(
        title="asr-gateway",
        version=__version__,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # First, and without `include_router`, which matches each request twice: 15 µs of a request's 350 µs.
        routes=jobs.request_router.routes,
        generate_unique_id_function=operation_id,
        # FastAPI's telemetry would record whole URLs, with the signatures in their query strings.
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},
    )
    add_problem_handlers(app, require_token=require_token)
    add_middleware(app, cors_allowed_origins=settings.cors_allowed_origins)
    _add_routes(app)
    connect(app, settings, sessions=sessions, waiters=waiters, wakeup=wakeup, http=http)
    return app


def connect(
    app: FastAPI,
    settings: Settings,
    *,
    sessions: Sessions,
    waiters: JobWaiters | None = None,
    wakeup: WakeUp | None = None,
    http: httpx.AsyncClient | None = None,
) -> None:
    """Give the application all that belongs to one database. The routes depend on none of it."""
    app.state = State()
    app.state.settings = settings
    app.state.sessions = sessions
    app.state.accounts = settings.account_ids
    app.state.stopping = False
    app.state.authenticator = Authenticator(settings, sessions)
    app.state.services = JobServices(settings, sessions, waiters=waiters, wakeup=wakeup)
    http = http or httpx.AsyncClient(verify=ssl_context())
    app.state.uploader = Uploader(settings, sessions, http, open_store(settings.upload_store, settings.public_url))
    app.state.vocabulary_lists = VocabularyLists(settings, sessions, http)
    app.state.stored_bodies = StoredBodies(sessions)
    app.state.webhook_sender = Sender(settings.webhook_allowed_networks)
    app.state.ping_limit = webhooks.ping_limit()
    app.state.transcription_wait_s = MAX_WAIT_S
    add_error_format(app, DASHSCOPE_ERRORS)
    add_error_format(app, OPENAI_ERRORS)


def _add_routes(app: FastAPI) -> None:
    """Routes are matched in this order."""
    for module in (
        jobs,
        event_stream,
        transcripts,
        transcript_deletion,
        captions,
        exports,
        search,
        webhooks,
        uploads,
        vocabularies,
    ):
        app.include_router(module.router)
    for router in (uploads.upload_router, uploads.content_router, openai_api.router):
        app.include_router(router)
    for router in (models_routes.router, regions_routes.router, dashscope_router(), links.router):
        app.include_router(router)
    for router in (usage.router, clients.router, client_revocation.router, health.router, docs.router):
        app.include_router(router)
    webhook_docs.add_webhooks(app)
    app.openapi = partial(build_openapi, app)  # type: ignore[method-assign]  # the way that FastAPI documents
    _add_document(app, "/openapi.json", app.openapi)
    _add_document(app, "/openapi-3.0.json", lambda: to_openapi_30(app.openapi()))


def _add_document(app: FastAPI, path: str, build: Callable[[], dict[str, Any]]) -> None:
    """The document is built at the first request."""

    @cache
    def body() -> ConstantBody:
        return ConstantBody(msgspec.json.encode(build()), media_type="application/json")

    async def respond(request: Request) -> Response:
        return body().response(request)

    app.add_api_route(path, respond, include_in_schema=False)
