"""Attempts against real servers: requests, forbidden addresses and errors."""

import asyncio
import base64
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import ip_network

import pytest

from app.webhooks import guarded_connection
from app.webhooks.guarded_connection import MAX_PER_ADDRESS, Resolve
from app.webhooks.outbox import Attempt
from app.webhooks.sender import MAX_EXCERPT_BYTES, MAX_READ_BYTES, Sender
from tests.webhooks.receiver import OK, receiver, status

ALLOWED = (ip_network("127.0.0.1/32"),)
HEADERS = {"webhook-id": "an-id"}


def resolver(*results: Sequence[str]) -> Resolve:
    """A resolver that returns the next of `results` at each call."""
    remaining = list(results)

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return remaining.pop(0)

    return resolve


async def send(url: str, *, timeout_s: float = 15.0, resolve: Resolve = guarded_connection.resolve) -> Attempt:
    return await Sender(ALLOWED, timeout_s=timeout_s, resolve=resolve).send(url, '{"a":1}', HEADERS)


async def test_body_and_headers_are_sent_unchanged() -> None:
    async with receiver() as server:
        attempt = await send(server.url("/a%2Fb;c?d=%E4&e"))
        got = await server.got()
    assert (attempt.succeeded, attempt.response_status, attempt.error_code) == (True, 204, None)
    assert got.line == "POST /a%2Fb;c?d=%E4&e HTTP/1.1"
    assert got.body == '{"a":1}'
    assert got.headers["host"] == f"127.0.0.1:{server.port}"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["webhook-id"] == "an-id"
    assert not {"cookie", "authorization", "transfer-encoding"} & got.headers.keys()


@pytest.mark.parametrize(("interim", "error"), [(3, None), (20_000, "bad_answer")])
async def test_few_interim_responses_are_read(interim: int, error: str | None) -> None:
    """A server that sends them without an end would keep the process busy."""
    async with receiver("127.0.0.1", b"HTTP/1.1 103 Early Hints\r\n\r\n" * interim + OK) as server:
        attempt = await send(server.url(), timeout_s=60)
    assert (attempt.error_code, attempt.response_status) == (error, None if error else 204)


async def test_user_in_the_url_is_sent_as_basic_authentication() -> None:
    async with receiver() as server:
        await send(f"http://me%40home:s%3Acret@127.0.0.1:{server.port}/")
        got = await server.got()
    assert base64.b64decode(got.headers["authorization"].removeprefix("Basic ")) == b"me@home:s:cret"
    assert got.headers["host"] == f"127.0.0.1:{server.port}"


@pytest.mark.allow_hosts(["127.0.0.1", "127.0.0.2"])
async def test_only_a_server_in_an_allowed_network_is_reached() -> None:
    async with receiver("127.0.0.1") as allowed, receiver("127.0.0.2") as forbidden:
        assert (await send(allowed.url())).succeeded
        attempt = await send(forbidden.url())
        assert (attempt.error_code, attempt.response_status) == ("forbidden_address", None)
        assert (allowed.connections, forbidden.connections) == (1, 0)
        # With the network allowed the server is reachable, so the guard prevented the connection.
        opened = Sender((ip_network("127.0.0.0/8"),))
        assert (await opened.send(forbidden.url(), "{}", HEADERS)).succeeded
        assert forbidden.connections == 1


@pytest.mark.allow_hosts(["127.0.0.1", "127.0.0.2"])
@pytest.mark.parametrize(
    "spelling",
    ["127.0.0.2", "127.2", "2130706434", "0x7f000002", "0177.0.0.2", "[::ffff:127.0.0.2]", "[::ffff:7f00:2]"],
)
async def test_every_spelling_of_a_forbidden_address_is_refused(spelling: str) -> None:
    async with receiver("127.0.0.2") as forbidden:
        attempt = await send(forbidden.url(host=spelling))
        assert attempt.error_code == "forbidden_address"
        assert forbidden.connections == 0


@pytest.mark.allow_hosts(["127.0.0.1", "::ffff:127.0.0.1", "::ffff:7f00:1"])
async def test_ipv4_mapped_address_of_an_allowed_network_is_reached() -> None:
    async with receiver() as server:
        assert (await send(server.url(host="[::ffff:127.0.0.1]"))).succeeded


