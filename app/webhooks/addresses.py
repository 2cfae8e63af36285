"""Which addresses webhooks may reach: public ones, and those of WEBHOOK_ALLOWED_NETWORKS. Pure.

Everything else is inside: loopback, private networks, link-local with the clouds' metadata services, CGNAT, multicast.
An IPv6 address that stands for an IPv4 one (mapped, NAT64, 6to4) is judged by what it stands for.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Networks = Sequence[IPv4Network | IPv6Network]

_NAT64 = IPv6Network("64:ff9b::/96")
# All that is handed out to the public so far; what lies outside is special, now or some day.
_IPV6_PUBLIC = IPv6Network("2000::/3")
# Public by their numbers only, or not known as special to every Python that we run on.
_NOT_PUBLIC = tuple(
    ip_network(network)
    for network in (
        "168.63.129.16/32",  # Azure's own platform, from inside a virtual machine
        "192.0.0.0/24",  # IETF protocol assignments; Oracle Cloud's agents
        "192.88.99.0/24",  # 6to4 relays, given up
        "2001::/23",  # IETF protocol assignments, Teredo among them
        "3fff::/20",  # documentation
    )
)


def is_permitted(address: str, allowed: Networks = ()) -> bool:
    """Whether webhooks may connect to the address. What is no address is not permitted."""
    try:
        return _is_permitted(ip_address(address), allowed)
    except ValueError:
        return False


def _is_permitted(address: Address, allowed: Networks) -> bool:
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped  # the very same host: the system connects over IPv4
    if any(address in network for network in allowed):
        return True
    if isinstance(address, IPv6Address) and (translated := _translated(address)):
        return _is_permitted(translated, allowed)
    return _is_public(address)


def _translated(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address to which a gateway on the way would translate."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.sixtofour


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _IPV6_PUBLIC:
        return False
    if any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)
