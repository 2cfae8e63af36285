"""Runs an ASGI application in uvicorn on a loopback port, for tests of the HTTP protocol."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app.server.http_protocol import HttpProtocol


@asynccontextmanager
async def live_server(
    app: ASGIApp,
    *,
    keep_alive_s: int = 75,
    protocol: type[HttpProtocol] = HttpProtocol,
    max_connections: int | None = None,
) -> AsyncIterator[str]:
    """Serve the application during the block. Yields its base URL."""
    # asyncio disables Nagle's algorithm only if the protocol is given: otherwise a request takes 40 ms more.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_keep_alive=keep_alive_s,
            limit_concurrency=max_connections,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        # The socket already listens: early connections wait in its backlog.
        host, port = listener.getsockname()
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        await serving
        listener.close()


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """`<METHOD path body>`."""
    request = Request(scope, receive)
    body = (await request.body()).decode()
    await PlainTextResponse(f"<{request.method} {request.url.path} {body}>")(scope, receive, send)


def exchange(sent: bytes, port: int | None) -> bytes:
    """Send bytes and return everything received. asyncio would lose data that arrived before a reset."""
    received = b""
    with socket.create_connection(("127.0.0.1", port or 0), timeout=20) as connection, suppress(ConnectionError):
        with suppress(ConnectionError):
            connection.sendall(sent)
        while part := connection.recv(65536):
            received += part
    return received
