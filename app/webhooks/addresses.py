"""Decides which addresses and ports webhooks may reach: public addresses and WEBHOOK_ALLOWED_NETWORKS. Pure.

Not public are loopback, private networks, link-local addresses (which include the metadata services of clouds), CGNAT
and multicast. For an IPv6 address that contains an IPv4 address (mapped, NAT64, 6to4), the IPv4 address decides.
"""

import socket
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Networks = Sequence[IPv4Network | IPv6Network]

# Ports below 1024 belong to services such as SMTP and SSH, which must not get the bytes of a client.
_WEB_PORTS = {80, 443}
_FIRST_FREE_PORT = 1024
_NAT64 = IPv6Network("64:ff9b::/96")
# The only block from which public IPv6 addresses are allocated.
_IPV6_PUBLIC = IPv6Network("2000::/3")
# Special networks that `ipaddress` treats as public, in some or all supported Python versions.
_NOT_PUBLIC = tuple(
    ip_network(network)
    for network in (
        "168.63.129.16/32",  # Azure's platform services, reachable from virtual machines
        "192.0.0.0/24",  # IETF protocol assignments; Oracle Cloud's agents
        "192.88.99.0/24",  # 6to4 relays, deprecated
        "2001::/23",  # IETF protocol assignments, including Teredo
        "3fff::/20",  # documentation
    )
)


def is_permitted_port(port: int) -> bool:
    """True if webhooks may connect to the port, on any permitted address."""
    return port in _WEB_PORTS or port >= _FIRST_FREE_PORT


def literal_address(host: str) -> str | None:
    """The address that the host of a URL is, in any form that the resolver accepts; None for a name.

    Resolvers also accept `127.1`, `0x7f000001` and `2130706433` for 127.0.0.1.
    """
    with suppress(ValueError):
        return str(ip_address(host))
    with suppress(OSError):
        return socket.inet_ntoa(socket.inet_aton(host))
    return None


def is_permitted(address: str, allowed: Networks = ()) -> bool:
    """True if webhooks may connect to the address. False for a string that is not an address."""
    try:
        return _is_permitted(ip_address(address), allowed)
    except ValueError:
        return False


def _is_permitted(address: Address, allowed: Networks) -> bool:
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped  # the operating system connects to the IPv4 address
    if any(address in network for network in allowed):
        return True
    if isinstance(address, IPv6Address) and (translated := _embedded_ipv4(address)):
        return _is_permitted(translated, allowed)
    return _is_public(address)


def _embedded_ipv4(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address to which a NAT64 or 6to4 gateway translates the address, or None."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.sixtofour


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _IPV6_PUBLIC:
        return False
    if any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)
