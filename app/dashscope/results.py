"""Fetching result files: signed, expiring links to object storage, which must never see the API key.

Links are fetched byte for byte, since their signature covers every escape (`%3A` stays `%3A`). That is why httpx's
own transport is used here and not aiohttp's, which re-quotes URLs.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

import httpx

MAX_RESULT_BYTES = 128 * 1024 * 1024  # 12 hours of Mandarin are 6–13 MB a channel; pretty-printed about twice that
DEADLINE_S = 300
# httpcore scans its pool for each request: 480 calls/s at 20 connections, 81 at 100.
MAX_CONNECTIONS = 16


class Trouble(StrEnum):
    """Why a result could not be fetched."""

    AWAY = "away"  # no answer, 5xx: the link may work later
    EXPIRED = "expired"  # 403, 404: this link will not work again; the task may give a new one
    FORBIDDEN = "forbidden"  # a host that is not DashScope's: never fetched
    TOO_LARGE = "too_large"


@dataclass(frozen=True, slots=True)
class NoResult:
    trouble: Trouble
    detail: str


@asynccontextmanager
async def results_client() -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=MAX_CONNECTIONS, keepalive_expiry=3)
    timeout = httpx.Timeout(30, connect=10, pool=DEADLINE_S)
    async with httpx.AsyncClient(
        limits=limits, timeout=timeout, follow_redirects=False, trust_env=False, headers={"Accept-Encoding": "identity"}
    ) as client:
        yield client


async def fetch_result(http: httpx.AsyncClient, url: str, *, base_url: str) -> bytes | NoResult:
    """The bytes of a result. `base_url`: the region's own, whose host may serve results besides `*.aliyuncs.com`."""
    if not is_result_host(url, base_url):
        return NoResult(Trouble.FORBIDDEN, "the result is on a host that is not DashScope's")
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await _fetch(http, url)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
        return NoResult(Trouble.AWAY, f"the result host gave no answer ({type(error).__name__})")


def is_result_host(url: str, base_url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, own = parts.hostname, urlsplit(base_url).hostname
    except ValueError:
        return False
    if parts.scheme not in {"http", "https"} or not host or "\\" in url or parts.username is not None:
        return False
    return host.endswith(".aliyuncs.com") or host == own


async def _fetch(http: httpx.AsyncClient, url: str) -> bytes | NoResult:
    async with http.stream("GET", url) as response:
        if response.status_code in {403, 404, 410}:
            return NoResult(Trouble.EXPIRED, f"the result host answered HTTP {response.status_code}")
        if response.status_code != 200:
            return NoResult(Trouble.AWAY, f"the result host answered HTTP {response.status_code}")
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > MAX_RESULT_BYTES:
                return NoResult(Trouble.TOO_LARGE, f"the result is larger than {MAX_RESULT_BYTES} bytes")
        return bytes(body)
