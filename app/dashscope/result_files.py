"""Fetches result files from object storage, by signed URLs that expire. The API key is never sent there.

URLs are sent byte for byte, since their signature covers every escape (`%3A` stays `%3A`).

The client is aiohttp's, without httpx: a result of 3 kB takes 0.3 ms of CPU, and 1.9 ms with httpx's own transport.
That was half of the CPU of a file in a shared task, and 500 files that end together were stored 1 s later.
"""

import asyncio
import re
from collections.abc import AsyncIterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from urllib.parse import quote

import aiohttp
import httpx
import yarl

from app.dashscope.bodies import UnusableBody, read_body
from app.tls import ssl_context

MAX_RESULT_BYTES = 128 * 1024 * 1024  # 12 hours of Mandarin: 6–13 MB per channel, pretty-printed about twice
DEADLINE_S = 300
MAX_CONNECTIONS = 16
KEEPALIVE_S = 3
MAX_PORT = 65535
MAX_URL_CHARS = 65_536

# A URL that two parsers may read differently is refused: no escapes in the host, no user names, no IDNA.
_LABEL = r"[A-Za-z0-9_-]{1,63}"
_HOST = rf"{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\]"
# Control characters and lone surrogates are in no URL.
_NEVER = r"\x00-\x1f\x7f\ud800-\udfff"
_URL = re.compile(
    rf"(?P<origin>https?://(?P<host>{_HOST})(?P<port>:[0-9]{{1,5}})?)"
    rf"(?P<target>[/?][^#{_NEVER}]*)?(?:#[^{_NEVER}]*)?"
)
# All characters that RFC 3986 allows in a path or query, and the percent sign of existing escapes.
_SAFE = "/?:@!$&'()*+,;=-._~%[]"

RESULT_HEADERS = {"Accept-Encoding": "identity"}


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


FORBIDDEN_HOST = FetchFailed(FetchFailureKind.FORBIDDEN, "the result is on a host that is not DashScope's")


def results_client() -> aiohttp.ClientSession:
    """A client that follows no redirects and keeps no cookies. Close it by `async with`."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=KEEPALIVE_S, ssl=ssl_context()),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=30),
        headers=RESULT_HEADERS,
    )


async def fetch_result(
    http: aiohttp.ClientSession,
    url: str,
    *,
    base_url: str,
    max_bytes: int = MAX_RESULT_BYTES,
    deadline_s: float = DEADLINE_S,
) -> bytes | FetchFailed:
    """The bytes of a result file. Allowed hosts: `*.aliyuncs.com` and the host of `base_url`, the region's URL."""
    if not is_dashscope_host(url, base_url):
        return FORBIDDEN_HOST
    try:
        async with asyncio.timeout(deadline_s), http.get(result_address(url), allow_redirects=False) as response:
            return await read_result(
                response.content.iter_any(),
                response.status,
                encoding=", ".join(response.headers.getall("Content-Encoding", ())),
                length=response.headers.get("Content-Length", ""),
                max_bytes=max_bytes,
            )
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return FetchFailed(FetchFailureKind.UNAVAILABLE, f"the result host did not respond ({type(error).__name__})")


def is_dashscope_host(url: str, base_url: str) -> bool:
    """True if the host of the URL is one of DashScope. Uploads, too, are sent to such hosts only."""
    host = _host(url)
    return host is not None and (host.endswith(".aliyuncs.com") or host == _host(base_url))


def _host(url: str) -> str | None:
    """The host of the request to `url`, or None if two parsers may read the URL differently."""
    parts = _URL.fullmatch(url)
    if parts is None or len(url) > MAX_URL_CHARS or int((parts["port"] or ":0")[1:]) > MAX_PORT:
        return None
    host = parts["host"].lower()
    return host if _parsed_host(parts["origin"]) == host.strip("[]") else None


@lru_cache(maxsize=256)
def _parsed_host(origin: str) -> str | None:
    """The host as httpx reads it. Uncached, it takes 6 % of the CPU of files in shared tasks, which have one origin."""
    try:
        return httpx.URL(origin).host
    except (httpx.InvalidURL, UnicodeError):
        return None


def result_address(url: str) -> yarl.URL:
    """The URL as it is sent. Only characters that no request may have are escaped, and an empty query is dropped."""
    parts = _URL.fullmatch(url)
    if parts is None:
        raise ValueError("not the URL of a result host")
    target = quote(parts["target"] or "", safe=_SAFE)
    return yarl.URL(parts["origin"] + target, encoded=True)


async def read_result(
    chunks: AsyncIterable[bytes], status: int, *, encoding: str, length: str, max_bytes: int = MAX_RESULT_BYTES
) -> bytes | FetchFailed:
    """The body of a response of object storage. See `read_body` for the other arguments."""
    if status in {403, 404, 410}:
        return FetchFailed(FetchFailureKind.EXPIRED, f"the result host returned HTTP {status}")
    if status != 200:
        return FetchFailed(FetchFailureKind.UNAVAILABLE, f"the result host returned HTTP {status}")
    try:
        # Object storage sends an object that was stored compressed as it is, whatever Accept-Encoding says.
        body = await read_body(chunks, max_bytes, encoding=encoding, length=length)
    except UnusableBody:
        detail = "the result is damaged, or compressed in a way that was not asked for"
        return FetchFailed(FetchFailureKind.UNAVAILABLE, detail)
    if body is None:
        return FetchFailed(FetchFailureKind.TOO_LARGE, f"the result is larger than {max_bytes} bytes")
    return body
