"""The HTTP protocol: upgrade offers are ignored, and invalid or oversized requests get a problem document."""

import asyncio
import itertools
import json
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from starlette.types import Receive, Scope, Send

from app.server.http_protocol import MAX_HEAD_BYTES
from tests.live_server import echo, exchange, live_server

OFFER = b"Host: gateway\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"
SIZED = b"POST /sized HTTP/1.1\r\n" + OFFER + b"Content-Length: 5\r\n\r\nhello"
CHUNKED = b"POST /chunked HTTP/1.1\r\n" + OFFER + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
BARE = b"GET /bare HTTP/1.1\r\n" + OFFER + b"\r\n"
PLAIN = b"POST /plain HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\nContent-Length: 3\r\n\r\nend"
REQUESTS = SIZED + CHUNKED + BARE + SIZED + PLAIN
RESPONSES = ["POST /sized hello", "POST /chunked abcde", "GET /bare ", "POST /sized hello", "POST /plain end"]


async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(0.2)
    await echo(scope, receive, send)


async def test_a_400_is_not_sent_while_an_earlier_response_is_pending() -> None:
    async with live_server(slow) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
        writer.write(SIZED + b"GET /without-a-host HTTP/1.1\r\n\r\n")
        received = await reader.read()
        writer.close()
    assert b"HTTP/1.1 400" not in received


async def large(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for piece in (b"a" * 10, b"b" * 100_000, b"c" * 10, b""):
        await send({"type": "http.response.body", "body": piece, "more_body": bool(piece)})


async def test_head_and_body_of_a_response_are_one_packet() -> None:
    async with live_server(echo) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
        for _ in range(20):
            writer.write(SIZED)
            received = await reader.read(10_000)
            assert received.startswith(b"HTTP/1.1 200 OK")
            assert received.endswith(b"<POST /sized hello>")
        writer.close()


async def test_large_and_small_pieces_keep_their_order() -> None:
    async with live_server(large) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
        writer.write(b"GET / HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")
        received = (await reader.read()).partition(b"\r\n\r\n")[2]
        writer.close()
    assert received == b"a\r\n%b\r\n186a0\r\n%b\r\na\r\n%b\r\n0\r\n\r\n" % (b"a" * 10, b"b" * 100_000, b"c" * 10)


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
async def test_an_upgrade_offer_is_ignored_and_the_body_is_read(size: int) -> None:
    async with live_server(echo) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
        for start in range(0, len(REQUESTS), size):
            writer.write(REQUESTS[start : start + size])
            await writer.drain()
            await asyncio.sleep(0)  # so that small pieces arrive as such
        received = (await reader.read()).decode()
        writer.close()
    assert [part.partition(">")[0] for part in received.split("<")[1:]] == RESPONSES
    assert received.count("HTTP/1.1 200 OK") == len(RESPONSES)


async def test_an_invalid_body_after_an_upgrade_offer_is_a_400() -> None:
    async with live_server(echo) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
        writer.write(b"POST / HTTP/1.1\r\n" + OFFER + b"Transfer-Encoding: chunked\r\n\r\nnot a length\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: gateway\r\n\r\n",
        b"GET / HTTP/0.9\r\nHost: gateway\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01",
    ],
)
async def test_invalid_http_is_a_400_problem(sent: bytes) -> None:
    async with live_server(echo) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
        writer.write(sent)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    assert head.startswith(b"HTTP/1.1 400 ")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    assert headers["content-type"] == "application/problem+json"
    assert (headers["x-content-type-options"], headers["connection"]) == ("nosniff", "close")
    assert int(headers["content-length"]) == len(body)
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (400, "malformed_request")
    assert problem["request_id"] == headers["x-request-id"]


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("GET /v1/search?q=a b HTTP/1.1", "Percent-encode blanks in the URL as %20."),
        ("GET / HTTP/1.1\r\nX Y: 1", "is not HTTP/1.1: invalid header token."),
        ("POST / HTTP/1.1\r\nContent-Length: -1", "is not HTTP/1.1: invalid character in Content-Length."),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1",
            "Content-Length can't be present with Transfer-Encoding.",
        ),
        ("\x16\x03\x01", "is not HTTP/1.1: invalid method encountered."),
    ],
)
async def test_the_400_of_invalid_http_names_what_is_wrong(head: str, reason: str) -> None:
    async with live_server(echo) as url:
        received = await asyncio.to_thread(exchange, f"{head}\r\nHost: gateway\r\n\r\n".encode(), urlsplit(url).port)
    assert json.loads(received.partition(b"\r\n\r\n")[2])["detail"].endswith(reason)


