"""Results are fetched byte for byte, from DashScope's hosts only, and without secrets."""

import gzip
import zlib
from collections.abc import AsyncIterator

import aiohttp
import pytest

from app.dashscope.result_files import FetchFailed, FetchFailureKind, fetch_result, is_dashscope_host, results_client
from tests.dashscope.hostile import (
    HostileServer,
    Script,
    drip,
    drop,
    flood,
    hostile_server,
    raw,
    reset,
    response,
    silence,
    zipped,
)
from tests.dashscope.samples import FOLDER, sample

DOCUMENT = sample("result_funasr_female2_seed")
BASE = "http://127.0.0.1:1/api/v1"


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with results_client() as http:
        yield http


TARGETS = [
    (
        "/prod/paraformer-v2/20250213/17%3A31/20ee-1.json?Expires=1739525481&OSSAccessKeyId=LTAI&Signature=a%2Bb%2Fc%3D",
        None,
    ),
    ("/a%3a%3A%2b%2B%3d%3D%2f%2F%7E~?x=%3a%2b%3d%7e+", None),
    ("/a?response-content-disposition=attachment%3Bfilename%3D7a3a.json&x", None),
    ("/a//b/./c/../d;p=1,2/e@f:g!$&'()*+=?q=/?:@!$&'()*+,;=[]", None),
    ("/%zz%/100%?50%", None),
    ("/a b.json?q=c d", "/a%20b.json?q=c%20d"),
    ("/你好.json?q=é", "/%E4%BD%A0%E5%A5%BD.json?q=%C3%A9"),
    ('/a"<>^`{|}?"<>^`{|}', "/a%22%3C%3E%5E%60%7B%7C%7D?%22%3C%3E%5E%60%7B%7C%7D"),
    ("/a?x=1#fragment?no#more", "/a?x=1"),
    ("/a?", "/a"),
    ("", "/"),
    ("?x=1", "/?x=1"),
    ("#only", "/"),
]


@pytest.mark.parametrize(("target", "sent"), TARGETS)
async def test_url_is_sent_byte_for_byte(
    http: aiohttp.ClientSession, server: HostileServer, target: str, sent: str | None
) -> None:
    server.play(response(200, DOCUMENT))

    assert await fetch_result(http, server.origin + target, base_url=BASE) == DOCUMENT

    assert server.last.line == f"GET {target if sent is None else sent} HTTP/1.1"
    assert server.last.header("Host") == [server.origin.removeprefix("http://")]


async def test_request_has_no_secrets(http: aiohttp.ClientSession, server: HostileServer) -> None:
    server.play(response(200, DOCUMENT, "Set-Cookie: session=1; Path=/"))

    for _ in range(2):
        await fetch_result(http, f"{server.origin}/a", base_url=BASE)

    assert {name.lower() for name, _ in server.last.headers} == {
        "host",
        "accept",
        "accept-encoding",
        "user-agent",
    }
    assert server.last.header("Accept-Encoding") == ["identity"]


OWN = "https://gateway.example.com:8443/api/v1"

ALLOWED = [
    "https://dashscope-result-bj.oss-cn-beijing.aliyuncs.com/prod/a?Expires=1",
    "http://dashscope-result-bj.oss-cn-beijing.aliyuncs.com/pre/a",
    "https://x.oss-cn-beijing.aliyuncs.com",
    "https://x.oss-cn-beijing.aliyuncs.com:443/a",
    "https://X.OSS-CN-BEIJING.ALIYUNCS.COM/a",
    "HTTPS://x.aliyuncs.com/a".replace("HTTPS", "https"),
    "https://x.aliyuncs.com?a=user@evil.org",
    "https://x.aliyuncs.com/a\\b",
    "https://x.aliyuncs.com#@evil.org/",
    "https://gateway.example.com/a",
    "http://gateway.example.com:9100/a",
    "https://GATEWAY.example.com/a",
]

