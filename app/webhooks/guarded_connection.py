"""Opens connections to permitted addresses only: resolves the name, checks each address and connects to one of them.

A check of the URL is not enough. The name may resolve to another address at the time of the connection (DNS
rebinding), and addresses have many spellings (`127.1`, `0x7f000001`, `[::ffff:127.0.0.1]`).
"""

import asyncio
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from itertools import chain, zip_longest
from typing import Any

import httpcore

from app.webhooks.addresses import Networks, is_permitted, is_permitted_port

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]

# Number of addresses of a host that are tried, a further one after each delay (RFC 8305, "happy eyeballs").
MAX_ADDRESSES_TRIED = 8
ATTEMPT_DELAY_S = 0.25
# Open connections of one process to one address, whatever their ports and names. More than the limit of one host,
# since many hosts may share an address.
MAX_PER_ADDRESS = 16
# Bytes that are received on one connection, head and body together. A server may send any number of interim responses
# (1xx) before its response, and httpcore reads them without a limit.
MAX_RECEIVED_BYTES = 128 * 1024
# Bytes that are parsed at a time. Other work of the process goes on in between.
READ_BYTES = 4096


class ForbiddenAddress(Exception):
    """An address of the host is not permitted. The message omits it: it would help to map the network."""


class ForbiddenPort(Exception):
    """The port belongs to a service that is not a web server."""


class BusyAddress(Exception):
    """This process has MAX_PER_ADDRESS connections to each address of the host. No connection was opened."""


class NoConnection(httpcore.ConnectError):
    """No address of the host accepted a connection. `tried` is the number of addresses."""

    def __init__(self, tried: int) -> None:
        super().__init__()
        self.tried = tried


class UnknownHost(Exception):
    """The name has no address, or its name servers do not respond."""


async def resolve(host: str, port: int) -> Sequence[str]:
    """All addresses of a host, in the order of the operating system. Raises UnknownHost.

    Each lookup runs in its own daemon thread, so a slow name server delays neither other lookups nor the exit.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[Sequence[str]] = loop.create_future()

    def resolve_future(addresses: Sequence[str] | None) -> None:
        if found.done():
            return
        if addresses:
            found.set_result(addresses)
        else:
            found.set_exception(UnknownHost())

    def look_up() -> None:
        addresses = None
        with suppress(OSError, UnicodeError):
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(info[4][0]) for info in infos))
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(resolve_future, addresses)

    threading.Thread(target=look_up, name="webhook-resolve", daemon=True).start()
    return await found


class LimitedStream(httpcore.AsyncNetworkStream):
    """A connection that receives up to `max_bytes`, READ_BYTES at a time. More is a RemoteProtocolError of httpcore."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, max_bytes: int = MAX_RECEIVED_BYTES) -> None:
        self._stream = stream
        self._left = max_bytes

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's signature
        if self._left <= 0:
            raise httpcore.RemoteProtocolError("the response is too long")
        received = await self._stream.read(min(max_bytes, READ_BYTES), timeout)
        self._left -= len(received)
        return received

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's signature
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
    ) -> httpcore.AsyncNetworkStream:
        return LimitedStream(await self._stream.start_tls(ssl_context, server_hostname, timeout), self._left)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Network backend of httpcore that connects to permitted addresses only. TLS still verifies the host name.

    `in_use` counts the connections of the process to each address. One backend opens one connection.
    """

    def __init__(self, allowed: Networks, in_use: Counter[str], resolve: Resolve = resolve) -> None:
        self._allowed = allowed
        self._in_use = in_use
        self._resolve = resolve
        self._inner = httpcore.AnyIOBackend()
        self._counted: list[str] = []
        self._opened: list[httpcore.AsyncNetworkStream] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises ForbiddenAddress if any address of the host is not permitted: mixed addresses suggest an attack.

        Also raises ForbiddenPort, UnknownHost, BusyAddress and NoConnection. `timeout` is that of each address.
        """
        if not is_permitted_port(port):
            raise ForbiddenPort
        addresses = await self._resolve(host, port)
        if not all(is_permitted(address, self._allowed) for address in addresses):
            raise ForbiddenAddress

        async def connect(address: str) -> httpcore.AsyncNetworkStream | None:
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                stream = await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
                self._opened.append(stream)
                return stream
            return None

        free = [address for address in families_in_turn(addresses)[:MAX_ADDRESSES_TRIED] if self._count(address)]
        if not free:
            raise BusyAddress
        if stream := await connect_first(connect, free):
            return LimitedStream(stream)
        raise NoConnection(len(free))

    async def aclose(self) -> None:
        """Close all connections: httpcore does not close a connection if its TLS handshake is cancelled."""
        for address in self._counted:
            self._in_use[address] -= 1
            if not self._in_use[address]:
                del self._in_use[address]
        self._counted.clear()
        for stream in self._opened:
            await stream.aclose()

    def _count(self, address: str) -> bool:
        """Count a connection to the address. False if it has no place left."""
        parsed = ip_address(address)
        key = str((isinstance(parsed, IPv6Address) and parsed.ipv4_mapped) or parsed)
        if self._in_use[key] >= MAX_PER_ADDRESS:
            return False
        self._in_use[key] += 1
        self._counted.append(key)
        return True


def families_in_turn(addresses: Sequence[str]) -> list[str]:
    """IPv6 and IPv4 addresses alternately, beginning with the family that the operating system prefers."""
    first = ip_address(addresses[0]).version
    same = [address for address in addresses if ip_address(address).version == first]
    other = [address for address in addresses if ip_address(address).version != first]
    return [address for address in chain.from_iterable(zip_longest(same, other)) if address is not None]


async def connect_first(
    connect: Callable[[str], Awaitable[httpcore.AsyncNetworkStream | None]], addresses: Sequence[str]
) -> httpcore.AsyncNetworkStream | None:
    """The first connection that opens, or None. A further address is tried when one fails, or after a delay."""
    waiting = list(addresses)
    running: set[asyncio.Future[httpcore.AsyncNetworkStream | None]] = set()
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.ensure_future(connect(waiting.pop(0))))
            delay_s = ATTEMPT_DELAY_S if waiting else None
            done, running = await asyncio.wait(running, timeout=delay_s, return_when=asyncio.FIRST_COMPLETED)
            for attempt in done:
                if stream := attempt.result():
                    return stream
        return None
    finally:
        for attempt in running:
            attempt.cancel()
        await asyncio.gather(*running, return_exceptions=True)
