"""HTTP/1.1 as uvicorn reads it with httptools, but that what is no HTTP is told so by a problem, and that requests
which offer an upgrade have it declined.

Java's HttpClient offers HTTP/2 (`Upgrade: h2c`) with every request. RFC 9110, section 7.8, lets a server go on as if
nothing had been offered; httptools stops at the end of the headers, and uvicorn loses the body (its issue 2722).
"""

from uuid import uuid4

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.api.problems import MalformedRequest, problem_response

log = structlog.get_logger(__name__)

_FRAMING = {b"content-length", b"transfer-encoding"}


class PlainHttp(HttpToolsProtocol):
    _resuming = False

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("What came on this connection cannot be read as HTTP/1.1.")
        except httptools.HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :])

    def send_400_response(self, msg: str) -> None:
        """No application has heard of this request, so the answer is written here, as the last of its connection."""
        request_id = uuid4().hex
        log.info("malformed_request", request_id=request_id)
        scope = {"type": "http", "path": "", "state": {"request_id": request_id}}
        headers = {"X-Request-ID": request_id, "X-Content-Type-Options": "nosniff", "Connection": "close"}
        answer = problem_response(scope, MalformedRequest(msg), headers=headers)
        fields = [*self.server_state.default_headers, *answer.raw_headers]
        lines = (name + b": " + value + b"\r\n" for name, value in fields)
        self.transport.write(b"".join([STATUS_LINE[400], *lines, b"\r\n", answer.body]))
        self.transport.close()

    def on_message_begin(self) -> None:
        if not self._resuming:
            super().on_message_begin()

    def on_headers_complete(self) -> None:
        if not self._resuming:
            super().on_headers_complete()
        self._resuming = False

    def on_url(self, url: bytes) -> None:
        if not self._resuming:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._resuming:
            super().on_header(name, value)

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