@pytest.mark.allow_hosts(["127.0.0.1", "127.0.0.2"])
async def test_connection_uses_the_address_that_was_checked() -> None:
    async with receiver("127.0.0.1") as allowed, receiver("127.0.0.2") as forbidden:
        sender = Sender(ALLOWED, resolve=resolver(["127.0.0.1"], ["127.0.0.2"]))
        first = await sender.send(allowed.url(host="rebind.test"), "{}", HEADERS)
        second = await sender.send(forbidden.url(host="rebind.test"), "{}", HEADERS)
        # One lookup per attempt: the name cannot change between the check and the connection.
        assert (first.succeeded, second.error_code) == (True, "forbidden_address")
        assert (await allowed.got()).headers["host"] == f"rebind.test:{allowed.port}"
        assert (allowed.connections, forbidden.connections) == (1, 0)


async def test_host_with_one_forbidden_address_is_refused() -> None:
    async with receiver() as server:
        mixed = resolver(["127.0.0.1", "10.0.0.1"])
        assert (await send(server.url(host="mixed.test"), resolve=mixed)).error_code == "forbidden_address"
        assert server.connections == 0


async def test_next_address_is_tried_if_one_refuses_the_connection() -> None:
    async with receiver() as server:
        sender = Sender((ip_network("127.0.0.1/32"), ip_network("::1/128")), resolve=resolver(["::1", "127.0.0.1"]))
        assert (await sender.send(server.url(host="two.test"), "{}", HEADERS)).succeeded


@contextmanager
def silent_address(address: str, port: int) -> Iterator[None]:
    """An address that answers no connection attempt: its queue of connections is full."""
    with socket.socket() as server, ExitStack() as stack:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        server.listen(0)
        for _ in range(2):
            queued = stack.enter_context(socket.socket())
            queued.setblocking(False)
            queued.connect_ex((address, port))
        yield


@pytest.mark.allow_hosts([f"127.0.0.{number}" for number in range(1, 6)])
async def test_a_live_address_is_reached_behind_silent_ones() -> None:
    silent = [f"127.0.0.{number}" for number in range(2, 6)]
    async with receiver() as server:
        with ExitStack() as stack:
            for address in silent:
                stack.enter_context(silent_address(address, server.port))
            sender = Sender((ip_network("127.0.0.0/8"),), resolve=resolver([*silent, "127.0.0.1"]), timeout_s=4)
            assert (await sender.send(server.url(host="many.test"), "{}", HEADERS)).succeeded
        assert server.connections == 1


@pytest.mark.allow_hosts(["127.0.0.1", "127.0.0.2", "::1"])
async def test_the_error_has_the_number_of_addresses_that_were_tried() -> None:
    allowed = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    with socket.socket() as unused:
        unused.bind(("0.0.0.0", 0))  # noqa: S104 - refuses connections, because it does not listen
        port = unused.getsockname()[1]
        sender = Sender(allowed, resolve=resolver(["127.0.0.1", "127.0.0.2", "::1"], ["127.0.0.1"]))
        several = await sender.send(f"http://three.test:{port}/", "{}", HEADERS)
        one = await sender.send(f"http://one.test:{port}/", "{}", HEADERS)
    assert (several.error_code, one.error_code) == ("connection_failed", "connection_failed")
    assert several.error_message == "No connection could be opened: 3 addresses of the host were tried."
    assert one.error_message == "No connection could be opened: 1 address of the host was tried."


async def test_families_are_tried_in_turn() -> None:
    asked: list[str] = []

    async def connect(address: str) -> None:
        """Fails."""
        asked.append(address)

    addresses = ["2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1"]
    ordered = guarded_connection.families_in_turn(addresses)
    assert await guarded_connection.connect_first(connect, ordered) is None
    assert asked == ["2001:db8::1", "192.0.2.1", "2001:db8::2", "2001:db8::3"]


@pytest.mark.parametrize("port", [1, 22, 25, 79, 81, 442, 444, 1023])
async def test_ports_of_other_services_are_forbidden(port: int) -> None:
    attempt = await send(f"http://127.0.0.1:{port}/")
    assert (attempt.error_code, attempt.forbidden) == ("forbidden_port", True)


