"""HTTP/1.1 as uvicorn reads it with httptools, but that what is no HTTP is told so by a problem, that a request needs
its Host, that heads have a limit in size and in time, and that requests which offer an upgrade have it declined.

Java's HttpClient offers HTTP/2 (`Upgrade: h2c`) with every request. RFC 9110, section 7.8, lets a server go on as if
nothing had been offered; httptools stops at the end of the headers, and uvicorn loses the body (its issue 2722).
"""

import asyncio
from typing import Any, cast
from uuid import uuid4

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from app.api.problems import HeadTooLarge, MalformedRequest, problem_response
from app.errors import GatewayError

log = structlog.get_logger(__name__)

# As much as uvicorn's other reader takes. httptools itself has no limit: whoever has no token could fill the memory.
MAX_HEAD_BYTES = 64 * 1024
MOST_HELD_BYTES = 16 * 1024

_FRAMING = {b"content-length", b"transfer-encoding"}


class PlainHttp(HttpToolsProtocol):
    _resuming = False
    _in_head = False
    # Of the request under way: what the parser has handed over, and what came in pieces that ended within the head.
    _head_bytes = 0
    _begun_bytes = 0
    _head_due = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", _WriteOnceATurn(transport, self.loop)))
        self._close_at(self.loop.time() + self.timeout_keep_alive)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        headers = self.headers
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._refuse(_complaint(error))
        except httptools.HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :])
        else:
            if self._in_head:
                self._expect_more(0 if self.headers is not headers else len(data))

    def _expect_more(self, begun_bytes: int) -> None:
        self._begun_bytes += begun_bytes
        if self._begun_bytes > MAX_HEAD_BYTES:
            self._refuse(_head_too_large())
        else:
            self._close_at(self._head_due)

    def _close_at(self, when: float) -> None:
        """uvicorn gives up idle connections between requests alone: not new ones, nor those that never end a head."""
        self.timeout_keep_alive_task = self.loop.call_at(when, self.timeout_keep_alive_handler)

    def on_message_begin(self) -> None:
        if not self._resuming:
            self._in_head, self._head_bytes, self._begun_bytes = True, 0, 0
            self._head_due = self.loop.time() + self.timeout_keep_alive
            super().on_message_begin()

    def on_headers_complete(self) -> None:
        if not self._resuming:
            self._require_host()
            super().on_headers_complete()
        self._in_head = self._resuming = False

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
        super().on_header(name, value)

    def _require_host(self) -> None:
        """RFC 9112, section 3.2. Proxies that pick another one of two than the gateway can be lied to."""
        hosts = [name for name, _ in self.headers].count(b"host")
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            raise MalformedRequest(f"A request has one Host header; this one has {hosts}.")

    def _refuse(self, error: GatewayError) -> None:
        """No application has heard of this request, so the answer is written here, as the last of its connection.

        Where answers to earlier requests are still to come, it would be taken for one of them.
        """
        if self._owes_answers():
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

    def _owes_answers(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        if self.pipeline:
            return True
        return cycle is not None and not cycle.response_complete and (self._in_head or cycle.response_started)

    def _decline(self, rest: bytes) -> None:
        """Read on with a parser that knows how long the body is, and of no offer.

        The request is under way as one without a body; its task has not run yet, for this is still the same turn.
        """
        self.cycle.more_body = True
        self.cycle.message_event.clear()
        framing = (name + b": " + value + b"\r\n" for name, value in self.headers if name in _FRAMING)
        self.parser = httptools.HttpRequestParser(self)
        self._resuming = True
        self.data_received(b"POST / HTTP/1.1\r\n" + b"".join(framing) + b"\r\n" + rest)


class _WriteOnceATurn:
    """A transport that hands over what is written within one turn of the event loop together.

    uvicorn writes the head of an answer and its body apart: two packets and two system calls, each of which wakes the
    caller. That was a tenth of what a request cost.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._written: list[bytes] = []
        self._held_bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self._written.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > MOST_HELD_BYTES:
            # More goes at once, so that a slow reader slows down who makes it.
            self._hand_over()
        elif len(self._written) == 1:
            self._loop.call_soon(self._hand_over)

    def close(self) -> None:
        self._hand_over()
        self._transport.close()

    def _hand_over(self) -> None:
        if self._written:
            written, self._written, self._held_bytes = self._written, [], 0
            self._transport.write(b"".join(written))


def _complaint(error: httptools.HttpParserError) -> GatewayError:
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
