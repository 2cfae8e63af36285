"""Deadlines and limits of connections, on real sockets."""

import asyncio
import gc
import json
import socket
import struct
import weakref
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from app.server.http_protocol import MAX_REJECTIONS, Deadlines, HttpProtocol
from tests.live_server import echo, exchange, live_server

PATIENCE_S = 20
HEAD = b"POST / HTTP/1.1\r\nHost: gateway\r\n"
SIZED = HEAD + b"Content-Length: 100000\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = b"GET /whole HTTP/1.1\r\nHost: gateway\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n"


class Impatient(HttpProtocol):
    deadlines = Deadlines(body_s=0.3, min_body_bytes_per_s=1000, write_s=0.3, rejection_s=0.3)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield reader, writer
    finally:
        writer.close()


async def drip(writer: StreamWriter, piece: bytes, every_s: float = 0.05) -> None:
    while True:
        writer.write(piece)
        await asyncio.sleep(every_s)


@pytest.mark.parametrize("sent", [SIZED, SIZED + b"a", CHUNKED, CHUNKED + b"5\r\nab", CHUNKED + b"0\r\nX-A: b\r\n"])
async def test_a_body_that_stalls_is_a_408(sent: bytes) -> None:
    async with live_server(echo, protocol=Impatient) as url, connected(url) as (reader, writer):
        writer.write(sent)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in head.lower()
    assert json.loads(body)["code"] == "request_timeout"


@pytest.mark.parametrize(("sent", "piece"), [(SIZED, b"a"), (CHUNKED, b"1\r\na\r\n"), (CHUNKED + b"1;", b"a" * 100)])
async def test_a_body_that_arrives_too_slowly_is_a_408(sent: bytes, piece: bytes) -> None:
    async with live_server(echo, protocol=Impatient) as url, connected(url) as (reader, writer):
        writer.write(sent)
        dripping = asyncio.create_task(drip(writer, piece))
        # Only the first line: bytes that arrive after the end of the response reset the connection.
        assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
        dripping.cancel()


async def test_a_slow_body_above_the_minimum_rate_is_accepted() -> None:
    async with live_server(echo, protocol=Impatient) as url, connected(url) as (reader, writer):
        writer.write(HEAD + b"Connection: close\r\nContent-Length: 10000\r\n\r\n")
        for _ in range(20):
            writer.write(b"a" * 500)
            await asyncio.sleep(0.05)
        assert (await reader.read()).endswith(b"a>")


async def test_the_deadline_of_a_body_pauses_while_the_application_does_not_read() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(1)
        await echo(scope, receive, send)

    async with live_server(slow, protocol=Impatient) as url, connected(url) as (reader, writer):
        writer.write(HEAD + b"Connection: close\r\nContent-Length: 1000000\r\n\r\n" + b"a" * 1_000_000)
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Responds without reading the body."""
    await PlainTextResponse("no", 401)(scope, receive, send)


@pytest.mark.parametrize("rest", [b"", b"a", b"a" * 90_000])
async def test_an_unread_body_does_not_keep_the_connection_open(rest: bytes) -> None:
    async with live_server(refuse, protocol=Impatient) as url, connected(url) as (reader, writer):
        writer.write(SIZED)
        assert b"401" in await reader.readuntil(b"no")
        writer.write(rest)
        assert await reader.read() == b""


async def test_a_connection_is_usable_after_an_unread_body() -> None:
    async with live_server(refuse, protocol=Impatient) as url, connected(url) as (reader, writer):
        writer.write(SIZED)
        await reader.readuntil(b"no")
        writer.write(b"a" * 100_000 + LAST)
        assert (await reader.read()).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("noise", [b"\r\n", b"GET / HTTP/1.1\r\nX-A: b\r\n"], ids=["line ends", "half a head"])
async def test_an_incomplete_request_does_not_keep_the_connection_open(noise: bytes) -> None:
    async with live_server(echo, keep_alive_s=1) as url, connected(url) as (reader, writer):
        writer.write(WHOLE)
        await reader.readuntil(b"<GET /whole >")
        dripping = asyncio.create_task(drip(writer, noise[:1], every_s=0.1) if noise == b"\r\n" else asyncio.sleep(0))
        writer.write(noise)
        with suppress(ConnectionResetError):  # bytes arrived after the server had closed the connection
            assert await reader.read() == b""
        dripping.cancel()


async def stream(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(2000):
        await send({"type": "http.response.body", "body": b"a" * 10_000, "more_body": True})


async def large(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("a" * 10_000_000)(scope, receive, send)


def small_window(port: int | None, sent: bytes) -> socket.socket:
    """A connection with a small receive buffer."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(PATIENCE_S)
    connection.connect(("127.0.0.1", port or 0))
    connection.sendall(sent)
    return connection


