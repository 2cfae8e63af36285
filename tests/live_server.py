"""The application behind a real uvicorn on a free loopback port: for what ASGI transports cannot show."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp

from app.protocol import PlainHttp


@asynccontextmanager
async def live_server(app: ASGIApp, *, keep_alive_s: int = 75) -> AsyncIterator[str]:
    """Its base URL."""
    # Without the protocol's number asyncio does not switch off Nagle's algorithm: 40 ms a request.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=PlainHttp,
            ws="none",
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_keep_alive=keep_alive_s,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        # The socket listens already: who connects early waits in its backlog.
        host, port = listener.getsockname()
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        await serving
        listener.close()
