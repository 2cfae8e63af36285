"""Limits of a client's open long polls and event streams."""

import asyncio
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from app.db import Sessions
from app.errors import TooManyWaits
from app.jobs.wait_limits import WaitLimits
from tests.jobs.rows import QUEUED, SUCCEEDED, add_job
from tests.live_server import live_server

ONE, OTHER = UUID(int=1), UUID(int=2)


def test_waits_of_a_client_are_limited_and_released() -> None:
    limits = WaitLimits(max_waits=2)
    with limits.hold(ONE), limits.hold(ONE):
        with pytest.raises(TooManyWaits), limits.hold(ONE):
            pass
        with limits.hold(OTHER):
            pass
    with limits.hold(ONE), limits.hold(ONE):
        pass


def test_jobs_of_streams_are_limited_in_bytes_but_one_is_always_possible() -> None:
    limits = WaitLimits(max_shown_bytes=10)
    with limits.hold(ONE, shown_bytes=11):
        with pytest.raises(TooManyWaits), limits.hold(ONE, shown_bytes=1):
            pass
        with limits.hold(ONE):  # a long poll shows its job at its end only
            pass
    with limits.hold(ONE, shown_bytes=5), limits.hold(ONE, shown_bytes=5):
        pass


@pytest.mark.parametrize("path", ["events", "?wait=20"])
async def test_wait_above_the_limit_is_429(
    app: FastAPI, api: httpx.AsyncClient, sessions: Sessions, client_id: UUID, path: str
) -> None:
    app.state.services.wait_limits = limits = WaitLimits(max_waits=1)
    job_id = await add_job(sessions, client_id, [QUEUED])
    url = f"/v1/jobs/{job_id}{path}" if path.startswith("?") else f"/v1/jobs/{job_id}/{path}"
    with limits.hold(client_id):
        response = await api.get(url)
        assert (response.status_code, response.json()["code"]) == (429, "too_many_waits")
        assert int(response.headers["retry-after"]) > 0
        created = await api.post("/v1/jobs?wait=20", json={"file_urls": ["https://example.com/a.wav"]})
        assert created.status_code == 202


async def test_stream_is_released_at_its_end(
    app: FastAPI, api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    app.state.services.wait_limits = WaitLimits(max_waits=1)
    job_id = await add_job(sessions, client_id, [SUCCEEDED])
    for _ in range(3):
        assert (await api.get(f"/v1/jobs/{job_id}/events")).status_code == 200
        assert (await api.head(f"/v1/jobs/{job_id}/events")).status_code == 200


async def test_stream_is_released_when_its_client_disconnects(
    app: FastAPI, api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    app.state.services.wait_limits = limits = WaitLimits(max_waits=1)
    job_id = await add_job(sessions, client_id, [QUEUED])
    async with live_server(app) as url, httpx.AsyncClient(base_url=url, headers=api.headers) as http:
        async with http.stream("GET", f"/v1/jobs/{job_id}/events") as response:
            await anext(response.aiter_lines())
            with pytest.raises(TooManyWaits), limits.hold(client_id):
                pass
        async with asyncio.timeout(20):
            status = 429
            while status == 429:  # until the server has seen the disconnect
                again = await http.send(http.build_request("GET", f"/v1/jobs/{job_id}/events"), stream=True)
                await again.aclose()
                status = again.status_code
        assert status == 200
        app.state.services.waiters.close()


async def test_large_event_is_complete(api: httpx.AsyncClient, sessions: Sessions, client_id: UUID) -> None:
    files = [SUCCEEDED | {"url": "https://example.com/" + "a" * 4000} for _ in range(50)]
    job_id = await add_job(sessions, client_id, files)
    job = await api.get(f"/v1/jobs/{job_id}")
    stream = await api.get(f"/v1/jobs/{job_id}/events")
    assert len(job.content) > 200_000
    assert stream.content == b"retry: 2000\n\nevent: job\nid: 1\ndata: " + job.content + b"\n\n"
