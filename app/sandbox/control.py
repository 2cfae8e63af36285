"""The routes of `/control`, by which tests of real processes control the sandbox. DashScope has no such routes."""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.sandbox.faults import Faults
from app.sandbox.responses import JSONResponse
from app.sandbox.state import CallKind, SandboxState


class ClockStep(msgspec.Struct, forbid_unknown_fields=True):
    advance_s: Annotated[float, msgspec.Meta(ge=0)]


def control_routes(state: SandboxState) -> list[Route]:
    def route(path: str, handler: Callable[[SandboxState, Request], Awaitable[Response]], methods: list[str]) -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                return await handler(state, request)
            except msgspec.DecodeError as error:  # includes ValidationError
                return JSONResponse({"message": str(error)}, status_code=400)

        return Route(f"/control/{path}", endpoint, methods=methods)

    return [
        route("faults", _get_faults, ["GET"]),
        route("faults", _put_faults, ["PUT"]),
        route("clock", _advance_clock, ["POST"]),
        route("stats", _get_stats, ["GET"]),
        route("submits", _get_submits, ["GET"]),
    ]


async def _get_faults(state: SandboxState, _request: Request) -> Response:
    return JSONResponse(state.faults)


async def _put_faults(state: SandboxState, request: Request) -> Response:
    """Replace all faults. Faults that the body does not name are switched off."""
    state.faults = msgspec.json.decode(await request.body(), type=Faults)
    return JSONResponse(state.faults)


async def _advance_clock(state: SandboxState, request: Request) -> Response:
    """Advance the clock. `{"advance_s": 90000}` makes all current tasks and results expire."""
    state.advanced_s += msgspec.json.decode(await request.body(), type=ClockStep).advance_s
    return JSONResponse({"now": state.now()})


async def _get_submits(state: SandboxState, _request: Request) -> Response:
    return JSONResponse([asdict(submit) for submit in state.submits])


async def _get_stats(state: SandboxState, _request: Request) -> Response:
    submitted, transcribed = state.submitted_files(), state.transcribed_files()
    return JSONResponse(
        {
            "calls": _rows(state.counts),
            "throttled": _rows(state.throttled),
            "injected": state.injected,
            "tasks": Counter(state.status_of(task) for task in state.tasks.values()),
            "submitted_files": submitted,
            "transcribed_files": transcribed,
            "duplicate_transcriptions": {url: count for url, count in transcribed.items() if count > 1},
            "downloads": state.downloads,
            "authorization_leaks": state.authorization_leaks,
        }
    )


def _rows(counts: Counter[CallKind]) -> list[dict[str, Any]]:
    return [asdict(kind) | {"count": counts[kind]} for kind in sorted(counts)]