@pytest.mark.parametrize("target", ["/v1/search?q=你好", "/录音", "/\x00"])
async def test_a_url_beyond_ascii_is_a_400_with_advice(target: str) -> None:
    async with live_server(echo) as url:
        sent = f"GET {target} HTTP/1.1\r\nHost: gateway\r\n\r\n".encode()
        head, _, body = (await asyncio.to_thread(exchange, sent, urlsplit(url).port)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["code"] == "malformed_request"
    assert "Percent-encode" in json.loads(body)["detail"]


@pytest.mark.parametrize(
    ("version", "hosts", "status"),
    [("1.1", 0, 400), ("1.1", 1, 200), ("1.1", 2, 400), ("1.0", 0, 200), ("1.0", 1, 200), ("1.0", 2, 400)],
)
async def test_a_request_needs_exactly_one_host(version: str, hosts: int, status: int) -> None:
    lines = [f"GET / HTTP/{version}", *["HOST: gateway"] * hosts, "Connection: close", "", ""]
    async with live_server(echo) as url:
        received = await asyncio.to_thread(exchange, "\r\n".join(lines).encode(), urlsplit(url).port)
    assert received.startswith(f"HTTP/1.1 {status} ".encode())
    assert (b"malformed_request" in received) == (status == 400)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("gateway", 200),
        ("gateway:8000", 200),
        ("my_gateway.example.", 200),
        ("[::1]:8000", 200),
        ("", 200),
        ("a b/../c", 400),
        ("a/b", 400),
        ("user@gateway", 400),
        ("a, b", 400),
        ("gateway:80a", 400),
        ("[::1", 400),
        ("gateway\x80", 400),
    ],
)
async def test_host_must_be_a_name_or_an_address(host: str, status: int) -> None:
    sent = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode("latin-1")
    async with live_server(echo) as url:
        received = await asyncio.to_thread(exchange, sent, urlsplit(url).port)
    assert received.startswith(f"HTTP/1.1 {status} ".encode())


@pytest.mark.parametrize(
    ("version", "framing", "status"),
    [
        ("1.1", "Transfer-Encoding: chunked", 200),
        ("1.1", "Transfer-Encoding: Chunked", 200),
        ("1.1", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", 400),
        ("1.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
        ("1.1", "Transfer-Encoding: gzip, chunked", 400),
        ("1.1", "Transfer-Encoding: identity", 400),
        ("1.1", "Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
        ("1.1", "Content-Length: 5\r\nContent-Length: 5", 400),
        ("1.0", "Transfer-Encoding: chunked", 400),
    ],
)
async def test_only_unambiguous_body_framing_is_accepted(version: str, framing: str, status: int) -> None:
    head = f"POST / HTTP/{version}\r\nHost: gateway\r\nConnection: close\r\n{framing}\r\n\r\n"
    async with live_server(echo) as url:
        received = await asyncio.to_thread(exchange, head.encode() + b"5\r\nhello\r\n0\r\n\r\n", urlsplit(url).port)
    assert received.startswith(f"HTTP/1.1 {status} ".encode())


async def show_headers(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    names = b",".join(name for name, _ in scope["headers"])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(names))]})
    await send({"type": "http.response.body", "body": names})


