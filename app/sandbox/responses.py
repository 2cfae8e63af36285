"""The ways in which the sandbox answers: JSON, a proxy's HTML page, or not at all."""

import uuid
from typing import Any

import httpx
import msgspec
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

DROP_EXTENSION = "sandbox.drop_connection"
"""The ASGI extension by which `app.sandbox.server` lets an app end its TCP connection."""


class JSONAnswer(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return msgspec.json.encode(content)


class ConnectionDropped(httpx.ReadError):
    """What an in-process client sees in place of a TCP connection that ended without an answer."""


class DroppedConnection(Response):
    """No answer: a dropped connection over TCP, ConnectionDropped through an ASGI transport."""

    async def __call__(self, scope: Scope, receive: Receive, _send: Send) -> None:
        extension = scope.get("extensions", {}).get(DROP_EXTENSION)
        if extension is None:
            raise ConnectionDropped("The sandbox dropped the connection without an answer")
        extension["drop"]()
        # The server must have seen the end before this returns, or it would log the missing response as an error.
        while (await receive())["type"] != "http.disconnect":
            pass


def html_page(status: int) -> HTMLResponse:
    return HTMLResponse("<html><body><h1>Bad Gateway</h1></body></html>\r\n", status_code=status)


def new_request_id() -> str:
    return str(uuid.uuid4())
