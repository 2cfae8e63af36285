"""Opens connections to permitted addresses only: resolves the name, checks each address and connects to one of them.

A check of the URL is not enough. The name may resolve to another address at the time of the connection (DNS
rebinding), and addresses have many spellings (`127.1`, `0x7f000001`, `[::ffff:127.0.0.1]`).
"""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress

import httpcore

from app.webhooks.addresses import Networks, is_permitted

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]

# Number of addresses of a host that are tried.
MAX_ADDRESSES_TRIED = 4


class ForbiddenAddress(Exception):
    """An address of the host is not permitted. The message omits it: it would help to map the network."""


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


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Network backend of httpcore that connects to permitted addresses only. TLS still verifies the host name."""

    def __init__(self, allowed: Networks, resolve: Resolve = resolve) -> None:
        self._allowed = allowed
        self._resolve = resolve
        self._inner = httpcore.AnyIOBackend()
        self._opened: list[httpcore.AsyncNetworkStream] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises ForbiddenAddress if any address of the host is not permitted: mixed addresses suggest an attack."""
        addresses = await self._resolve(host, port)
        if not all(is_permitted(address, self._allowed) for address in addresses):
            raise ForbiddenAddress
        for address in addresses[:MAX_ADDRESSES_TRIED]:
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                stream = await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
                self._opened.append(stream)
                return stream
        raise httpcore.ConnectError

    async def aclose(self) -> None:
        """Close all connections: httpcore does not close a connection if its TLS handshake is cancelled."""
        for stream in self._opened:
            await stream.aclose()
