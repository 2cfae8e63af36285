"""Sends one HTTP request to DashScope's API within a deadline.

Network errors are return values: NotSent if the request cannot have reached upstream, else NoResponse.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from app.dashscope.bodies import UnusableBody, read_body
from app.retry_after_header import parse_retry_after
from app.tls import ssl_context

CALL_TIMEOUT_S = 30
CONNECT_TIMEOUT_S = 10
MAX_CONNECTIONS = 200
# Shorter than the keep-alive of common servers (5 s and more). A submit on a connection that the server is closing
# would have an unknown outcome.
KEEPALIVE_S = 3
MAX_RESPONSE_BYTES = 32 * 1024 * 1024

ON_DEPARTURE: ContextVar[Callable[[], None] | None] = ContextVar("ON_DEPARTURE", default=None)
"""Called when the head of a request has been written to its connection, which may have been opened for it."""

# aiohttp raises these only before a connection exists: unknown name, connection refused, TLS failure, timeout. Any
# other error may have occurred after the request was sent. httpx's exceptions do not separate the cases: httpx-aiohttp
# 0.2 maps a refused connection and a connection that broke during a request to the same ConnectTimeout.
_NEVER_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


@dataclass(frozen=True, slots=True)
class Response:
    """`retry_after_s` is the time that the Retry-After header asks for."""

    status: int
    body: bytes
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class NotSent:
    """No connection could be opened, so the request did not reach upstream."""

    reason: str


@dataclass(frozen=True, slots=True)
class NoResponse:
    """The request may or may not have reached upstream."""

    reason: str


@asynccontextmanager
async def http_client(
    *, connect_timeout_s: float = CONNECT_TIMEOUT_S, max_connections: int = MAX_CONNECTIONS
) -> AsyncIterator[httpx.AsyncClient]:
    """The client for API calls, over aiohttp: httpx's own transport reaches about 500 calls per second.

    All accounts share the client, so it stores no cookies. Proxies of the environment are not used.
    """
    connector = aiohttp.TCPConnector(limit=max_connections, keepalive_timeout=KEEPALIVE_S, ssl=ssl_context())
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        response_class=_Response,
        middlewares=(_without_retry,),
        trace_configs=[_departures()],
        skip_auto_headers=("Content-Type",),  # aiohttp adds application/octet-stream to a POST without a body
    )
    # "pool" limits the whole time to get a connection, including name resolution and the wait for a free connection.
    timeout = httpx.Timeout(CALL_TIMEOUT_S, connect=connect_timeout_s, pool=connect_timeout_s)
    async with httpx.AsyncClient(
        transport=AiohttpTransport(client=session, verify=ssl_context()),
        timeout=timeout,
        follow_redirects=False,
        cookies=no_cookies(),
        headers={"Accept-Encoding": "gzip"},
    ) as client:
        yield client


def no_cookies() -> CookieJar:
    """A jar that accepts no cookies. A cookie of one account would be sent with the calls of the others."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))


async def send_once(
    http: httpx.AsyncClient, request: httpx.Request, *, deadline_s: float, max_bytes: int
) -> Response | NotSent | NoResponse:
    """Send the request at most once, and read the whole response. Raises nothing for the network."""
    try:
        async with asyncio.timeout(deadline_s):
            return await _receive(http, request, max_bytes)
    except (httpx.HTTPError, aiohttp.ClientError, TimeoutError, OSError, UnusableBody) as error:
        cause = error.__cause__ if isinstance(error.__cause__, aiohttp.ClientError) else error
        # The name only: the message of the exception may hold the URL, and its request holds the key.
        reason = f"no response ({type(cause).__name__})"
        return NotSent(reason) if _never_sent(error) else NoResponse(reason)


def _departures() -> aiohttp.TraceConfig:
    async def note(*_: object) -> None:
        if on_departure := ON_DEPARTURE.get():
            on_departure()

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(note)
    return trace


class ConnectionBroken(aiohttp.ClientConnectionError):
    """The connection broke during a request."""


class _Response(aiohttp.ClientResponse):
    async def start(self, connection: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        response = await super().start(connection)
        # httpx-aiohttp encodes the reason, which is not used, as UTF-8. That raises if the server sent other bytes.
        self.reason = None
        return response


async def _without_retry(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Replace the errors after which aiohttp repeats a GET by itself. A repeated call would bypass the budgets."""
    try:
        return await handler(request)
    except _NEVER_SENT:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise ConnectionBroken(type(error).__name__) from error


async def _receive(http: httpx.AsyncClient, request: httpx.Request, max_bytes: int) -> Response:
    response = await http.send(request, stream=True)
    try:
        body = await read_body(
            response.aiter_raw(),
            max_bytes,
            encoding=response.headers.get("Content-Encoding", ""),
            length=response.headers.get("Content-Length", ""),
        )
    finally:
        await response.aclose()
    if body is None:
        raise UnusableBody
    retry_after_s = parse_retry_after(response.headers.get("Retry-After", ""), now=datetime.now(UTC))
    return Response(response.status_code, body, retry_after_s)


def _never_sent(error: Exception) -> bool:
    if isinstance(error.__cause__, _NEVER_SENT):
        return True
    # Transports other than aiohttp's, as in tests, raise httpx's own exception.
    return isinstance(error, httpx.ConnectError) and error.__cause__ is None
