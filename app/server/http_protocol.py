"""uvicorn's HTTP/1.1 reader on httptools, made strict and given limits.

What is not HTTP gets a problem instead of plain text. Heads and trailers are limited in size; heads, bodies and
responses have deadlines; the number of connections is limited.

Requests that offer an upgrade are read as if they offered none. Java's HttpClient offers HTTP/2 (`Upgrade: h2c`) with
every request, and RFC 9110, section 7.8, lets a server ignore that. httptools stops at the end of such a head, and
uvicorn loses the body (its issue 2722).
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
from app.server.buffered_transport import BufferedTransport

log = structlog.get_logger(__name__)

# httptools has no limit: a stranger could fill the memory. uvicorn's other reader, h11, allows 16 KiB; nginx 32 KiB.
MAX_HEAD_BYTES = 64 * 1024
# Connections over the limit that may be told so at the same time. Those over that as well are closed without a word.
MAX_TURNED_AWAY = 64
FULL_LOGGED_EVERY_S = 60.0

_FRAMING = {b"content-length", b"transfer-encoding"}
# llhttp acts on these wherever they stand, so that the next request would be read differently or not at all.
_CONTROL = {*_FRAMING, b"connection", b"proxy-connection", b"upgrade"}
# RFC 3986, section 3.2: a name or an address, and a port.
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9\-._~%]+)?\]|[A-Za-z0-9\-._~%!$&'()*+,;=]*)(?::[0-9]*)?")


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds that a connection may go without progress. Heads and idle connections have uvicorn's keep-alive time."""

    # In each span of so many seconds a body has to end or to bring this rate. 16 MiB over 1 Mbit/s take 134 s: a
    # limit on the whole time would refuse slow lines, or would have to be too long to be one.
    body_s: float = 60.0
    min_body_bytes_per_s: int = 1000
    # In so many seconds the peer has to take something of the waiting output.
    write_s: float = 60.0
    # For the request of a connection over the limit.
    turn_away_s: float = 2.0


