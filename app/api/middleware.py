"""What happens around every request: its id, its log line and metrics, the last resort, HEAD, and the body's limit.

Plain ASGI, so that streams stay streams. `add_middleware` knows the order.
"""

import re
from collections.abc import Iterator, Mapping
from random import getrandbits
from time import perf_counter
from typing import Any

import structlog
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api import metrics
from app.api.problems import problem_response
from app.errors import BodyTooLarge, GatewayError
from app.logs import cut
from app.urls import find_control_character

MAX_BODY_BYTES = 1024 * 1024
# A job may have 10,000 URLs.
MAX_JOB_BYTES = 16 * 1024 * 1024
_LARGER_BODIES = {"/v1/jobs": MAX_JOB_BYTES}
# No length that counts as a body has more digits. Python reads no integer of more than 4,300 digits at all.
_MAX_LENGTH_DIGITS = 20
MAX_LOGGED_PATH_CHARS = 200
# These stream their bodies and count the bytes themselves.
UPLOAD_PATHS = ("/v1/uploads", "/v1/audio/transcriptions")

# Stays the status when the caller hangs up before there is an answer.
CLIENT_CLOSED_REQUEST = 499
_PROBES = {"/livez", "/readyz", "/metrics"}  # asked every few seconds: lines that nobody reads
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
log = structlog.get_logger(__name__)


def add_middleware(app: FastAPI) -> None:
    """The last one added is the outermost: every response gets an id, a log line and a metric."""
    for middleware in (BodySizeLimitMiddleware, HeadMiddleware, RequestContextMiddleware):
        app.add_middleware(middleware)


class RequestContextMiddleware:
    """What every request gets, in one layer, because layers cost: its id, a log line and a measurement, the headers
    that all answers have, and a last resort.

    The id is the caller's X-Request-ID when that is sane. What stands in `request.state.response_headers` is added too,
    whoever makes the answer. Log lines have paths only: query strings and headers may hold secrets.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        # Bound once: structlog's lazy loggers are made anew for each line.
        self._log = log.bind()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started_at = perf_counter()
        status = CLIENT_CLOSED_REQUEST
        request_id = _sane_request_id(scope) or _new_request_id()
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        # The gateway has no cookies. FastAPI reads those of every request: Python before 3.11.10 took 12 s for 64 KB.
        scope["headers"] = [field for field in scope["headers"] if field[0] != b"cookie"]
        # Never unbound: each request is a task, and each task has a context of its own.
        structlog.contextvars.bind_contextvars(request_id=request_id)

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_common_headers(state)]
            await send(message)

        app = self.app if _is_plain(scope["path"]) else _answer_no_such_path
        try:
            await app(scope, receive, send_on)
        except ClientDisconnect:
            log.debug("client_disconnected")
        except Exception:
            if status != CLIENT_CLOSED_REQUEST:
                raise  # the server cuts the connection, so that nobody takes half an answer for a whole one
            # What no handler knows is a 500 that says nothing of the inside, and a traceback in the log.
            log.exception("unhandled_error")
            error = GatewayError("Something went wrong inside the gateway; its log has the details under request_id.")
            await problem_response(scope, error)(scope, receive, send_on)
        finally:
            self._record(scope, status, perf_counter() - started_at)

    def _record(self, scope: Scope, status: int, duration_s: float) -> None:
        route = getattr(scope.get("route"), "path_format", "unmatched")
        metrics.record_request(scope["method"], route, status, duration_s)
        client = scope["state"].get("client")
        write = self._log.debug if route in _PROBES else self._log.info
        write(
            "request",
            method=scope["method"],
            path=cut(scope["path"], MAX_LOGGED_PATH_CHARS),
            route=route,
            status=status,
            duration_ms=round(duration_s * 1000, 1),
            client=client.name if client else None,
        )


class HeadMiddleware:
    """HEAD is answered as GET is, without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def send_start_only(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            elif message.get("more_body"):
                # Streams stop at a caller who hung up, instead of being made for nobody.
                raise ClientDisconnect

        # A copy: the server still has to know that this is HEAD.
        as_get = {**scope, "method": "GET"}
        try:
            await self.app(as_get, receive, send_start_only)
        except* ClientDisconnect:
            log.debug("head_of_a_stream")
        finally:
            scope["route"] = as_get.get("route")


class BodySizeLimitMiddleware:
    """413 for a body over the limit: before it is read when its length is announced, else as soon as it is counted.

    What the caller still sends after that is dropped by the server, so that a caller who first writes everything
    and then reads gets the answer instead of a broken pipe.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(UPLOAD_PATHS):
            await self.app(scope, receive, send)
            return
        max_bytes = _LARGER_BODIES.get(scope["path"], MAX_BODY_BYTES)
        if _announced_bytes(scope) > max_bytes:
            error = BodyTooLarge(f"The body of this call may have up to {max_bytes:,} bytes.")
            await problem_response(scope, error)(scope, receive, send)
            return
        received = 0

        async def count() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > max_bytes:
                raise HTTPException(413)  # the one exception that FastAPI lets through while it reads a body
            return message

        await self.app(scope, count, send)


def _announced_bytes(scope: Scope) -> int:
    """The Content-Length. One of too many digits is beyond every limit."""
    length = _header(scope, b"content-length").lstrip("0")
    return int(length[:_MAX_LENGTH_DIGITS]) if length.isdecimal() else 0


def _is_plain(path: str) -> bool:
    return path.isprintable() or find_control_character(path) is None


async def _answer_no_such_path(scope: Scope, receive: Receive, send: Send) -> None:
    """No path has control characters. `$` in the patterns of routes would match before a newline at their end."""
    handle = scope["app"].exception_handlers[HTTPException]
    response = await handle(Request(scope, receive), HTTPException(404))
    await response(scope, receive, send)


def _common_headers(state: Mapping[str, Any]) -> Iterator[tuple[bytes, bytes]]:
    yield b"x-request-id", state["request_id"].encode()
    yield _NO_SNIFFING
    for name, value in state.get("response_headers", {}).items():
        yield name.lower().encode(), value.encode()


def _sane_request_id(scope: Scope) -> str | None:
    request_id = _header(scope, b"x-request-id")
    return request_id if _SANE_REQUEST_ID.fullmatch(request_id) else None


def _new_request_id() -> str:
    """Nobody gains by guessing it, and asking the system for randomness takes 6 µs of each request's 200."""
    return f"{getrandbits(128):032x}"


def _header(scope: Scope, name: bytes) -> str:
    """Its first value, or an empty string. What stands around every request shall cost it little."""
    for key, value in scope["headers"]:
        if key == name:
            decoded: str = value.decode("latin-1")
            return decoded
    return ""
