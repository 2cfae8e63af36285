"""Makes one attempt of a delivery: a POST with limits of time and size, to permitted addresses, without redirects.

Errors are return values. The URL and the response are never logged.
"""

import asyncio
import base64
import ssl
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

import httpcore

from app.retry_after_header import parse_retry_after
from app.tls import ssl_context
from app.webhooks.addresses import Networks
from app.webhooks.guarded_connection import (
    BusyAddress,
    ForbiddenAddress,
    ForbiddenPort,
    GuardedBackend,
    NoConnection,
    Resolve,
    UnknownHost,
    resolve,
)
from app.webhooks.outbox import BUSY_ADDRESS, FORBIDDEN_ADDRESS, FORBIDDEN_PORT, TIMEOUT_S, Attempt

CONNECT_TIMEOUT_S = 5.0  # for each address, and for the TLS handshake
# The response is read up to this size, so that the server can finish sending.
MAX_READ_BYTES = 64 * 1024
# Size of the excerpt of the response that the log of the delivery shows.
MAX_EXCERPT_BYTES = 1024

_PORTS = {"http": 80, "https": 443}
_WITH_RETRY_AFTER = {429, 503}
_TIMEOUTS = {"timeout": {"connect": CONNECT_TIMEOUT_S}}
_HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": "asr-gateway",
    "Accept-Encoding": "identity",  # the response is not decoded
    "Connection": "close",
}


@dataclass(slots=True)
class _Response:
    """The part of the response that arrived before the timeout or the end of the connection."""

    status: int | None = None
    retry_after_s: float | None = None
    body: bytes = b""


class Sender:
    """Sends to permitted addresses only. Each attempt opens a new connection.

    A process has one sender, which limits the connections to each address.
    """

    def __init__(self, allowed: Networks, *, resolve: Resolve = resolve, timeout_s: float = TIMEOUT_S) -> None:
        self._allowed = allowed
        self._resolve = resolve
        self._timeout_s = timeout_s
        self._in_use: Counter[str] = Counter()

    async def send(self, url: str, body: str, headers: Mapping[str, str]) -> Attempt:
        """Make one attempt within `timeout_s` seconds. Raises nothing for a failure of the server or the network."""
        received = _Response()
        started = perf_counter()
        error: Exception | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._post(url, body.encode(), headers, received)
        except (*_REFUSALS, TimeoutError, OSError, ValueError, *_NETWORK_ERRORS) as failure:
            error = failure
        code, message = _classify(received.status, error)
        return Attempt(
            duration_ms=round((perf_counter() - started) * 1000),
            response_status=received.status,
            response_excerpt=_excerpt(received.body),
            error_code=code,
            error_message=message,
            retry_after_s=received.retry_after_s,
        )

    async def _post(self, url: str, body: bytes, headers: Mapping[str, str], received: _Response) -> None:
        parts = urlsplit(url)
        target = httpcore.URL(
            scheme=parts.scheme,
            host=parts.hostname or "",
            port=parts.port if parts.port is not None else _PORTS[parts.scheme],
            target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        )
        backend = GuardedBackend(self._allowed, self._in_use, self._resolve)
        connection = httpcore.AsyncHTTPConnection(target.origin, ssl_context(), network_backend=backend)
        sent = {"Host": parts.netloc.rpartition("@")[2], **_HEADERS, **_basic_auth(parts), **headers}
        try:
            async with connection.stream(
                "POST", target, headers=list(sent.items()), content=body, extensions=_TIMEOUTS
            ) as response:
                await _read(response, received)
        finally:
            await connection.aclose()
            await backend.aclose()


_REFUSALS = (ForbiddenAddress, ForbiddenPort, BusyAddress, UnknownHost)
_NETWORK_ERRORS = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
)

# The first match counts. ssl.SSLError comes before ValueError, since a refused certificate is both.
_REASONS: Sequence[tuple[type | tuple[type, ...], tuple[str, str]]] = (
    (
        ForbiddenAddress,
        (
            FORBIDDEN_ADDRESS,
            "Webhooks may not reach this host's address. Use a public one, or add it to WEBHOOK_ALLOWED_NETWORKS.",
        ),
    ),
    (ForbiddenPort, (FORBIDDEN_PORT, "Webhooks may reach the ports 80, 443, and 1024 and above.")),
    (BusyAddress, (BUSY_ADDRESS, "Too many webhooks are being sent to this host's address. Try again later.")),
    (UnknownHost, ("unknown_host", "The host name has no address.")),
    ((TimeoutError, httpcore.TimeoutException), ("timeout", "The server did not respond in time.")),
    (ssl.SSLError, ("tls_failed", "The TLS handshake failed. Check that the certificate is valid for the host.")),
    ((ValueError, httpcore.LocalProtocolError), ("bad_url", "The URL is not valid for an HTTP request.")),
    (httpcore.RemoteProtocolError, ("bad_answer", "The server sent no valid HTTP response.")),
    (object, ("connection_failed", "The connection could not be opened, or it broke.")),
)


def _classify(status: int | None, error: Exception | None) -> tuple[str | None, str | None]:
    """Error code and message, or None for success. A status decides, even if the rest of the response is missing."""
    match status:
        case None:
            return _explain(error)
        case 410:
            return "gone", "The server answered 410 Gone. No more events are sent to this URL."
        case _ if 200 <= status < 300:
            return None, None
        case _ if 300 <= status < 400:
            return "redirected", f"The server answered HTTP {status}. Redirects are not followed."
        case _:
            return "http_error", f"The server answered HTTP {status}."


def _explain(error: Exception | None) -> tuple[str, str]:
    """Code and message of the error that prevented a response."""
    if isinstance(error, NoConnection):
        addresses = "1 address of the host was" if error.tried == 1 else f"{error.tried} addresses of the host were"
        return "connection_failed", f"No connection could be opened: {addresses} tried."
    cause = error.__cause__ if error and isinstance(error.__cause__, ssl.SSLError) else error
    return next(reason for kinds, reason in _REASONS if isinstance(cause, kinds))


async def _read(response: httpcore.Response, received: _Response) -> None:
    received.status = response.status
    if response.status in _WITH_RETRY_AFTER:
        named = {name.lower(): value for name, value in response.headers}
        retry_after = named.get(b"retry-after", b"").decode("latin-1")
        received.retry_after_s = parse_retry_after(retry_after, now=datetime.now(UTC))
    async for chunk in response.aiter_stream():
        received.body += chunk
        if len(received.body) >= MAX_READ_BYTES:
            return


def _excerpt(body: bytes) -> str | None:
    """The beginning of the body as text, without NUL, which PostgreSQL cannot store."""
    return body[:MAX_EXCERPT_BYTES].decode("utf-8", "replace").replace("\0", "\ufffd") or None


def _basic_auth(parts: SplitResult) -> dict[str, str]:
    if parts.username is None:
        return {}
    pair = unquote_to_bytes(parts.username) + b":" + unquote_to_bytes(parts.password or "")
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
