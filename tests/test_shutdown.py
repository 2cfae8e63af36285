"""Requests that do not end within the time of a shutdown."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from app.api.exception_handlers import add_problem_handlers
from app.api.middleware import add_middleware
from app.server import run


async def _read_body(request: Request) -> Response:
    return Response(await request.body())


async def _stream_for_ever() -> StreamingResponse:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.Event().wait()

    return StreamingResponse(chunks())


def _app() -> FastAPI:
    app = FastAPI(openapi_url=None)
    add_problem_handlers(app)
    add_middleware(app)
    app.post("/body")(_read_body)
    app.get("/stream")(_stream_for_ever)
    return app


@pytest.mark.parametrize(
    ("request_", "awaited"),
    [
        (b"POST /body HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\nhalf", b"100 Continue"),
        (b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n", b"first"),
    ],
)
async def test_request_in_progress_at_the_end_of_a_shutdown_leaves_no_traceback(
    request_: bytes, awaited: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run, "GRACE_S", 0.1)
    listener = socket.create_server(("127.0.0.1", 0))
    app, stop = _app(), run.Stop()

    def on_stop() -> None:
        app.state.stopping = True

    with caplog.at_level(logging.INFO):
        serving = asyncio.create_task(run.serve_http(app, listener, stop, on_stop=on_stop))
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(request_)
            await reader.readuntil(awaited)
            stop.set()
            answer = await reader.read()
            writer.close()
            await serving
    assert not [record for record in caplog.records if record.exc_info]
    if b"/body" in request_:
        head, _, body = answer.partition(b"HTTP/1.1 ")[2].partition(b"\r\n\r\n")
        assert head.startswith(b"503 ")
        assert b"content-type: application/problem+json" in head.lower()
        assert b"connection: close" in head.lower()
        assert b'"code":"service_unavailable"' in body
    else:
        assert not answer.strip()  # the connection ends without the last chunk
