"""Addresses that webhooks may and may not reach."""

from ipaddress import ip_network

import pytest

from app.webhooks.addresses import is_permitted


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",  # noqa: S104 - on Linux this is the host itself
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",  # metadata of most clouds
        "100.100.100.200",  # metadata of Alibaba Cloud, within CGNAT
        "168.63.129.16",  # Azure's platform
        "192.0.0.192",  # Oracle Cloud's metadata
        "198.18.0.1",
        "203.0.113.7",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "fc00::1",
        "fd00:ec2::254",  # metadata of AWS
        "ff02::1",
        "100::1",
        "2001::1",  # Teredo
        "2001:db8::1",
        "3fff::1",
        "5f00::1",
        "64:ff9b:1::7f00:1",
    ],
)
def test_address_that_is_not_public_is_refused(address: str) -> None:
    assert not is_permitted(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"])  # noqa: S104
def test_embedded_ipv4_address_decides(address: str) -> None:
    assert not is_permitted(f"::ffff:{address}")
    assert not is_permitted(f"64:ff9b::{address}")
    first, second, third, fourth = (int(part) for part in address.split("."))
    assert not is_permitted(f"2002:{first:02x}{second:02x}:{third:02x}{fourth:02x}::1")


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "47.95.1.1",
        "2400:3200::1",
        "2606:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
    ],
)
def test_public_address_is_permitted(address: str) -> None:
    assert is_permitted(address)


def test_allowed_networks_permit_their_addresses_only() -> None:
    allowed = (ip_network("127.0.0.1/32"), ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert is_permitted("127.0.0.1", allowed)
    assert is_permitted("::ffff:127.0.0.1", allowed)
    assert is_permitted("10.9.8.7", allowed)
    assert is_permitted("fd12::1", allowed)
    assert not is_permitted("127.0.0.2", allowed)
    assert not is_permitted("::1", allowed)
    assert not is_permitted("192.168.0.1", allowed)


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "0x7f000001", "2130706433", "1.2.3.4.5"])
def test_text_that_is_not_an_address_is_refused(text: str) -> None:
    assert not is_permitted(text, (ip_network("0.0.0.0/0"), ip_network("::/0")))
