"""uvicorn's HTTP/1.1 protocol on httptools, with strict parsing, limits and deadlines.

Input that is not HTTP/1.1 gets a problem document. The size of heads and trailers, the time for heads, bodies and
responses, and the number of connections are limited.

Offers of an upgrade are ignored, as RFC 9110, section 7.8, permits. Java's HttpClient offers HTTP/2 (`Upgrade: h2c`)
with every request; httptools stops parsing after such a head, and uvicorn loses the body (its issue 2722).
"""

import asyncio
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, cast
from uuid import uuid4

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from app.api.problems import HeadTooLarge, MalformedRequest, RequestTimeout, TooManyConnections, problem_response
from app.errors import GatewayError
from app.server.coalescing_transport import CoalescingTransport

log = structlog.get_logger(__name__)

# httptools has no limit, so an unauthenticated peer could fill the memory. h11 allows 16 KiB, nginx 32 KiB.
MAX_HEAD_BYTES = 64 * 1024
# Connections over the limit that get a 503 at the same time. Further ones are closed without a response.
MAX_REJECTIONS = 64
FULL_LOGGED_EVERY_S = 60.0

_FRAMING = {b"content-length", b"transfer-encoding"}
# llhttp acts on these in trailers too, which would change how the next request is parsed.
_CONTROL = {*_FRAMING, b"connection", b"proxy-connection", b"upgrade"}
# RFC 3986, section 3.2: a name or an address, and an optional port.
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9\-._~%]+)?\]|[A-Za-z0-9\-._~%!$&'()*+,;=]*)(?::[0-9]*)?")


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Time limits in seconds. Heads and idle connections have uvicorn's keep-alive timeout."""

    # Within each period of `body_s` a body has to end or to arrive at this rate. A limit on the total time would have
    # to be long: 16 MiB take 134 s at 1 Mbit/s.
    body_s: float = 60.0
    min_body_bytes_per_s: int = 1000
    # Within this time the peer has to acknowledge some of the pending output.
    write_s: float = 60.0
    # The time for the request of a connection over the limit.
    rejection_s: float = 2.0


class HttpProtocol(HttpToolsProtocol):
    """One connection. uvicorn's keep-alive timer serves all read deadlines, one at a time.

    `limit_concurrency` is the maximum number of connections, and only connections over it get a 503. uvicorn itself
    accepts any number of idle connections and then answers 503 on all of them.
    """

    deadlines: ClassVar[Deadlines] = Deadlines()
    _full_logged_at: ClassVar[float] = float("-inf")

    _rejected = False
    _resuming = False
    _in_head = False
    _in_body = False
    # Complete lines of the current head, trailers included.
    _head_bytes = 0
    # Bytes since the parser's last callback: the incomplete line.
    _incomplete_bytes = 0
    _head_due = 0.0
    # Body bytes in the current period of the body deadline.
    _span_bytes = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._max_connections, self.limit_concurrency = self.limit_concurrency, None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._output = CoalescingTransport(transport, self.loop, stall_s=self.deadlines.write_s)
        super().connection_made(cast("asyncio.Transport", self._output))
        if self._max_connections is not None and len(self.connections) > self._max_connections:
            self._reject(len(self.connections) - self._max_connections)
        else:
            self._close_at(self.loop.time() + self.timeout_keep_alive)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        # uvicorn does not cancel the timer of a reset connection, and the timer holds the connection's memory.
        self._unset_keepalive_if_required()
        self._output.connection_lost()

    def data_received(self, data: bytes) -> None:
        if self._rejected:
            self._respond_and_close(TooManyConnections("All connections are in use; try again in a moment."))
            return
        self._incomplete_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._respond_and_close(_parse_error(error))
        except httptools.HttpParserUpgrade as offer:
            self._decline_upgrade(data[offer.args[0] :])
        else:
            if self._incomplete_bytes > MAX_HEAD_BYTES:
                self._respond_and_close(_head_too_large())
            elif self.timeout_keep_alive_task is None:
                self._watch_reading()

    def on_message_begin(self) -> None:
        if not self._resuming:
            self._unset_keepalive_if_required()
            self._in_head, self._head_bytes, self._incomplete_bytes = True, 0, 0
            self._head_due = self.loop.time() + self.timeout_keep_alive
            super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._resuming:
            self._head_bytes += len(url)
            if self._head_bytes > MAX_HEAD_BYTES:
                raise _head_too_large()
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._resuming:
            return
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > MAX_HEAD_BYTES:
            raise _head_too_large()
        # Trailers are dropped (RFC 9110, section 6.5.1). uvicorn would add them to the headers.
        if self._in_head:
            super().on_header(name, value)
        elif name.lower() in _CONTROL:
            raise MalformedRequest(f"{name.decode('latin-1')} is allowed in the head only, not in a trailer.")

    def on_headers_complete(self) -> None:
        if not self._resuming:
            self._check_head()
            super().on_headers_complete()
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        self._in_head = self._resuming = False
        self._in_body = True
        self._incomplete_bytes = self._span_bytes = 0

    def on_body(self, body: bytes) -> None:
        self._incomplete_bytes = 0
        self._span_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        self._in_body = False
        self._incomplete_bytes = 0
        super().on_message_complete()
        if self.cycle.response_complete:
            self._close_at(self.loop.time() + self.timeout_keep_alive)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # The connection is not idle if the peer is still sending an unread body or the next head.
        if (self._in_head or self._in_body) and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self._watch_reading()

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            # Reading is paused: the peer waits for the gateway.
            self._head_due = self.loop.time() + self.timeout_keep_alive
            self._watch_reading()
        elif not self._in_body:
            self.transport.close()
        elif self._span_bytes >= self.deadlines.min_body_bytes_per_s * self.deadlines.body_s:
            self._watch_reading()
        elif self.cycle.response_complete:
            self.transport.close()
        else:
            self._respond_and_close(_body_too_slow(self.deadlines))

    def _watch_reading(self) -> None:
        if self._in_head:
            self._close_at(self._head_due)
        elif self._in_body:
            self._span_bytes = 0
            self._close_at(self.loop.time() + self.deadlines.body_s)

    def _close_at(self, when: float) -> None:
        """Set the timer. uvicorn sets it only between requests, not for new connections or within a request."""
        self.timeout_keep_alive_task = self.loop.call_at(when, self.timeout_keep_alive_handler)

    def _reject(self, excess: int) -> None:
        """Send a 503 after the request arrived: closing a socket with unread data resets it and may lose the 503."""
        now = self.loop.time()
        if now - HttpProtocol._full_logged_at >= FULL_LOGGED_EVERY_S:
            HttpProtocol._full_logged_at = now
            log.warning("connections refused: all are in use", limit=self._max_connections)
        self._rejected = True
        if excess > MAX_REJECTIONS:
            self.transport.close()
        else:
            self._close_at(now + self.deadlines.rejection_s)

    def _check_head(self) -> None:
        """Refuse heads that llhttp accepts but that proxies may interpret differently."""
        version = self.parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise MalformedRequest(f"The gateway supports HTTP/1.1, not HTTP/{version}.")
        hosts, codings = [], []
        for name, value in self.headers:
            if name == b"host":
                hosts.append(value)
            elif name == b"transfer-encoding":
                codings.append(value.lower())
        if len(hosts) > 1 or (not hosts and version == "1.1"):  # RFC 9112, section 3.2
            raise MalformedRequest(f"A request needs exactly one Host header; this one has {len(hosts)}.")
        if hosts and not _is_valid_host(hosts[0]):
            raise MalformedRequest("Host needs a name or an address, and an optional port: gateway.example:8000.")
        if codings and (version == "1.0" or codings != [b"chunked"]):
            raise MalformedRequest("Transfer-Encoding must be chunked, once, and needs HTTP/1.1.")

    def _respond_and_close(self, error: GatewayError) -> None:
        """Respond without the application, and close the connection.

        While responses to earlier requests are pending, only close: the client would take this one for one of them.
        """
        if self._response_pending():
            self.transport.close()
            return
        request_id = uuid4().hex
        log.info(error.code, request_id=request_id)
        scope = {"type": "http", "path": "", "state": {"request_id": request_id}}
        headers = {"X-Request-ID": request_id, "X-Content-Type-Options": "nosniff", "Connection": "close"}
        response = problem_response(scope, error, headers=headers)
        fields = [*self.server_state.default_headers, *response.raw_headers]
        lines = (name + b": " + value + b"\r\n" for name, value in fields)
        self.transport.write(b"".join([STATUS_LINE[response.status_code], *lines, b"\r\n", response.body]))
        self.transport.close()

    def _response_pending(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        if self.pipeline:
            return True
        return cycle is not None and not cycle.response_complete and (self._in_head or cycle.response_started)

    def _decline_upgrade(self, rest: bytes) -> None:
        """Parse the body with a new parser that gets the framing headers but not the offer.

        uvicorn has started the request as one without a body. Its task has not run yet, so the body can be added.
        """
        self.cycle.more_body = True
        self.cycle.message_event.clear()
        framing = (name + b": " + value + b"\r\n" for name, value in self.headers if name in _FRAMING)
        self.parser = httptools.HttpRequestParser(self)
        self._resuming = True
        self.data_received(b"POST / HTTP/1.1\r\n" + b"".join(framing) + b"\r\n" + rest)


@lru_cache(maxsize=16)
def _is_valid_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


def _parse_error(error: httptools.HttpParserError) -> GatewayError:
    """The error that a callback above raised, or the parser's own as MalformedRequest."""
    if isinstance(error.__context__, GatewayError):
        return error.__context__
    if isinstance(error, httptools.HttpParserInvalidURLError):
        return MalformedRequest(
            "The URL contains invalid characters. Percent-encode non-ASCII characters;"
            ' curl does it with `curl -G --data-urlencode "q=…"`.'
        )
    reason = str(error)
    if reason.startswith("Expected HTTP/"):  # after the URL, which ends at the first blank
        return MalformedRequest("HTTP/1.1 must follow the URL. Percent-encode blanks in the URL as %20.")
    if not reason.startswith(("Content-", "Transfer-")):
        reason = f"{reason[:1].lower()}{reason[1:]}"
    return MalformedRequest(f"The data on this connection is not HTTP/1.1: {reason}.")


def _head_too_large() -> HeadTooLarge:
    return HeadTooLarge(f"The path and the headers together are limited to {MAX_HEAD_BYTES:,} bytes.")


def _body_too_slow(deadlines: Deadlines) -> RequestTimeout:
    return RequestTimeout(
        f"The body has to end or to arrive at {deadlines.min_body_bytes_per_s:,} bytes per second over"
        f" {deadlines.body_s:g} s; send it again."
    )
