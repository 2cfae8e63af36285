"""Large request bodies are parsed one at a time, and not on the event loop."""

import asyncio
import threading

import httpx
import pytest

from app.api.request_body import LARGE_BODY_BYTES, parse_body

PATIENCE_S = 20
LARGE = b" " * (LARGE_BODY_BYTES + 1)


async def test_event_loop_runs_while_a_large_body_is_parsed() -> None:
    loop, loop_ran = asyncio.get_running_loop(), threading.Event()

    def parse(_body: bytes) -> bool:
        loop.call_soon_threadsafe(loop_ran.set)
        return loop_ran.wait(PATIENCE_S)

    assert await parse_body(LARGE, parse)


async def test_large_bodies_are_parsed_one_at_a_time() -> None:
    parsing, at_once = 0, []

    def parse(_body: bytes) -> None:
        nonlocal parsing
        parsing += 1
        at_once.append(parsing)
        parsing -= 1

    await asyncio.gather(*(parse_body(LARGE, parse) for _ in range(8)))
    assert at_once == [1] * 8


async def test_small_body_does_not_wait_for_a_large_one() -> None:
    parsed_small, loop = threading.Event(), asyncio.get_running_loop()
    started: asyncio.Future[None] = loop.create_future()

    def parse_large(_body: bytes) -> bool:
        loop.call_soon_threadsafe(started.set_result, None)
        return parsed_small.wait(PATIENCE_S)

    large = asyncio.create_task(parse_body(LARGE, parse_large))
    await started
    await parse_body(b"{}", lambda _body: parsed_small.set())
    assert await large


async def test_error_of_a_large_body_reaches_its_caller() -> None:
    def parse(_body: bytes) -> None:
        raise ValueError("invalid")

    with pytest.raises(ValueError, match="invalid"):
        await parse_body(LARGE, parse)


async def test_large_job_is_created_and_faults_of_a_large_job_are_named(api: httpx.AsyncClient) -> None:
    urls = [f"https://example.com/{number}?{'a' * 3000}" for number in range(200)]
    created = await api.post("/v1/jobs", json={"file_urls": urls})
    assert (created.status_code, created.json()["file_counts"]["total"]) == (202, 200)
    refused = await api.post("/v1/jobs", json={"file_urls": [*urls, "ftp://example.com/a"]})
    assert [fault["pointer"] for fault in refused.json()["errors"]] == ["/file_urls/200"]
