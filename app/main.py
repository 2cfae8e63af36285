"""The HTTP composition root: puts the rooms' routers, the shared furniture and the state together."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi.responses import JSONResponse

from app.api import catalogue, docs, health
from app.api.middleware import add_middleware
from app.api.openapi import build_openapi, operation_id
from app.api.problem_handlers import add_problem_handlers
from app.api.strict import strict_request
from app.clients import routes as clients
from app.clients.dependencies import current_client
from app.db import Sessions
from app.settings import Settings

VERSION = "0.1.0"
DESCRIPTION = """
Durable speech recognition of recorded files over DashScope: submit URLs, get transcripts that stay.

Send `Authorization: Bearer <token>` with everything under `/v1`. Instants are RFC 3339 in UTC, positions inside audio
are integer milliseconds, ids are UUIDs. Unknown fields and query parameters are refused. Errors are Problems
(RFC 9457), explained at `/docs/errors`. HEAD works wherever GET does.
"""
TAGS = [
    {"name": "Jobs", "description": "What you asked for: up to 10,000 files that are transcribed the same way."},
    {"name": "Transcripts", "description": "What became of the files, kept until you delete it."},
    {"name": "Models", "description": "What DashScope offers, as data."},
    {"name": "Clients", "description": "Tokens, managed with ADMIN_TOKEN."},
    {"name": "Health", "description": "For load balancers and monitoring; no token."},
]

Background = Callable[[], AbstractAsyncContextManager[object]]


def create_app(
    settings: Settings, *, sessions: Sessions, background: Background = nullcontext, **state: Any
) -> FastAPI:
    """The API over one database. `background` runs as long as the application; `state` is what rooms' routes take."""
    app = FastAPI(
        title="asr-gateway",
        version=VERSION,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=operation_id,
        lifespan=partial(_lifespan, background),
        # FastAPI's own would put whole URLs into traces, with the signatures in their query strings.
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},
    )
    app.state.settings = settings
    app.state.sessions = sessions
    for name, value in state.items():
        setattr(app.state, name, value)
    add_problem_handlers(app)
    add_middleware(app)
    _add_routes(app)
    return app


def _add_routes(app: FastAPI) -> None:
    for router in (health.router, docs.router):
        app.include_router(router)
    docs.add_assets(app)
    app.add_api_route("/openapi.json", partial(_show_openapi, app), include_in_schema=False)
    strict = Depends(strict_request)
    app.include_router(clients.router, dependencies=[strict])
    for router in _client_routers():
        app.include_router(router, dependencies=[Depends(current_client), strict])


def _client_routers() -> list[APIRouter]:
    """Everything that needs a client's token."""
    return [catalogue.router]


async def _show_openapi(app: FastAPI) -> JSONResponse:
    return JSONResponse(build_openapi(app))


@asynccontextmanager
async def _lifespan(background: Background, _: FastAPI) -> AsyncIterator[None]:
    async with background():
        yield
