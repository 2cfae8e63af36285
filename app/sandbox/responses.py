"""Responses of the sandbox: JSON, the HTML page of a proxy, or a dropped connection."""

import uuid
from typing import Any

import httpx
import msgspec
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

DROP_EXTENSION = "sandbox.drop_connection"
"""The ASGI extension of `app.sandbox.server` that lets an app abort its TCP connection."""


class JSONResponse(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return msgspec.json.encode(content)


class ConnectionDropped(httpx.ReadError):
    """Stands for a dropped TCP connection in in-process clients."""


class DroppedConnection(Response):
    """Drops the connection without a response. Through an ASGI transport it raises ConnectionDropped."""

    async def __call__(self, scope: Scope, receive: Receive, _send: Send) -> None:
        extension = scope.get("extensions", {}).get(DROP_EXTENSION)
        if extension is None:
            raise ConnectionDropped("the sandbox dropped the connection without a response")
        extension["drop"]()
        # Wait until the server has seen the end. Otherwise it logs the missing response as an error.
        while (await receive())["type"] != "http.disconnect":
            pass


def html_page(status: int) -> HTMLResponse:
    return HTMLResponse("<html><body><h1>Bad Gateway</h1></body></html>\r\n", status_code=status)


def new_request_id() -> str:
    return str(uuid.uuid4())
