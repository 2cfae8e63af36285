"""A pause after wrong admin tokens, for each address.

Client tokens have no pause: they are 256 random bits, and an address may be a proxy with many clients behind it.
"""

from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv6Network, ip_address
from time import monotonic

from cachetools import TTLCache

from app.errors import TooManyWrongTokens

MAX_WRONG = 10
PAUSE_S = 60
# Bounds memory: addresses beyond this displace the oldest.
MAX_ADDRESSES = 10_000
# One host can have any address of its network.
_IPV6_PREFIX = 64


class WrongTokens:
    """Counts the wrong tokens of an address until a minute has passed without one. One per process."""

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        self._counts: TTLCache[str, int] = TTLCache(MAX_ADDRESSES, PAUSE_S, timer=clock)

    def check(self, address: str) -> None:
        """Raises TooManyWrongTokens during the pause, which begins with the tenth wrong token and lasts a minute."""
        if self._counts.get(_origin(address), 0) >= MAX_WRONG:
            raise TooManyWrongTokens(
                f"{MAX_WRONG} wrong admin tokens came from this address; try again in {PAUSE_S} seconds."
            )

    def count(self, address: str) -> None:
        origin = _origin(address)
        self._counts[origin] = self._counts.get(origin, 0) + 1


def _origin(address: str) -> str:
    """The address, or the network of an IPv6 address."""
    with suppress(ValueError):
        if ip_address(address).version == 6:
            return str(IPv6Network((address.partition("%")[0], _IPV6_PREFIX), strict=False))
    return address
