"""Builds a sandbox: two ASGI apps that share one state."""

import time
from dataclasses import dataclass

import httpx
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from app.sandbox.config import REGIONS, SandboxConfig
from app.sandbox.control import control_routes
from app.sandbox.errors import BAD_URL, INVALID_PARAMETER, Refused
from app.sandbox.listing import list_tasks
from app.sandbox.middleware import Call, api_call, limited
from app.sandbox.queries import cancel, query
from app.sandbox.responses import JSONResponse, new_request_id
from app.sandbox.results import results_app
from app.sandbox.state import Clock, SandboxState
from app.sandbox.submit import submit
from app.sandbox.tokens import create_token
from app.sandbox.uploads import get_policy, store_file
from app.sandbox.vocabularies import customize


@dataclass(frozen=True, slots=True)
class Sandbox:
    """`api` serves `/beijing/api/v1`, `/singapore/api/v1` and `/control`; `results` is the result origin."""

    api: ASGIApp
    results: ASGIApp
    state: SandboxState

    def transport(self) -> "SandboxTransport":
        """A transport for in-process clients. It accepts any host and selects the result origin by its port."""
        return SandboxTransport(self)


class SandboxTransport(httpx.AsyncBaseTransport):
    def __init__(self, sandbox: Sandbox) -> None:
        self._api = httpx.ASGITransport(sandbox.api)
        self._results = httpx.ASGITransport(sandbox.results)
        self._results_port = sandbox.state.config.results_port

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        transport = self._results if request.url.port == self._results_port else self._api
        return await transport.handle_async_request(request)


def create_sandbox(config: SandboxConfig | None = None, *, clock: Clock = time.time) -> Sandbox:
    state = SandboxState(config or SandboxConfig(), clock)
    regions = [Mount(f"/{region}/api/v1", routes=_region_routes(state, region)) for region in REGIONS]
    storage = Route("/oss", store_file(state), methods=["POST"])
    api = Starlette(
        routes=[*control_routes(state), storage, *regions],
        exception_handlers={404: _wrong_path, 405: _wrong_method, ClientDisconnect: _incomplete},
    )
    return Sandbox(api, results_app(state), state)


def _region_routes(state: SandboxState, region: str) -> list[Route]:
    rps = state.config.query_rps
    query_call = api_call(state, region, "query", limited(query, rps))
    list_call = api_call(state, region, "list", limited(list_tasks, rps))
    return [
        Route("/uploads", api_call(state, region, "upload_policy", get_policy)),
        Route("/tokens", api_call(state, region, "token", create_token), methods=["POST"]),
        Route("/services/audio/asr/customization", api_call(state, region, "vocabulary", customize), methods=["POST"]),
        Route("/services/audio/asr/transcription", api_call(state, region, "submit", submit), methods=["POST"]),
        Route("/quotas", api_call(state, region, "quotas", list_quotas)),
        Route("/tasks", list_call),
        Route("/tasks/", list_call),
        # Older pages of the documentation query by POST, the SDKs and current pages by GET.
        Route("/tasks/{task_id}", query_call, methods=["GET", "POST"]),
        Route("/tasks/{task_id}/cancel", api_call(state, region, "cancel", limited(cancel, rps)), methods=["POST"]),
    ]


async def list_quotas(call: Call) -> Response:
    """`GET …/quotas`: documented only for some hosts, and without a sample of the response."""
    if not call.state.quirk("quotas"):
        raise Refused(BAD_URL)
    return JSONResponse({"request_id": new_request_id(), "data": []})


async def _wrong_path(_request: Request, _error: Exception) -> JSONResponse:
    return BAD_URL.response()


async def _wrong_method(request: Request, _error: Exception) -> JSONResponse:
    return INVALID_PARAMETER.with_message(f"Request method '{request.method}' is not supported.").response()


async def _incomplete(_request: Request, _error: Exception) -> JSONResponse:
    """The caller has closed the connection before its body was read, for example because of the fault `slow_s`."""
    return INVALID_PARAMETER.with_message("The body of the request is incomplete.").response()
