"""ASGI middleware: request id, log line, metrics, common headers, unexpected errors, HEAD and the limit of bodies."""

import asyncio
import re
from collections.abc import Awaitable, Mapping, Sequence
from random import getrandbits
from time import perf_counter
from typing import Any

import structlog
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api import metrics
from app.api.headers import first_header
from app.api.problems import problem_response
from app.errors import BodyTooLarge, GatewayError, ServiceUnavailable
from app.logs import cut
from app.urls import find_control_character

MAX_BODY_BYTES = 1024 * 1024
# A job may have 10,000 URLs.
MAX_JOB_BYTES = 16 * 1024 * 1024
_LARGER_BODIES = {"/v1/jobs": MAX_JOB_BYTES}
# More digits than the length of any body. Python converts no integer of more than 4,300 digits.
_MAX_LENGTH_DIGITS = 20
MAX_LOGGED_PATH_CHARS = 200
# A POST to these paths streams its body and limits the size itself. The other calls below them do not.
UPLOAD_PATHS = frozenset({"/v1/uploads", "/v1/audio/transcriptions"})

# Status in logs and metrics when the caller disconnects before the response starts.
CLIENT_CLOSED_REQUEST = 499
_PROBES = {"/livez", "/readyz", "/metrics"}  # called every few seconds: logged at level debug
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")
_CLOSE = {"Connection": "close"}
_CORS_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
_CORS_REQUEST_HEADERS = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-None-Match",
    "Last-Event-ID",
    "Prefer",
    "Range",
    "X-Request-ID",
)
_CORS_RESPONSE_HEADERS = (
    "Content-Disposition",
    "ETag",
    "Idempotency-Replayed",
    "Location",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "X-Request-ID",
)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
log = structlog.get_logger(__name__)


def add_middleware(app: FastAPI, *, cors_allowed_origins: Sequence[str] = ()) -> None:
    """The last one added is the outermost: every response gets an id, a log line and a metric."""
    app.add_middleware(BodySizeLimitMiddleware)
    app.add_middleware(HeadMiddleware)
    if cors_allowed_origins:
        # Without credentials: a page sends its token in Authorization, and the gateway has no cookies.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=cors_allowed_origins,
            allow_methods=_CORS_METHODS,
            allow_headers=_CORS_REQUEST_HEADERS,
            expose_headers=_CORS_RESPONSE_HEADERS,
        )
    app.add_middleware(RequestContextMiddleware)


