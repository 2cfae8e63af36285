"""A client's server on loopback with scripted responses, which records its requests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

PATIENCE_S = 20
OK = b"HTTP/1.1 204 No Content\r\n\r\n"


@dataclass(frozen=True)
class Received:
    line: str
    headers: dict[str, str]
    body: str


@dataclass
class Receiver:
    """Sends `responses` in order and repeats the last one. None delays the response until `release` is set."""

    address: str
    port: int = 0
    responses: list[bytes | None] = field(default_factory=lambda: [OK])
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    max_concurrent: int = 0
    release: asyncio.Event = field(default_factory=asyncio.Event)
    _arrival: asyncio.Condition = field(default_factory=asyncio.Condition)
    _open: int = 0

    def url(self, path: str = "/hook", *, host: str | None = None) -> str:
        return f"http://{host or self.address}:{self.port}{path}"

    async def got(self, count: int = 1) -> Received:
        """Wait for `count` requests and return the last of them."""
        async with asyncio.timeout(PATIENCE_S), self._arrival:
            await self._arrival.wait_for(lambda: len(self.received) >= count)
        return self.received[count - 1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open += 1
        self.max_concurrent = max(self.max_concurrent, self._open)
        try:
            await self._respond(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the gateway closed the connection
        finally:
            self._open -= 1
            writer.close()

    async def _respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        async with self._arrival:
            self.received.append(Received(head[0], headers, body.decode()))
            self._arrival.notify_all()
        response = self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]
        if response is None:
            await self.release.wait()
            response = OK
        writer.write(response)
        await writer.drain()


@asynccontextmanager
async def receiver(address: str = "127.0.0.1", *responses: bytes | None) -> AsyncIterator[Receiver]:
    running = Receiver(address, responses=list(responses) or [OK])
    server = await asyncio.start_server(running.serve, address, 0)
    running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        running.release.set()
        server.close()
        await server.wait_closed()


def status(code: int, body: bytes = b"", **headers: str) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {code} Whatever\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body