@pytest.mark.allow_hosts(["127.0.0.1", "::ffff:127.0.0.1", "::ffff:7f00:1"])
async def test_connections_to_one_address_are_limited_over_all_ports() -> None:
    async with receiver("127.0.0.1", None) as slow, receiver() as other:
        sender = Sender(ALLOWED, resolve=resolver(*[["127.0.0.1"], ["::ffff:127.0.0.1"]] * MAX_PER_ADDRESS))
        held = [
            asyncio.create_task(sender.send(slow.url(host=f"host-{number}.test"), "{}", HEADERS))
            for number in range(MAX_PER_ADDRESS)
        ]
        await slow.got(MAX_PER_ADDRESS)
        refused = await sender.send(other.url(host="one-more.test"), "{}", HEADERS)
        assert (refused.error_code, refused.postponed) == ("busy_address", True)
        assert other.connections == 0
        slow.release.set()
        assert all(attempt.succeeded for attempt in await asyncio.gather(*held))
        assert (await sender.send(other.url(host="one-more.test"), "{}", HEADERS)).succeeded


async def test_redirects_are_not_followed() -> None:
    async with receiver() as target, receiver("127.0.0.1", status(307, Location=target.url())) as server:
        attempt = await send(server.url())
        assert (attempt.error_code, attempt.response_status) == ("redirected", 307)
        assert target.connections == 0


@pytest.mark.parametrize(
    ("response", "code", "retry_after_s"),
    [
        (status(200), None, None),
        (status(299), None, None),
        (status(410), "gone", None),
        (status(404), "http_error", None),
        (status(500, Retry_After="30"), "http_error", None),
        (status(503, Retry_After="30"), "http_error", 30),
        (status(429, Retry_After="7"), "http_error", 7),
        (status(429), "http_error", None),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "bad_answer", None),
        (b"", "bad_answer", None),
    ],
)
async def test_status_decides_the_result(response: bytes, code: str | None, retry_after_s: float | None) -> None:
    async with receiver("127.0.0.1", response) as server:
        attempt = await send(server.url())
    assert (attempt.error_code, attempt.retry_after_s) == (code, retry_after_s)


async def test_response_is_read_and_stored_within_limits() -> None:
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"\0\xffx" * MAX_READ_BYTES
    async with receiver("127.0.0.1", endless) as server:
        attempt = await send(server.url())
    assert attempt.succeeded
    assert attempt.response_excerpt is not None
    assert len(attempt.response_excerpt) <= MAX_EXCERPT_BYTES
    assert "\0" not in attempt.response_excerpt


async def test_slow_server_gives_a_timeout() -> None:
    async with receiver("127.0.0.1", None) as server:
        attempt = await send(server.url(), timeout_s=0.2)
    assert (attempt.error_code, attempt.response_status) == ("timeout", None)
    assert attempt.duration_ms < 5000


async def test_status_counts_even_if_the_body_is_incomplete() -> None:
    async with receiver("127.0.0.1", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc") as server:
        assert (await send(server.url())).succeeded


async def test_connection_errors_have_different_codes() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert (await send(f"http://127.0.0.1:{unused.getsockname()[1]}/")).error_code == "connection_failed"
    assert (await send("http://no-such-host.invalid/")).error_code == "unknown_host"
    assert (await send("http://a..b/")).error_code == "unknown_host"
    assert (await send("http://[x]@host/")).error_code == "bad_url"


async def test_slow_name_resolution_gives_a_timeout() -> None:
    async def stall(_host: str, _port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    assert (await send("http://slow.test/", timeout_s=0.1, resolve=stall)).error_code == "timeout"


async def test_tls_uses_the_name_of_the_host() -> None:
    hello = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello.set_result(await reader.read(4096))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    attempt = await send(f"https://hooks.test:{port}/", resolve=resolver(["127.0.0.1"]))
    server.close()
    assert b"hooks.test" in await hello
    assert attempt.error_code in {"tls_failed", "connection_failed"}


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiver() as server, receiver() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url(""))
        assert (await send(server.url())).succeeded
        assert proxy.connections == 0
