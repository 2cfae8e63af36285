"""One HTTP request to DashScope's API, within a deadline. It tells a request that never left from an unanswered one.

The network raises nothing here: what happened is the value that comes back.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from app.dashscope.bodies import UnusableBody, read_body
from app.tls import ssl_context

CALL_TIMEOUT_S = 30
CONNECT_TIMEOUT_S = 10
MAX_CONNECTIONS = 200
# Below the keep-alive of the usual servers (5 s and more): a submit never goes out on a connection that the
# other side is just closing, which would leave its outcome unknown.
KEEPALIVE_S = 3
MAX_RESPONSE_BYTES = 32 * 1024 * 1024

# What aiohttp raises before there is a connection, and nowhere else: no name, refused, TLS failed, no time left.
# Any other trouble may have come after the request had left. httpx's exceptions do not tell: httpx-aiohttp 0.2
# turns a refused connection and one that broke under a request into the same ConnectTimeout.
_NEVER_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class NotSent:
    """The connection could not be made: upstream saw nothing of the call."""

    reason: str


@dataclass(frozen=True, slots=True)
class NoResponse:
    """Upstream may or may not have seen the call."""

    reason: str


@asynccontextmanager
async def http_client(
    *, connect_timeout_s: float = CONNECT_TIMEOUT_S, max_connections: int = MAX_CONNECTIONS
) -> AsyncIterator[httpx.AsyncClient]:
    """The client for API calls. aiohttp carries them: httpx's own transport tops out near 500 calls/s.

    All accounts share it, so it keeps no cookies. Environment proxies are not used.
    """
    connector = aiohttp.TCPConnector(limit=max_connections, keepalive_timeout=KEEPALIVE_S, ssl=ssl_context())
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        response_class=_Response,
        middlewares=(_without_retry,),
        skip_auto_headers=("Content-Type",),  # a cancel has no body, which aiohttp would call an octet stream
    )
    # "pool" bounds the way to a connection as a whole, name look-up and waiting for a free one included.
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
    """A jar that takes none: a cookie of one account's answer would go out with the next account's call."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))


async def send_once(
    http: httpx.AsyncClient, request: httpx.Request, *, deadline_s: float, max_bytes: int
) -> Response | NotSent | NoResponse:
    """Send the request, at most once, and read its answer to the end."""
    try:
        async with asyncio.timeout(deadline_s):
            return await _receive(http, request, max_bytes)
    except (httpx.HTTPError, aiohttp.ClientError, TimeoutError, OSError, UnusableBody) as error:
        reason = f"no answer ({_kind(error)})"
        return NotSent(reason) if _never_sent(error) else NoResponse(reason)


class ConnectionBroken(aiohttp.ClientConnectionError):
    """The connection broke under a request."""


class _Response(aiohttp.ClientResponse):
    async def start(self, connection: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        response = await super().start(connection)
        # httpx-aiohttp encodes it as UTF-8, which raises where the server sent other bytes. Nobody reads it.
        self.reason = None
        return response


async def _without_retry(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """aiohttp repeats a GET whose connection broke, by itself: a call that no budget knows of. This hides why."""
    try:
        return await handler(request)
    except _NEVER_SENT:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise ConnectionBroken(type(error).__name__) from error


async def _receive(http: httpx.AsyncClient, request: httpx.Request, max_bytes: int) -> Response:
    response = await http.send(request, stream=True)
    try:
        body = await read_body(response, max_bytes)
    finally:
        await response.aclose()
    if body is None:
        raise UnusableBody
    return Response(response.status_code, body)


def _never_sent(error: Exception) -> bool:
    if isinstance(error.__cause__, _NEVER_SENT):
        return True
    # Transports other than aiohttp's, as in tests, raise httpx's own word for it.
    return isinstance(error, httpx.ConnectError) and error.__cause__ is None


def _kind(error: Exception) -> str:
    """The kind of trouble only: messages of transports carry URLs, and their requests the key."""
    return type(error.__cause__ if isinstance(error.__cause__, aiohttp.ClientError) else error).__name__