FORBIDDEN = [
    "",
    "/a",
    "//x.aliyuncs.com/a",
    "x.aliyuncs.com/a",
    "https:///a",
    "https://",
    "ftp://x.aliyuncs.com/a",
    "file:///etc/passwd",
    "gopher://x.aliyuncs.com/",
    "javascript:alert(1)//.aliyuncs.com",
    "https://aliyuncs.com/a",
    "https://.aliyuncs.com/a",
    "https://a..aliyuncs.com/a",
    f"https://{'a' * 64}.aliyuncs.com/a",
    "https://evilaliyuncs.com/a",
    "https://aliyuncs.com.evil.org/a",
    "https://x.aliyuncs.com.evil.org/a",
    "https://x.aliyuncs.com./a",
    "https://evil.org/x.aliyuncs.com",
    "https://evil.org?.aliyuncs.com",
    "https://evil.org#.aliyuncs.com",
    "https://evil.org\\.aliyuncs.com/a",
    "https://evil.org\\@x.aliyuncs.com/a",
    "https://user@x.aliyuncs.com/a",
    "https://user:password@x.aliyuncs.com/a",
    "https://@x.aliyuncs.com/a",
    "http://127.0.0.1@aliyuncs.com/a",
    "http://x.aliyuncs.com@127.0.0.1/a",
    "http://x.aliyuncs.com:80@127.0.0.1/a",
    "http://127.0.0.1/a",
    "http://[::1]/a",
    "http://[::ffff:127.0.0.1]/a",
    "http://[::1].aliyuncs.com/a",
    "http://[x.aliyuncs.com]/a",
    "http://2130706433/a",
    "http://0x7f.1/a",
    "http://evil.org%2f.aliyuncs.com/a",
    "http://evil.org%00.aliyuncs.com/a",
    "http://evil.org\x00.aliyuncs.com/a",
    "http://evil.org\n.aliyuncs.com/a",
    "http://evil.org\t.aliyuncs.com/a",
    "http://evil.org .aliyuncs.com/a",
    " https://x.aliyuncs.com/a",
    "https://x.aliyuncs.com\r\nHost: evil.org/a",
    "https://x.aliyuncs.com/a\r\nAuthorization: x",
    "https://x.aliyuncs.com/a\x00",
    "https://x。aliyuncs。com/a",
    "https://ｘ.aliyuncs.com/a",
    "https://x.aliyuncs.com:/a",
    "https://x.aliyuncs.com:65536/a",
    "https://x.aliyuncs.com:-1/a",
    "https://x.aliyuncs.com:80:80/a",
    "https://gateway.example.com.evil.org/a",
    "https://sub.gateway.example.com/a",
    "https://x.aliyuncs.com/" + "a" * 70_000,
    "https://x.aliyuncs.com/\ud800",
]


@pytest.mark.parametrize("url", ALLOWED)
def test_hosts_of_dashscope_are_allowed(url: str) -> None:
    assert is_dashscope_host(url, OWN)


@pytest.mark.parametrize("url", FORBIDDEN, ids=range(len(FORBIDDEN)))
async def test_other_hosts_are_forbidden(http: aiohttp.ClientSession, url: str) -> None:
    assert not is_dashscope_host(url, OWN)
    outcome = await fetch_result(http, url, base_url=OWN)
    assert isinstance(outcome, FetchFailed)
    assert outcome.kind is FetchFailureKind.FORBIDDEN


@pytest.mark.parametrize("own", ["", "nonsense", "http://[::1]:1/api/v1", "http://127.0.0.1/api/v1"])
def test_host_of_the_base_url_must_match_exactly(own: str) -> None:
    assert is_dashscope_host("http://[::1]:9/a", own) is ("[::1]" in own)
    assert is_dashscope_host("http://127.0.0.1:9/a", own) is ("127" in own)
    assert not is_dashscope_host("", own)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_not_followed(http: aiohttp.ClientSession, server: HostileServer, status: int) -> None:
    async with hostile_server() as elsewhere:
        elsewhere.play(response(200, DOCUMENT))
        server.play(response(status, b"", f"Location: {elsewhere.origin}/a"))

        outcome = await fetch_result(http, f"{server.origin}/a", base_url=BASE)

        assert outcome == FetchFailed(FetchFailureKind.UNAVAILABLE, f"the result host returned HTTP {status}")
        assert elsewhere.received == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (403, FetchFailureKind.EXPIRED),
        (404, FetchFailureKind.EXPIRED),
        (410, FetchFailureKind.EXPIRED),
        (204, FetchFailureKind.UNAVAILABLE),
        (206, FetchFailureKind.UNAVAILABLE),
        (400, FetchFailureKind.UNAVAILABLE),
        (401, FetchFailureKind.UNAVAILABLE),
        (429, FetchFailureKind.UNAVAILABLE),
        (500, FetchFailureKind.UNAVAILABLE),
        (503, FetchFailureKind.UNAVAILABLE),
    ],
)
async def test_status_decides_whether_the_url_may_work_later(
    http: aiohttp.ClientSession, server: HostileServer, status: int, kind: FetchFailureKind
) -> None:
    body = (FOLDER / "oss_expired_result_url_http403.xml").read_bytes() if status != 204 else b""
    server.play(response(status, body, "Content-Type: application/xml"))

    outcome = await fetch_result(http, f"{server.origin}/a", base_url=BASE)

    assert outcome == FetchFailed(kind, f"the result host returned HTTP {status}")


