"""A cheap load generator: raw connections, prepared requests, counted responses.

Closed loop: each connection sends its next request when the previous response has arrived. Open loop: requests are due
at fixed times, and the time of a response counts from there, so a stalled server cannot slow the generator down.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

from bench.statistics import percentile

_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"content-length:"


@dataclass(slots=True)
class Load:
    """The outcome. Times in seconds, from the time at which a request was due to the last byte of its response."""

    wanted: int
    times_s: list[float] = field(default_factory=list)
    others: dict[int, int] = field(default_factory=dict)
    span_s: float = 0.0

    @property
    def per_s(self) -> float:
        return len(self.times_s) / self.span_s if self.span_s else 0.0

    def time_ms(self, share: float) -> float:
        return (percentile(sorted(self.times_s), share) or 0.0) * 1000

    def count(self, status: int, time_s: float) -> None:
        if status == self.wanted:
            self.times_s.append(time_s)
        else:
            self.others[status] = self.others.get(status, 0) + 1


class _Connection(asyncio.Protocol):
    """A connection with one request at a time. Responses must have a Content-Length."""

    def __init__(self, on_response: "Callable[[_Connection, int, bytes], None]") -> None:
        self._on_response = on_response
        self._received = bytearray()
        self.due_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's does not say that it is one

    def send(self, request: bytes, due_at: float) -> None:
        self.due_at = due_at
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(_END_OF_HEAD)
        if head < 0:
            return
        body = head + len(_END_OF_HEAD)
        end = body + _content_length(self._received[:head])
        if len(self._received) >= end:
            status, response = int(self._received[9:12]), bytes(self._received[body:end])
            self._received.clear()
            self._on_response(self, status, response)


def request(method: str, path: str, token: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


async def closed_loop(
    host: str,
    port: int,
    requests: Iterator[bytes],
    *,
    connections: int,
    wanted: int,
    seconds: float = float("inf"),
    keep: list[bytes] | None = None,
) -> Load:
    """Run until the requests or the seconds are used up. `keep` collects the bodies of the wanted responses."""
    load = Load(wanted)
    left = connections
    over = asyncio.get_running_loop().create_future()
    began = time.perf_counter()

    def next_request(connection: _Connection) -> None:
        nonlocal left
        now = time.perf_counter()
        following = next(requests, None) if now - began < seconds else None
        if following is not None:
            connection.send(following, now)
            return
        left -= 1
        if not left:
            over.set_result(None)

    def on_response(connection: _Connection, status: int, body: bytes) -> None:
        load.count(status, time.perf_counter() - connection.due_at)
        if keep is not None and status == wanted:
            keep.append(body)
        next_request(connection)

    opened = await _open(host, port, connections, on_response)
    began = time.perf_counter()
    for connection in opened:
        next_request(connection)
    await over
    load.span_s = time.perf_counter() - began
    _close(opened)
    return load


async def open_loop(
    host: str, port: int, requests: Iterator[bytes], *, connections: int, wanted: int, per_s: float, seconds: float
) -> Load:
    """Send `per_s` evenly spaced requests per second. The time of a request that waits for a connection counts."""
    load = Load(wanted)
    total = int(per_s * seconds)
    over = asyncio.get_running_loop().create_future()
    answered = 0

    def on_response(connection: _Connection, status: int, _body: bytes) -> None:
        nonlocal answered
        answered += 1
        load.count(status, time.perf_counter() - connection.due_at)
        free.put_nowait(connection)
        if answered == total:
            over.set_result(None)

    opened = await _open(host, port, connections, on_response)
    free: asyncio.Queue[_Connection] = asyncio.Queue()
    for connection in opened:
        free.put_nowait(connection)
    began = time.perf_counter()
    for number in range(total):
        due_at = began + number / per_s
        await asyncio.sleep(max(due_at - time.perf_counter(), 0))
        (await free.get()).send(next(requests), due_at)
    await over
    load.span_s = time.perf_counter() - began
    _close(opened)
    return load


async def _open(
    host: str, port: int, connections: int, on_response: Callable[[_Connection, int, bytes], None]
) -> Sequence[_Connection]:
    loop = asyncio.get_running_loop()
    opened = [loop.create_connection(lambda: _Connection(on_response), host, port) for _ in range(connections)]
    return [connection for _, connection in await asyncio.gather(*opened)]


def _close(opened: Sequence[_Connection]) -> None:
    for connection in opened:
        connection.transport.close()


def _content_length(head: bytes | bytearray) -> int:
    lower = bytes(head).lower()
    at = lower.find(_LENGTH)
    return int(lower[at + len(_LENGTH) :].split(b"\r\n", 1)[0]) if at >= 0 else 0
