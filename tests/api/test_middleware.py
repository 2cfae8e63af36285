"""Middleware of every request."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from app.api.middleware import MAX_BODY_BYTES, MAX_JOB_BYTES
from tests.api.small_app import caller_of, small_app
from tests.live_server import live_server

router = APIRouter()
made_chunks: list[int] = []


@router.get("/things/{name}")
async def get_thing(name: str) -> dict[str, str]:
    return {"name": name}


@router.get("/cookies")
async def get_cookies(request: Request) -> dict[str, str]:
    return request.cookies


@router.get("/stream")
async def stream() -> StreamingResponse:
    async def chunks() -> AsyncIterator[bytes]:
        for number in range(100):
            made_chunks.append(number)
            yield b"chunk"

    return StreamingResponse(chunks(), headers={"ETag": '"stream"'})


@router.post("/bodies")
@router.post("/v1/jobs")
@router.post("/v1/uploads")
async def count_body(request: Request) -> int:
    return sum([len(chunk) async for chunk in request.stream()])


@router.post("/deaf")
async def ignore_body() -> None: ...


@pytest.fixture
def small() -> httpx.AsyncClient:
    return caller_of(router)


@pytest.mark.parametrize("request_id", ["abc", "A.b_c-9", "x" * 128])
async def test_valid_request_id_is_kept(small: httpx.AsyncClient, request_id: str) -> None:
    response = await small.get("/things/x", headers={"X-Request-ID": request_id})
    assert response.headers["x-request-id"] == request_id


@pytest.mark.parametrize("request_id", ["", "a b", "x" * 129, "a\tb", "<script>", "é"])
async def test_invalid_request_id_is_replaced(small: httpx.AsyncClient, request_id: str) -> None:
    response = await small.get("/things/x", headers=[(b"X-Request-ID", request_id.encode())])
    assert len(response.headers["x-request-id"]) == 32


async def test_every_response_has_its_own_id_and_nosniff(small: httpx.AsyncClient) -> None:
    responses = [await small.get(path) for path in ("/things/x", "/nowhere", "/things/x?y=1")]
    assert len({response.headers["x-request-id"] for response in responses}) == 3
    assert {response.headers["x-content-type-options"] for response in responses} == {"nosniff"}


async def test_log_line_has_no_query_and_no_token(small: httpx.AsyncClient) -> None:
    with capture_logs() as logs:
        await small.get("/things/x?signature=hidden", headers={"Authorization": "Bearer hidden"})
    assert len(logs) == 1
    assert logs[0] == {
        "event": "request",
        "log_level": "info",
        "method": "GET",
        "path": "/things/x",
        "route": "/things/{name}",
        "status": 200,
        "duration_ms": logs[0]["duration_ms"],
        "client": None,
        "peer": "127.0.0.1",
    }


async def test_log_line_has_a_bounded_part_of_the_path(small: httpx.AsyncClient) -> None:
    with capture_logs() as logs:
        await small.get("/things/" + "x" * 60_000)
        await small.get("/nowhere/" + "sk-0123456789abcdef" * 100)
    assert [(len(log["path"]) < 250, log["route"]) for log in logs] == [(True, "/things/{name}"), (True, "unmatched")]
    assert logs[0]["path"].startswith("/things/xxx")
    assert "0123" not in logs[1]["path"]


@pytest.mark.parametrize("character", ["%0a", "%0d", "%00", "%1b", "%7f", "%c2%9b", "%c2%85"])
@pytest.mark.parametrize("path", ["/things/x{}", "/things{}/x", "/{}things/x"])
async def test_path_with_control_characters_is_404(small: httpx.AsyncClient, path: str, character: str) -> None:
    response = await small.get(path.format(character))
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert response.headers["x-request-id"] == response.json()["request_id"]


async def test_cookies_are_ignored(small: httpx.AsyncClient) -> None:
    response = await small.get("/cookies", headers={"Cookie": 'a="' + "\\" * 1000 + '"; b=1'})
    assert response.json() == {}


async def test_requests_are_counted_by_route_template(small: httpx.AsyncClient) -> None:
    def count(method: str, route: str, status: str) -> float:
        labels = {"method": method, "route": route, "status": status}
        return REGISTRY.get_sample_value("asr_gateway_http_requests_total", labels) or 0

    before = count("GET", "/things/{name}", "200"), count("HEAD", "/things/{name}", "200")
    unmatched = count("other", "unmatched", "404")
    await small.get("/things/x")
    await small.get("/things/y")
    await small.head("/things/x")
    await small.request("BREW", "/nowhere")
    after = count("GET", "/things/{name}", "200"), count("HEAD", "/things/{name}", "200")
    assert after == (before[0] + 2, before[1] + 1)
    assert count("other", "unmatched", "404") == unmatched + 1


async def test_head_is_get_without_a_body(small: httpx.AsyncClient) -> None:
    got, head = await small.get("/things/x"), await small.head("/things/x")
    assert head.content == b""
    assert head.headers["content-length"] == got.headers["content-length"]


async def test_head_of_a_stream_ends_the_stream(small: httpx.AsyncClient) -> None:
    made_chunks.clear()
    response = await small.head("/stream")
    assert (response.status_code, response.headers["etag"], response.content) == (200, '"stream"', b"")
    assert made_chunks == [0]


async def test_head_works_behind_a_real_server_and_keeps_the_connection() -> None:
    async with live_server(small_app(router)) as url, httpx.AsyncClient(base_url=url) as http:
        assert (await http.head("/things/x")).status_code == 200
        assert (await http.head("/stream")).status_code == 200
        assert (await http.get("/things/x")).json() == {"name": "x"}


async def _bytes_in_chunks(total: int) -> AsyncIterator[bytes]:
    chunk = bytes(64 * 1024)
    for _ in range(total // len(chunk)):
        yield chunk


@pytest.mark.parametrize("path", ["/bodies", "/deaf"])
async def test_caller_can_read_the_413_of_an_announced_body(path: str) -> None:
    async with live_server(small_app(router)) as url, httpx.AsyncClient(base_url=url) as http:
        response = await http.post(path, content=bytes(20 * 1024 * 1024))
        assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
        assert response.headers["x-request-id"] == response.json()["request_id"]
        assert (await http.get("/things/x")).status_code == 200


async def test_caller_can_read_the_413_of_a_chunked_body() -> None:
    async with live_server(small_app(router)) as url, httpx.AsyncClient(base_url=url) as http:
        response = await http.post("/bodies", content=_bytes_in_chunks(20 * 1024 * 1024))
        assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
        assert (await http.get("/things/x")).status_code == 200


@pytest.mark.parametrize(("path", "limit"), [("/bodies", MAX_BODY_BYTES), ("/v1/jobs", MAX_JOB_BYTES)])
async def test_body_of_exactly_the_limit_is_accepted(small: httpx.AsyncClient, path: str, limit: int) -> None:
    assert (await small.post(path, content=bytes(limit))).json() == limit
    assert (await small.post(path, content=bytes(limit + 1))).status_code == 413
    assert (await small.post(path, content=_bytes_in_chunks(limit))).json() == limit
    assert (await small.post(path, content=_bytes_in_chunks(limit + 64 * 1024))).status_code == 413


@pytest.mark.parametrize("length", ["9" * 19, "9" * 21, "9" * 5000])
async def test_overlong_content_length_is_413(small: httpx.AsyncClient, length: str) -> None:
    response = await small.post("/bodies", content=b"", headers={"Content-Length": length})
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


async def test_content_length_of_many_zeros_is_zero(small: httpx.AsyncClient) -> None:
    assert (await small.post("/bodies", content=b"", headers={"Content-Length": "0" * 5000})).json() == 0


async def test_uploads_are_not_limited_by_the_middleware(small: httpx.AsyncClient) -> None:
    assert (await small.post("/v1/uploads", content=bytes(MAX_BODY_BYTES + 1))).json() == MAX_BODY_BYTES + 1