def is_cut_off(connection: socket.socket) -> bool:
    """Wait without reading until the peer resets the connection. False after a timeout."""
    connection.setblocking(True)
    connection.settimeout(PATIENCE_S)
    while True:
        try:
            # Sending fails after a reset.
            connection.sendall(b"\r\n")
        except (BrokenPipeError, ConnectionResetError):
            return True
        except TimeoutError:
            return False


@pytest.mark.parametrize("sent", [WHOLE, LAST], ids=["kept alive", "closing"])
@pytest.mark.parametrize("app", [large, stream])
async def test_a_response_that_is_not_read_is_aborted(app: Any, sent: bytes) -> None:
    async with live_server(app, protocol=Impatient) as url:
        with await asyncio.to_thread(small_window, urlsplit(url).port, sent) as connection:
            assert await asyncio.to_thread(is_cut_off, connection)


async def test_a_response_that_is_read_slowly_arrives() -> None:
    """Takes several times the deadline. The kernel's buffer hides small progress, so the steps are large."""
    async with live_server(large, protocol=Impatient) as url:
        with await asyncio.to_thread(small_window, urlsplit(url).port, LAST) as connection:
            connection.setblocking(False)
            loop, received = asyncio.get_running_loop(), 0
            while piece := await loop.sock_recv(connection, 1_000_000):
                received += len(piece)
                await asyncio.sleep(0.0002)
    assert received > 10_000_000


async def test_a_reset_connection_is_freed_at_once() -> None:
    made: list[weakref.ref[HttpProtocol]] = []

    class Remembered(HttpProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            made.append(weakref.ref(self))
            super().connection_made(transport)

    async with live_server(echo, protocol=Remembered) as url:
        async with connected(url) as (reader, writer):
            writer.write(WHOLE)
            await reader.readuntil(b"<GET /whole >")
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        await asyncio.to_thread(exchange, LAST, urlsplit(url).port)
        await asyncio.to_thread(exchange, LAST, urlsplit(url).port)
        gc.collect()
        assert made[0]() is None


async def test_connections_over_the_limit_get_a_503_and_the_others_are_served() -> None:
    async with live_server(echo, max_connections=2) as url:
        async with connected(url) as (reader, writer), connected(url):
            head, _, body = (await asyncio.to_thread(exchange, WHOLE, urlsplit(url).port)).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 5" in head.lower()
            assert json.loads(body)["code"] == "too_many_connections"
            writer.write(LAST)
            assert (await reader.read()).endswith(b"<GET /last >")
        assert (await asyncio.to_thread(exchange, LAST, urlsplit(url).port)).endswith(b"<GET /last >")


async def test_idle_connections_over_the_limit_are_closed() -> None:
    async with live_server(echo, protocol=Impatient, max_connections=1) as url, connected(url) as (reader, writer):
        silent = [await asyncio.open_connection("127.0.0.1", urlsplit(url).port) for _ in range(2 * MAX_REJECTIONS)]
        for other, _ in silent:
            assert await other.read() == b""
        writer.write(LAST)
        assert (await reader.read()).endswith(b"<GET /last >")
        for _, other_writer in silent:
            other_writer.close()
