"""The result origin serves signed URLs, byte for byte, until they expire, to requests without an API key."""

import re

import httpx
import pytest

from tests.sandbox.conftest import MakeUpstream, Upstream, transcription_url

URL = "https://example.com/a.wav"


async def signed_url(upstream: Upstream) -> str:
    return transcription_url(await upstream.finished(await upstream.submit(URL)))


def assert_xml_error(response: httpx.Response, status: int, code: str) -> None:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/xml"
    assert f"<Code>{code}</Code>" in response.text


async def test_result_url_is_signed_and_has_its_own_origin(upstream: Upstream) -> None:
    pattern = (
        r"http://sandbox\.test:18101/prod/fun-asr/20250213/17%3A31/[0-9a-f-]{36}-1\.json"
        r"\?Expires=1739525481&OSSAccessKeyId=\w+&Signature=[\w%]*%2B[\w%]*%3D"
    )
    assert re.fullmatch(pattern, await signed_url(upstream))


async def test_result_origin_can_be_configured(make_upstream: MakeUpstream) -> None:
    upstream = make_upstream(results_origin="https://results.test:18101")
    url = await signed_url(upstream)
    assert url.startswith("https://results.test:18101/prod/")
    assert (await upstream.http.get(url)).status_code == 200


async def test_result_url_is_served(upstream: Upstream) -> None:
    url = await signed_url(upstream)
    response = await upstream.http.get(url)
    assert response.status_code == 200
    assert response.json()["file_url"] == URL
    assert upstream.state.downloads == {URL: 1}
    assert (await upstream.http.head(url)).status_code == 200


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("%3A", ":"),
        ("%2B", "+"),
        ("%3D", "="),
        ("Expires=1", "Expires=2"),
        ("-1.json", "-2.json"),
        ("Expires=", "expires="),
    ],
)
async def test_altered_result_url_gives_403(upstream: Upstream, old: str, new: str) -> None:
    response = await upstream.http.get((await signed_url(upstream)).replace(old, new))
    assert_xml_error(response, 403, "SignatureDoesNotMatch")


async def test_result_url_expires_24_hours_after_the_end_of_the_task(upstream: Upstream) -> None:
    url = await signed_url(upstream)
    upstream.clock.now = 1_739_525_480.9
    assert (await upstream.http.get(url)).status_code == 200
    upstream.clock.now = 1_739_525_481.0
    response = await upstream.http.get(url)
    assert_xml_error(response, 403, "AccessDenied")
    assert "<Message>Request has expired.</Message>" in response.text
    assert "<Expires>2025-02-14T09:31:21.000Z</Expires>" in response.text


async def test_authorization_header_is_refused_and_counted(upstream: Upstream) -> None:
    response = await upstream.http.get(
        await signed_url(upstream), headers={"Authorization": "Bearer sk-sandbox-beijing"}
    )
    assert_xml_error(response, 400, "InvalidArgument")
    assert upstream.state.authorization_leaks == 1
    assert not upstream.state.downloads


async def test_result_cannot_be_written(upstream: Upstream) -> None:
    assert_xml_error(await upstream.http.put(await signed_url(upstream)), 405, "MethodNotAllowed")