async def test_body_of_a_200_is_not_validated(http: aiohttp.ClientSession, server: HostileServer) -> None:
    for body in (b"", b"<html>Welcome to the hotel</html>", b"\x00\xff"):
        server.play(response(200, body, "Content-Type: text/html"))
        assert await fetch_result(http, f"{server.origin}/a", base_url=BASE) == body


ENCODED = {
    "gzip": zipped(DOCUMENT),
    "GZIP": response(200, gzip.compress(DOCUMENT), "Content-Encoding: GZIP"),
    "deflate": response(200, zlib.compress(DOCUMENT), "Content-Encoding: deflate"),
    "identity": response(200, DOCUMENT, "Content-Encoding: identity"),
}


@pytest.mark.parametrize("script", ENCODED.values(), ids=ENCODED)
async def test_result_that_is_stored_compressed_is_decoded(
    http: aiohttp.ClientSession, server: HostileServer, script: Script
) -> None:
    server.play(script)

    assert await fetch_result(http, f"{server.origin}/a", base_url=BASE) == DOCUMENT


BREAKS = {
    "closed after the request": drop,
    "reset after the request": reset,
    "closed in the body": response(200, DOCUMENT, length=len(DOCUMENT) + 1, keep=False),
    "closed between chunks": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"),
    "not HTTP": raw(b"\x00\x01\x02\r\n\r\n"),
    "bad length": raw(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}"),
    "not compressed": response(200, DOCUMENT, "Content-Encoding: gzip"),
    "encoding that was not requested": response(200, DOCUMENT, "Content-Encoding: br"),
    "several encodings": response(200, DOCUMENT, "Content-Encoding: gzip, gzip, gzip"),
    "never": silence,
    "for ever": drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" "),
}


@pytest.mark.parametrize("script", BREAKS.values(), ids=BREAKS)
async def test_incomplete_result_is_unavailable(
    http: aiohttp.ClientSession, server: HostileServer, script: Script
) -> None:
    server.play(script)

    outcome = await fetch_result(http, f"{server.origin}/a", base_url=BASE, deadline_s=0.2)

    assert isinstance(outcome, FetchFailed)
    assert outcome.kind is FetchFailureKind.UNAVAILABLE
    assert server.origin not in outcome.detail


async def test_host_that_refuses_connections_is_unavailable(http: aiohttp.ClientSession) -> None:
    outcome = await fetch_result(http, "http://127.0.0.1:1/a?Signature=secret", base_url=BASE)

    assert outcome == FetchFailed(
        FetchFailureKind.UNAVAILABLE, "the result host did not respond (ClientConnectorError)"
    )


async def test_result_has_a_maximum_size(http: aiohttp.ClientSession, server: HostileServer) -> None:
    too_large = FetchFailed(FetchFailureKind.TOO_LARGE, "the result is larger than 1000 bytes")
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for script, expected in [
        (response(200, b" " * 1000), b" " * 1000),
        (response(200, b" " * 1001), too_large),
        (flood(chunked, b"100\r\n" + b" " * 256 + b"\r\n"), too_large),
        (zipped(b" " * 1_000_000), too_large),
    ]:
        server.play(script)
        assert await fetch_result(http, f"{server.origin}/a", base_url=BASE, max_bytes=1000) == expected
