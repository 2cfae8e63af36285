"""Fetches result files from object storage, by signed URLs that expire. The API key is never sent there.

URLs are sent byte for byte, since their signature covers every escape (`%3A` stays `%3A`). Therefore httpx's own
transport is used here and not aiohttp's, which re-quotes URLs.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote

import httpx

from app.dashscope.bodies import UnusableBody, read_body
from app.dashscope.transport import no_cookies
from app.tls import ssl_context

MAX_RESULT_BYTES = 128 * 1024 * 1024  # 12 hours of Mandarin: 6–13 MB per channel, pretty-printed about twice
DEADLINE_S = 300
# httpcore scans its pool for each request: 480 requests/s with 20 connections, 81 with 100.
MAX_CONNECTIONS = 16
MAX_PORT = 65535

# A URL that two parsers may read differently is refused: no escapes in the host, no user names, no IDNA.
_LABEL = r"[A-Za-z0-9_-]{1,63}"
_HOST = rf"{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\]"
_URL = re.compile(rf"https?://(?P<host>{_HOST})(?P<port>:[0-9]{{1,5}})?(?P<target>[/?][^#]*)?(?:#.*)?")
# All characters that RFC 3986 allows in a path or query, and the percent sign of existing escapes.
_SAFE = "/?:@!$&'()*+,;=-._~%[]"


class FetchFailureKind(StrEnum):
    """The reason of a failed fetch."""

    UNAVAILABLE = "unavailable"  # no response, or a 5xx: the URL may work later
    EXPIRED = "expired"  # 403, 404 or 410: the URL will not work again, but a query of the task may give a new one
    FORBIDDEN = "forbidden"  # the host is not DashScope's: no request was made
    TOO_LARGE = "too_large"


@dataclass(frozen=True, slots=True)
class FetchFailed:
    kind: FetchFailureKind
    detail: str


@asynccontextmanager
async def results_client() -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=MAX_CONNECTIONS, keepalive_expiry=3)
    timeout = httpx.Timeout(30, connect=10, pool=DEADLINE_S)
    async with httpx.AsyncClient(
        verify=ssl_context(),
        limits=limits,
        timeout=timeout,
        follow_redirects=False,
        trust_env=False,
        cookies=no_cookies(),
        headers={"Accept-Encoding": "identity"},
    ) as client:
        yield client


async def fetch_result(
    http: httpx.AsyncClient,
    url: str,
    *,
    base_url: str,
    max_bytes: int = MAX_RESULT_BYTES,
    deadline_s: float = DEADLINE_S,
) -> bytes | FetchFailed:
    """The bytes of a result file. Allowed hosts: `*.aliyuncs.com` and the host of `base_url`, the region's URL."""
    if not is_result_host(url, base_url):
        return FetchFailed(FetchFailureKind.FORBIDDEN, "the result is on a host that is not DashScope's")
    try:
        async with asyncio.timeout(deadline_s):
            return await _fetch(http, _request(http, url), max_bytes)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
        return FetchFailed(FetchFailureKind.UNAVAILABLE, f"the result host did not respond ({type(error).__name__})")


def is_result_host(url: str, base_url: str) -> bool:
    """True if the host of the URL is one of DashScope. Uploads, too, are sent to such hosts only."""
    host = _host(url)
    return host is not None and (host.endswith(".aliyuncs.com") or host == _host(base_url))


def _host(url: str) -> str | None:
    """The host of the request to `url`, or None if two parsers may read the URL differently."""
    parts = _URL.fullmatch(url)
    if parts is None or int((parts["port"] or ":0")[1:]) > MAX_PORT:
        return None
    host = parts["host"].lower()
    try:
        return host if httpx.URL(url).host == host.strip("[]") else None
    except (httpx.InvalidURL, UnicodeError):
        return None


def _request(http: httpx.AsyncClient, url: str) -> httpx.Request:
    """A request with the path and query of `url` as they are: httpx resolves dot segments and adds escapes."""
    parts = _URL.fullmatch(url)
    target = quote((parts and parts["target"]) or "/", safe=_SAFE)
    target = target if target.startswith("/") else f"/{target}"
    return http.build_request("GET", url, extensions={"target": target.encode()})


async def _fetch(http: httpx.AsyncClient, request: httpx.Request, max_bytes: int) -> bytes | FetchFailed:
    response = await http.send(request, stream=True)
    try:
        return await _read(response, max_bytes)
    finally:
        await response.aclose()


async def _read(response: httpx.Response, max_bytes: int) -> bytes | FetchFailed:
    if response.status_code in {403, 404, 410}:
        return FetchFailed(FetchFailureKind.EXPIRED, f"the result host returned HTTP {response.status_code}")
    if response.status_code != 200:
        return FetchFailed(FetchFailureKind.UNAVAILABLE, f"the result host returned HTTP {response.status_code}")
    try:
        # Object storage sends an object that was stored compressed as it is, whatever Accept-Encoding says.
        body = await read_body(response, max_bytes)
    except UnusableBody:
        return FetchFailed(FetchFailureKind.UNAVAILABLE, "the result is compressed in a way that was not asked for")
    if body is None:
        return FetchFailed(FetchFailureKind.TOO_LARGE, f"the result is larger than {max_bytes} bytes")
    return body