class RequestContextMiddleware:
    """Request id, log line, metrics, common response headers and the 500 of an unexpected error.

    One class for all of them: each layer takes 2 to 3 µs of a request. The id is the caller's X-Request-ID if it is
    valid. Headers in `request.state.response_headers` are added to every response. Log lines have the path without
    the query string, which may hold secrets.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        # Bound once: structlog's lazy loggers are created again for each line.
        self._log = log.bind()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started_at = perf_counter()
        status = CLIENT_CLOSED_REQUEST
        request_id = _given_request_id(scope) or _new_request_id()
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        # The gateway has no cookies. FastAPI parses them: Python before 3.11.10 takes 12 s for 64 KB.
        scope["headers"] = [field for field in scope["headers"] if field[0] != b"cookie"]
        # Never unbound: each request runs in a task with its own context.
        structlog.contextvars.bind_contextvars(request_id=request_id)

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_common_headers(state)]
            await send(message)

        app = self.app if find_control_character(scope["path"]) is None else _respond_not_found
        try:
            await app(scope, receive, send_on)
        except ClientDisconnect:
            log.debug("client_disconnected")
        except asyncio.CancelledError:
            if not _is_stopping(scope):
                raise
            # The server cancels requests that do not end within its shutdown time. It closes an incomplete response.
            if status == CLIENT_CLOSED_REQUEST:
                stopping = ServiceUnavailable("The gateway stops; send the request again.")
                await problem_response(scope, stopping, headers=_CLOSE)(scope, receive, send_on)
        except Exception:
            if status != CLIENT_CLOSED_REQUEST:
                raise  # the server closes the connection, so that the caller notices the truncated response
            # The traceback is only in the log: the response must not reveal internals.
            log.exception("unhandled_error")
            error = GatewayError("The gateway failed unexpectedly; its log has the details under request_id.")
            await problem_response(scope, error)(scope, receive, send_on)
        finally:
            self._record(scope, status, perf_counter() - started_at)

    def _record(self, scope: Scope, status: int, duration_s: float) -> None:
        route = getattr(scope.get("route"), "path_format", "unmatched")
        metrics.record_request(scope["method"], route, status, duration_s)
        client, peer = scope["state"].get("client"), scope.get("client")
        write = self._log.debug if route in _PROBES else self._log.info
        write(
            "request",
            method=scope["method"],
            path=cut(scope["path"], MAX_LOGGED_PATH_CHARS),
            route=route,
            status=status,
            duration_ms=round(duration_s * 1000, 1),
            client=client.name if client else None,
            peer=peer[0] if peer else None,
        )


class HeadMiddleware:
    """Handles HEAD as GET and drops the body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """A plain function: other requests than HEAD do not enter a coroutine of this class at each await."""
        is_head = scope["type"] == "http" and scope["method"] == "HEAD"
        return self._respond_to_head(scope, receive, send) if is_head else self.app(scope, receive, send)

    async def _respond_to_head(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_start_only(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            elif message.get("more_body"):
                # Ends a stream whose body would be dropped.
                raise ClientDisconnect

        # A copy: the server must still see HEAD.
        as_get = {**scope, "method": "GET"}
        try:
            await self.app(as_get, receive, send_start_only)
        except* ClientDisconnect:
            log.debug("head_of_a_stream")
        finally:
            scope["route"] = as_get.get("route")


class BodySizeLimitMiddleware:
    """413 for a body over the limit: at once if Content-Length exceeds it, else when the bytes received exceed it.

    The server discards the rest of the body, so that a caller that writes everything before it reads gets the
    response and no broken pipe.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http" or (scope["method"] == "POST" and scope["path"] in UPLOAD_PATHS):
            return self.app(scope, receive, send)
        max_bytes = _LARGER_BODIES.get(scope["path"], MAX_BODY_BYTES)
        announced_bytes = _announced_bytes(scope)
        if announced_bytes > max_bytes:
            error = BodyTooLarge(f"The body of this call may have at most {max_bytes:,} bytes.")
            return problem_response(scope, error)(scope, receive, send)
        if announced_bytes:
            return self.app(scope, receive, send)  # the server reads no more than that
        received = 0

        async def count() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > max_bytes:
                raise HTTPException(413)  # FastAPI passes on only this exception while it reads a body
            return message

        return self.app(scope, count, send)


def _announced_bytes(scope: Scope) -> int:
    """The Content-Length, or 0. The value of an overlong one is wrong, but exceeds every limit."""
    length = (first_header(scope, b"content-length") or "").lstrip("0")
    return int(length[:_MAX_LENGTH_DIGITS]) if length.isdecimal() else 0


def _is_stopping(scope: Scope) -> bool:
    return "app" in scope and getattr(scope["app"].state, "stopping", False)


async def _respond_not_found(scope: Scope, receive: Receive, send: Send) -> None:
    """For paths with control characters: `$` in the patterns of routes also matches before a final newline."""
    handle = scope["app"].exception_handlers[HTTPException]
    response = await handle(Request(scope, receive), HTTPException(404))
    await response(scope, receive, send)


def _common_headers(state: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    headers = [(b"x-request-id", state["request_id"].encode()), _NO_SNIFFING]
    if more := state.get("response_headers"):
        headers += ((name.lower().encode(), value.encode()) for name, value in more.items())
    return headers


def _given_request_id(scope: Scope) -> str | None:
    request_id = first_header(scope, b"x-request-id")
    return request_id if request_id is not None and _REQUEST_ID.fullmatch(request_id) else None


def _new_request_id() -> str:
    """Not a secret: the system's random source would take 6 µs of a request's 200."""
    return f"{getrandbits(128):032x}"