class HttpProtocol(HttpToolsProtocol):
    """One connection. uvicorn's timer for keep-alive serves all deadlines of reading: one timer at a time.

    uvicorn's `limit_concurrency` is the highest number of connections. uvicorn itself lets any number of idle
    connections in and then answers 503 on all of them; here the ones over the limit are turned away and the others go
    on.
    """

    deadlines: ClassVar[Deadlines] = Deadlines()
    _full_logged_at: ClassVar[float] = float("-inf")

    _turned_away = False
    _resuming = False
    _in_head = False
    _in_body = False
    # Of the head under way, trailers included: bytes of complete lines.
    _head_bytes = 0
    # Bytes since the parser last told of anything: of a line that has not ended yet.
    _unparsed_bytes = 0
    _head_due = 0.0
    # Of the body, in the present span of its deadline.
    _span_bytes = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._max_connections, self.limit_concurrency = self.limit_concurrency, None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._output = BufferedTransport(transport, self.loop, stall_s=self.deadlines.write_s)
        super().connection_made(cast("asyncio.Transport", self._output))
        if self._max_connections is not None and len(self.connections) > self._max_connections:
            self._turn_away(len(self.connections) - self._max_connections)
        else:
            self._close_at(self.loop.time() + self.timeout_keep_alive)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        # uvicorn leaves the timer of a connection that was reset, and the timer keeps the connection's memory.
        self._unset_keepalive_if_required()
        self._output.connection_lost()

    def data_received(self, data: bytes) -> None:
        if self._turned_away:
            self._refuse(TooManyConnections("All connections of the gateway are in use; try again in a moment."))
            return
        self._unparsed_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._refuse(_parse_error(error))
        except httptools.HttpParserUpgrade as offer:
            self._decline_upgrade(data[offer.args[0] :])
        else:
            if self._unparsed_bytes > MAX_HEAD_BYTES:
                self._refuse(_head_too_large())
            elif self.timeout_keep_alive_task is None:
                self._watch_reading()

    def on_message_begin(self) -> None:
        if not self._resuming:
            self._unset_keepalive_if_required()
            self._in_head, self._head_bytes, self._unparsed_bytes = True, 0, 0
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
        # Trailers are counted and dropped: RFC 9110, section 6.5.1. uvicorn would add them to the headers.
        if self._in_head:
            super().on_header(name, value)
        elif name.lower() in _CONTROL:
            raise MalformedRequest(f"{name.decode('latin-1')} may stand in the head only, not in a trailer.")

    def on_headers_complete(self) -> None:
        if not self._resuming:
            self._check_head()
            super().on_headers_complete()
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        self._in_head = self._resuming = False
        self._in_body = True
        self._unparsed_bytes = self._span_bytes = 0

    def on_body(self, body: bytes) -> None:
        self._unparsed_bytes = 0
        self._span_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        self._in_body = False
        self._unparsed_bytes = 0
        super().on_message_complete()
        if self.cycle.response_complete:
            self._close_at(self.loop.time() + self.timeout_keep_alive)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # The connection is not idle yet if the peer still sends a body that nobody read, or the next head.
        if (self._in_head or self._in_body) and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self._watch_reading()

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            # The peer waits for the gateway here, not the other way round.
            self._head_due = self.loop.time() + self.timeout_keep_alive
            self._watch_reading()
        elif not self._in_body:
            self.transport.close()
        elif self._span_bytes >= self.deadlines.min_body_bytes_per_s * self.deadlines.body_s:
            self._watch_reading()
        elif self.cycle.response_complete:
            self.transport.close()
        else:
            self._refuse(_body_too_slow(self.deadlines))

    def _watch_reading(self) -> None:
        if self._in_head:
            self._close_at(self._head_due)
        elif self._in_body:
            self._span_bytes = 0
            self._close_at(self.loop.time() + self.deadlines.body_s)

    def _close_at(self, when: float) -> None:
        """uvicorn times out idle connections only between requests, not new ones and not those within a request."""
        self.timeout_keep_alive_task = self.loop.call_at(when, self.timeout_keep_alive_handler)

    def _turn_away(self, excess: int) -> None:
        """Answer after the request: closing a socket with unread data resets it, and the answer may be lost."""
        now = self.loop.time()
        if now - HttpProtocol._full_logged_at >= FULL_LOGGED_EVERY_S:
            HttpProtocol._full_logged_at = now
            log.warning("connections are turned away: all are in use", limit=self._max_connections)
        self._turned_away = True
        if excess > MAX_TURNED_AWAY:
            self.transport.close()
        else:
            self._close_at(now + self.deadlines.turn_away_s)

    def _check_head(self) -> None:
        """What llhttp lets through, and proxies may read in another way than the gateway does."""
        version = self.parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise MalformedRequest(f"The gateway speaks HTTP/1.1, not HTTP/{version}.")
        hosts, codings = [], []
        for name, value in self.headers:
            if name == b"host":
                hosts.append(value)
            elif name == b"transfer-encoding":
                codings.append(value.lower())
        if len(hosts) > 1 or (not hosts and version == "1.1"):  # RFC 9112, section 3.2
            raise MalformedRequest(f"A request has one Host header; this one has {len(hosts)}.")
        if hosts and not _is_host(hosts[0]):
            raise MalformedRequest("Host needs a name or an address, and may have a port: gateway.example:8000.")
        if codings and (version == "1.0" or codings != [b"chunked"]):
            raise MalformedRequest("Transfer-Encoding may only be chunked, once, and in HTTP/1.1.")

    def _refuse(self, error: GatewayError) -> None:
        """Answer here, as the last of the connection: the application does not know of this request.

        Where answers to earlier requests are still to come, it would be taken for one of them.
        """
        if self._response_pending():
            self.transport.close()
            return
        request_id = uuid4().hex
        log.info(error.code, request_id=request_id)
        scope = {"type": "http", "path": "", "state": {"request_id": request_id}}
        headers = {"X-Request-ID": request_id, "X-Content-Type-Options": "nosniff", "Connection": "close"}
        answer = problem_response(scope, error, headers=headers)
        fields = [*self.server_state.default_headers, *answer.raw_headers]
        lines = (name + b": " + value + b"\r\n" for name, value in fields)
        self.transport.write(b"".join([STATUS_LINE[answer.status_code], *lines, b"\r\n", answer.body]))
        self.transport.close()

    def _response_pending(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        if self.pipeline:
            return True
        return cycle is not None and not cycle.response_complete and (self._in_head or cycle.response_started)

    def _decline_upgrade(self, rest: bytes) -> None:
        """Read on with a parser that knows how long the body is, and of no offer.

        The request is under way as one without a body; its task has not run yet, for this is still the same turn.
        """
        self.cycle.more_body = True
        self.cycle.message_event.clear()
        framing = (name + b": " + value + b"\r\n" for name, value in self.headers if name in _FRAMING)
        self.parser = httptools.HttpRequestParser(self)
        self._resuming = True
        self.data_received(b"POST / HTTP/1.1\r\n" + b"".join(framing) + b"\r\n" + rest)


@lru_cache(maxsize=16)
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


def _parse_error(error: httptools.HttpParserError) -> GatewayError:
    """What one of the methods above refused, or else what the parser did."""
    if isinstance(error.__context__, GatewayError):
        return error.__context__
    if isinstance(error, httptools.HttpParserInvalidURLError):
        return MalformedRequest(
            "The URL holds characters that no URL may hold. Percent-encode what is not ASCII;"
            ' curl does it with `curl -G --data-urlencode "q=…"`.'
        )
    return MalformedRequest("What came on this connection cannot be read as HTTP/1.1.")


def _head_too_large() -> HeadTooLarge:
    return HeadTooLarge(f"The path and the headers may have {MAX_HEAD_BYTES:,} bytes together.")


def _body_too_slow(deadlines: Deadlines) -> RequestTimeout:
    return RequestTimeout(
        f"The body has to end or to bring {deadlines.min_body_bytes_per_s:,} bytes a second over"
        f" {deadlines.body_s:g} s; send it again."
    )
