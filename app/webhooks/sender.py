"""One try of one delivery: a POST to a client's server, guarded, bounded in time and size, redirects not followed.

Nothing is raised here: what happened is the value that comes back. The URL and the answer stay out of logs.
"""

import asyncio
import base64
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

import httpcore

from app.tls import ssl_context
from app.webhooks.addresses import Networks
from app.webhooks.guarded_connection import ForbiddenAddress, GuardedBackend, Resolve, UnknownHost, resolve
from app.webhooks.outbox import FORBIDDEN_ADDRESS, TIMEOUT_S, Attempt
from app.webhooks.retry_schedule import parse_retry_after

CONNECT_TIMEOUT_S = 5.0  # per address, and for TLS
# Of the answer so much is read, so that its sender can finish, and so much kept, for whoever polls into a failure.
MAX_READ_BYTES = 64 * 1024
MAX_KEPT_BYTES = 1024

_PORTS = {"http": 80, "https": 443}
_THROTTLED = {429, 503}
_CONNECT_IN_TIME = {"timeout": {"connect": CONNECT_TIMEOUT_S}}
_HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": "asr-gateway",
    "Accept-Encoding": "identity",  # nobody decodes the answer
    "Connection": "close",
}


@dataclass(slots=True)
class _Answer:
    """As much of the answer as came before time or the connection ended."""

    status: int | None = None
    retry_after_s: float | None = None
    body: bytes = b""


class Sender:
    """Sends to permitted addresses only. Every try has a connection of its own: none is kept for another host."""

    def __init__(self, allowed: Networks, *, resolve: Resolve = resolve, timeout_s: float = TIMEOUT_S) -> None:
        self._allowed = allowed
        self._resolve = resolve
        self._timeout_s = timeout_s

    async def send(self, url: str, body: str, headers: Mapping[str, str]) -> Attempt:
        answer = _Answer()
        started = perf_counter()
        error: Exception | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._post(url, body.encode(), headers, answer)
        except (ForbiddenAddress, UnknownHost, TimeoutError, OSError, ValueError, *_TROUBLE) as trouble:
            error = trouble
        code, message = _judge(answer.status, error)
        return Attempt(
            duration_ms=round((perf_counter() - started) * 1000),
            response_status=answer.status,
            response_excerpt=_excerpt(answer.body),
            error_code=code,
            error_message=message,
            retry_after_s=answer.retry_after_s,
        )

    async def _post(self, url: str, body: bytes, headers: Mapping[str, str], answer: _Answer) -> None:
        parts = urlsplit(url)
        target = httpcore.URL(
            scheme=parts.scheme,
            host=parts.hostname or "",
            port=parts.port if parts.port is not None else _PORTS[parts.scheme],
            target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        )
        backend = GuardedBackend(self._allowed, self._resolve)
        connection = httpcore.AsyncHTTPConnection(target.origin, ssl_context(), network_backend=backend)
        sent = {"Host": parts.netloc.rpartition("@")[2], **_HEADERS, **_basic_auth(parts), **headers}
        try:
            async with connection.stream(
                "POST", target, headers=list(sent.items()), content=body, extensions=_CONNECT_IN_TIME
            ) as response:
                await _read(response, answer)
        finally:
            await connection.aclose()
            await backend.aclose()


_TROUBLE = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol)

# The first that fits. A refused certificate is a ValueError, too.
_REASONS: Sequence[tuple[type | tuple[type, ...], tuple[str, str]]] = (
    (ForbiddenAddress, (FORBIDDEN_ADDRESS, "The host has an address that webhooks of this gateway may not reach.")),
    (UnknownHost, ("unknown_host", "The host's name has no address.")),
    ((TimeoutError, httpcore.TimeoutException), ("timeout", "The server did not answer in time.")),
    (ssl.SSLError, ("tls_failed", "TLS could not be agreed on; is the certificate valid for the host?")),
    ((ValueError, httpcore.LocalProtocolError), ("bad_url", "Nothing can be sent to this URL.")),
    (httpcore.RemoteProtocolError, ("bad_answer", "The server's answer is not HTTP, or it hung up without one.")),
    (object, ("connection_failed", "No connection could be made, or it broke.")),
)


def _judge(status: int | None, error: Exception | None) -> tuple[str | None, str | None]:
    """A status decides, even if the rest of the answer never came."""
    match status:
        case None:
            return _explain(error)
        case 410:
            return "gone", "The server answered 410 Gone: nothing more is sent to this URL."
        case _ if 200 <= status < 300:
            return None, None
        case _ if 300 <= status < 400:
            return "redirected", f"The server answered HTTP {status}; redirects are not followed."
        case _:
            return "http_error", f"The server answered HTTP {status}."


def _explain(error: Exception | None) -> tuple[str, str]:
    """Code and message of what kept the answer from coming."""
    seen = error.__cause__ if error and isinstance(error.__cause__, ssl.SSLError) else error
    return next(words for kinds, words in _REASONS if isinstance(seen, kinds))


async def _read(response: httpcore.Response, answer: _Answer) -> None:
    answer.status = response.status
    if response.status in _THROTTLED:
        named = {name.lower(): value for name, value in response.headers}
        retry_after = named.get(b"retry-after", b"").decode("latin-1")
        answer.retry_after_s = parse_retry_after(retry_after, now=datetime.now(UTC))
    async for chunk in response.aiter_stream():
        answer.body += chunk
        if len(answer.body) >= MAX_READ_BYTES:
            return


def _excerpt(body: bytes) -> str | None:
    """The beginning as text. PostgreSQL's texts hold no NUL."""
    return body[:MAX_KEPT_BYTES].decode("utf-8", "replace").replace("\0", "\ufffd") or None


def _basic_auth(parts: SplitResult) -> dict[str, str]:
    if parts.username is None:
        return {}
    pair = unquote_to_bytes(parts.username) + b":" + unquote_to_bytes(parts.password or "")
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
