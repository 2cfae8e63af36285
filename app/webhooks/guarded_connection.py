"""The guard in the connection itself: names are resolved here, each address is checked, and a checked one is used.

Checking a URL beforehand is not enough: the name may resolve to something else by the time of the connection (DNS
rebinding), and addresses have many spellings (`127.1`, `0x7f000001`, `[::ffff:127.0.0.1]`). All of them end here.
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

# Hosts with more addresses than this are reached at the first ones or not at all.
MAX_ADDRESSES_TRIED = 4


class ForbiddenAddress(Exception):
    """The host is, or might be, inside. Which address it has is not told: that would map the network."""


class UnknownHost(Exception):
    """The name has no address, or its name servers do not answer."""


async def resolve(host: str, port: int) -> Sequence[str]:
    """All addresses of a host, in the system's order. Raises UnknownHost.

    Each look-up has a thread of its own: name servers that stall hold up neither other look-ups nor the process' exit.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[Sequence[str]] = loop.create_future()

    def settle(addresses: Sequence[str] | None) -> None:
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
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, addresses)

    threading.Thread(target=look_up, name="webhook-resolve", daemon=True).start()
    return await found


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Opens connections for httpcore, to permitted addresses only. TLS still asks for the name's certificate."""

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
        """Raises ForbiddenAddress when any address of the host is: one that is mixed up with those is no mistake."""
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
        """Close what is open still: httpcore forgets a connection whose TLS handshake was cancelled."""
        for stream in self._opened:
            await stream.aclose()