@pytest.mark.parametrize("offer", [b"", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"], ids=["plain", "with an offer"])
async def test_trailers_do_not_become_headers(offer: bytes) -> None:
    head = b"POST / HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n" + offer
    trailers = b"Authorization: Bearer secret\r\nX-Request-ID: made-up\r\n"
    last = b"GET / HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n"
    async with live_server(show_headers) as url:
        sent = head + b"\r\n1\r\na\r\n0\r\n" + trailers + b"\r\n" + last
        received = await asyncio.to_thread(exchange, sent, urlsplit(url).port)
    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert b"authorization" not in received
    assert b"x-request-id" not in received


@pytest.mark.parametrize("trailer", ["Connection: close", "Upgrade: h2c", "Content-Length: 5", "Transfer-Encoding: x"])
async def test_framing_headers_in_trailers_are_a_400(trailer: str) -> None:
    sent = CHUNKS + b"1\r\na\r\n0\r\n" + trailer.encode() + b"\r\n\r\n"
    async with live_server(echo) as url:
        received = await asyncio.to_thread(exchange, sent, urlsplit(url).port)
    assert received.startswith(b"HTTP/1.1 400 ")


TOO_MUCH = b"a" * MAX_HEAD_BYTES
LONG = b"X-Long: " + TOO_MUCH + b"\r\n"
CHUNKS = b"POST / HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: gateway\r\n" + LONG + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: gateway\r\n" + b"X-Many: a\r\n" * (MAX_HEAD_BYTES // 7) + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: gateway\r\nX-Endless: " + 10 * TOO_MUCH,
        CHUNKS + b"0\r\n" + LONG + b"\r\n",
        CHUNKS + b"0\r\nX-Endless: " + 10 * TOO_MUCH,
        CHUNKS + b"0\r\n" + b"X-Many: a\r\n" * (MAX_HEAD_BYTES // 7) + b"\r\n",
        CHUNKS + b"1;" + 10 * TOO_MUCH,
    ],
    ids=[
        "one long header",
        "many headers",
        "a header that does not end",
        "a long trailer",
        "a trailer that does not end",
        "many trailers",
        "an extension of a chunk that does not end",
    ],
)
async def test_a_head_over_the_limit_is_a_431(sent: bytes) -> None:
    async with live_server(echo) as url:
        head, _, body = (await asyncio.to_thread(exchange, sent, urlsplit(url).port)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (431, "head_too_large")


async def test_the_limit_applies_to_each_head_and_not_to_bodies() -> None:
    almost = b"X-Pad: " + TOO_MUCH[:-100] + b"\r\nContent-Length: 100000\r\n"
    long = b"POST /long HTTP/1.1\r\nHost: gateway\r\n" + almost + b"\r\n" + b"b" * 100_000
    last = b"GET /last HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n"
    async with live_server(echo) as url:
        received = await asyncio.to_thread(exchange, long + long + last, urlsplit(url).port)
    assert received.count(b"HTTP/1.1 200 OK") == 3
    assert received.endswith(b"<GET /last >")


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: gate"], ids=["silent", "half a head"])
async def test_a_connection_without_a_complete_head_is_closed(sent: bytes) -> None:
    async with live_server(echo, keep_alive_s=1) as url:
        assert await asyncio.to_thread(exchange, sent, urlsplit(url).port) == b""


async def test_a_slow_head_has_the_same_deadline_as_a_stalled_one() -> None:
    async with live_server(echo, keep_alive_s=1) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
        writer.write(b"GET /")
        dripping = asyncio.create_task(drip(writer))
        with suppress(ConnectionResetError):  # the server resets a connection that gets bytes after its end
            assert await reader.read() == b""
        dripping.cancel()
        writer.close()


async def test_a_response_may_take_longer_than_the_deadline_of_a_head() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(1.5)
        await echo(scope, receive, send)

    async with live_server(slow, keep_alive_s=1) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
        for piece in (b"GET /slow HTTP/1.1\r\n", b"Host: gateway\r\nConnection: close\r\n\r\n"):
            writer.write(piece)
            await writer.drain()
        assert (await reader.read()).endswith(b"<GET /slow >")
        writer.close()


async def drip(writer: asyncio.StreamWriter) -> None:
    for letter in itertools.repeat(b"a"):
        writer.write(letter)
        await asyncio.sleep(0.05)
