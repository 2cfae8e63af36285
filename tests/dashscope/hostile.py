"""A server that sends scripted bytes and records the requests that it gets, byte for byte."""

import asyncio
import gzip
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import orjson

# Responds to a request that was read completely. The connection stays open if it returns True.
Script = Callable[[asyncio.StreamWriter], Awaitable[bool]]


@dataclass(frozen=True)
class Received:
    line: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]

    def header(self, name: str) -> list[str]:
        return [value for given, value in self.headers if given.lower() == name.lower()]


@dataclass
class HostileServer:
    """Plays the `scripts` in order and repeats the last one."""

    scripts: deque[Script] = field(default_factory=deque)
    received: list[Received] = field(default_factory=list)
    origin: str = ""
    connections: int = 0
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    _connections: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def base_url(self) -> str:
        return f"{self.origin}/api/v1"

    @property
    def last(self) -> Received:
        return self.received[-1]

    def play(self, *scripts: Script) -> None:
        self.scripts = deque(scripts)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def close(self) -> None:
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                while True:
                    self.received.append(await _read(reader))
                    self.heard.set()
                    script = self.scripts.popleft() if len(self.scripts) > 1 else self.scripts[0]
                    if not await script(writer):
                        return
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *rows = head.split("\r\n")[:-2]
    headers = [(name, value.strip()) for name, _, value in (row.partition(":") for row in rows)]
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
    return Received(line, headers, await reader.readexactly(length))


@asynccontextmanager
async def hostile_server(host: str = "127.0.0.1") -> AsyncIterator[HostileServer]:
    hostile = HostileServer()
    server = await asyncio.start_server(hostile.accept, host, 0)
    hostile.origin = f"http://{host}:{server.sockets[0].getsockname()[1]}"
    try:
        yield hostile
    finally:
        server.close()
        await hostile.close()


def raw(content: bytes, *, keep: bool = False) -> Script:
    async def script(writer: asyncio.StreamWriter) -> bool:
        writer.write(content)
        await writer.drain()
        return keep

    return script


def response(status: int, body: bytes, *headers: str, length: int | None = None, keep: bool = True) -> Script:
    """A response. `length` replaces the real Content-Length."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body) if length is None else length}", *headers]
    return raw("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body, keep=keep)


def json(status: int, value: object, *headers: str) -> Script:
    return response(status, orjson.dumps(value), "Content-Type: application/json", *headers)


def error(status: int, code: str, message: str = "why") -> Script:
    return json(status, {"code": code, "message": message, "request_id": "r"})


def html(status: int) -> Script:
    return response(status, b"<html><body>nginx</body></html>", "Content-Type: text/html")


def zipped(body: bytes) -> Script:
    return response(200, gzip.compress(body), "Content-Encoding: gzip")


async def drop(_writer: asyncio.StreamWriter) -> bool:
    """Close the connection without a response."""
    return False


async def reset(writer: asyncio.StreamWriter) -> bool:
    """Abort the connection without a response."""
    writer.transport.abort()
    return False


async def silence(_writer: asyncio.StreamWriter) -> bool:
    await asyncio.Event().wait()
    return False


def drip(first: bytes, then: bytes) -> Script:
    """An endless response in small pieces, so that no single read times out."""

    async def script(writer: asyncio.StreamWriter) -> bool:
        writer.write(first)
        while True:
            writer.write(then)
            await writer.drain()
            await asyncio.sleep(0.01)

    return script


def flood(first: bytes, chunk: bytes) -> Script:
    """An endless response at full speed."""

    async def script(writer: asyncio.StreamWriter) -> bool:
        writer.write(first)
        while True:
            writer.write(chunk)
            await writer.drain()

    return script
