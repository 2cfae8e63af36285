"""GET /v1/jobs/{id}/events: server-sent events, over real connections where the stream stays open."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncEngine

from app.clients.service import CurrentClient, revoke_client
from app.db import Sessions, transaction
from app.identifiers import new_id
from app.jobs import event_stream
from app.jobs.long_poll import JobWaiters
from app.queue.commands import delete_job
from app.queue.models import Job
from tests.jobs.rows import SUCCEEDED, add_job, finish
from tests.live_server import live_server

TIMEOUT_S = 20


@pytest.fixture
async def waiters(app: FastAPI, sessions: Sessions) -> AsyncIterator[JobWaiters]:
    """The application's waiters with a short interval. Closed before the server, as in `app.server.run`."""
    waiters = app.state.services.waiters = JobWaiters(sessions, interval_s=0.01)
    yield waiters
    waiters.close()


@pytest.fixture
async def live(
    app: FastAPI, waiters: JobWaiters, api_client: tuple[CurrentClient, str]
) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {api_client[1]}"}
    async with live_server(app) as url:
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT_S) as http:
            yield http
        waiters.close()


@dataclass
class Stream:
    """A response and its blocks, which empty lines separate."""

    response: httpx.Response
    blocks: AsyncIterator[str]

    async def event(self) -> tuple[int, dict[str, Any]]:
        """Id and job of the next event. Comments are skipped."""
        async for block in self.blocks:
            fields = dict(line.partition(": ")[::2] for line in block.splitlines())
            if fields.get("event") == "job":
                return int(fields["id"]), json.loads(fields["data"])
        raise AssertionError("the stream ended")

    async def rest(self) -> list[str]:
        return [block async for block in self.blocks]


@asynccontextmanager
async def following(http: httpx.AsyncClient, job_id: UUID, seen: int | None = None) -> AsyncIterator[Stream]:
    headers = {"Accept": "text/event-stream"} | ({} if seen is None else {"Last-Event-ID": str(seen)})
    async with asyncio.timeout(TIMEOUT_S), http.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as response:
        assert response.status_code == 200
        yield Stream(response, _blocks(response))


async def _blocks(response: httpx.Response) -> AsyncIterator[str]:
    block = ""
    async for line in response.aiter_lines():
        if not line:
            yield block
            block = ""
        else:
            block += f"{line}\n"
    assert not block


async def start(sessions: Sessions, job_id: UUID) -> None:
    async with transaction(sessions) as session:
        started = {"status": "running", "files_queued": 0, "files_running": 1}
        await session.execute(update(Job).where(Job.id == job_id).values(version=Job.version + 1, **started))


async def finish_running(sessions: Sessions, job_id: UUID) -> None:
    async with transaction(sessions) as session:
        await session.execute(update(Job).where(Job.id == job_id).values(files_running=0, files_queued=1))
    await finish(sessions, job_id)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110 - no event signals the end of a connection
            await asyncio.sleep(0.005)


async def test_stream_sends_the_job_at_each_change_until_it_is_final(
    live: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    job_id = await add_job(sessions, client_id)
    async with following(live, job_id) as stream:
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        assert stream.response.headers["cache-control"] == "no-store"
        assert stream.response.headers["x-accel-buffering"] == "no"
        first = await stream.event()
        assert (first[0], first[1]) == (1, (await live.get(f"/v1/jobs/{job_id}")).json())
        await start(sessions, job_id)
        version, job = await stream.event()
        assert (version, job["status"]) == (2, "running")
        await finish_running(sessions, job_id)
        version, job = await stream.event()
        assert (version, job["status"]) == (3, "succeeded")
        assert await stream.rest() == []


async def test_stream_of_a_final_job_has_one_event(api: httpx.AsyncClient, client_id: UUID, sessions: Sessions) -> None:
    job_id = await add_job(sessions, client_id, [SUCCEEDED], version=5)
    response = await api.get(f"/v1/jobs/{job_id}/events")
    blocks = response.text.split("\n\n")
    assert blocks[0] == "retry: 2000"
    assert blocks[1].splitlines()[:2] == ["event: job", "id: 5"]
    assert blocks[2:] == [""]


async def test_resumed_stream_begins_with_the_job_as_it_is_now(
    live: httpx.AsyncClient, client_id: UUID, sessions: Sessions, waiters: JobWaiters
) -> None:
    job_id = await add_job(sessions, client_id, version=3)
    async with following(live, job_id, seen=2) as stream:
        assert (await stream.event())[0] == 3
    async with following(live, job_id, seen=3) as stream:
        assert (await stream.event())[0] == 3
        await until(lambda: waiters.waiting == 1)
        await start(sessions, job_id)
        assert (await stream.event())[1]["status"] == "running"
    await until(lambda: waiters.waiting == 0)


@pytest.mark.parametrize("seen", ["6", str(2**80), ""])
async def test_last_event_id_that_is_empty_or_above_the_version_is_ignored(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, seen: str
) -> None:
    job_id = await add_job(sessions, client_id, [SUCCEEDED], version=5)
    response = await api.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": seen})
    assert response.status_code == 200
    assert "event: job\nid: 5\n" in response.text


async def test_reconnect_after_the_last_event_is_204(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    job_id = await add_job(sessions, client_id, [SUCCEEDED], version=5)
    response = await api.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": "5"})
    assert (response.status_code, response.content) == (204, b"")
    response = await api.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": "4"})
    assert response.status_code == 200


@pytest.mark.parametrize("seen", ["x", "-1", "1.5", "1_0", "1.0", "+1"])
async def test_invalid_last_event_id_is_refused(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, seen: str
) -> None:
    job_id = await add_job(sessions, client_id, [SUCCEEDED])
    response = await api.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": seen})
    assert response.status_code == 422
    assert [place["pointer"] for place in response.json()["errors"]] == ["/header/Last-Event-ID"]


async def test_stream_does_not_find_unknown_jobs_and_jobs_of_other_clients(
    api: httpx.AsyncClient, other_api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    job_id = await add_job(sessions, client_id)
    for http, path in ((other_api, job_id), (api, new_id()), (api, "4711")):
        response = await http.get(f"/v1/jobs/{path}/events")
        assert (response.status_code, response.json()["code"]) == (404, "not_found")


async def test_silent_stream_sends_comments(
    live: httpx.AsyncClient, client_id: UUID, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "KEEP_ALIVE_S", 0.02)
    async with following(live, await add_job(sessions, client_id)) as stream:
        await stream.event()
        assert [await anext(stream.blocks) for _ in range(3)] == [": keep-alive\n"] * 3


async def test_head_does_not_wait(
    live: httpx.AsyncClient, client_id: UUID, sessions: Sessions, waiters: JobWaiters
) -> None:
    job_id = await add_job(sessions, client_id)
    response = await live.head(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": "1"})
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-type"].startswith("text/event-stream")
    await until(lambda: waiters.waiting == 0)


async def test_stream_of_a_revoked_client_ends(
    live: httpx.AsyncClient, client_id: UUID, sessions: Sessions, waiters: JobWaiters
) -> None:
    async with following(live, await add_job(sessions, client_id)) as stream:
        await stream.event()
        await until(lambda: waiters.waiting == 1)
        async with transaction(sessions) as session:
            await revoke_client(session, "tester")
        assert await stream.rest() == []
    assert waiters.waiting == 0


async def test_stream_of_a_deleted_job_ends(
    live: httpx.AsyncClient, client_id: UUID, sessions: Sessions, waiters: JobWaiters
) -> None:
    job_id = await add_job(sessions, client_id)
    async with following(live, job_id) as stream:
        await stream.event()
        await until(lambda: waiters.waiting == 1)
        # One transaction, so that the job is never seen as final.
        async with transaction(sessions) as session:
            ended = {"status": "canceled", "files_queued": 0, "files_canceled": 1, "finished_at": Job.created_at}
            await session.execute(update(Job).where(Job.id == job_id).values(**ended))
            await delete_job(session, client_id, job_id)
        assert await stream.rest() == []


async def test_streams_end_when_the_gateway_stops(
    live: httpx.AsyncClient, client_id: UUID, sessions: Sessions, waiters: JobWaiters
) -> None:
    async with following(live, await add_job(sessions, client_id)) as stream:
        await stream.event()
        await until(lambda: waiters.waiting == 1)
        waiters.close()
        assert set(await stream.rest()) <= {": keep-alive\n"}


async def test_two_hundred_streams_hold_no_connection_and_release_their_waits(
    live: httpx.AsyncClient, client_id: UUID, sessions: Sessions, waiters: JobWaiters, engine: AsyncEngine
) -> None:
    job_id = await add_job(sessions, client_id)
    url, headers = live.base_url, live.headers
    limits = httpx.Limits(max_connections=200)

    async def watch(http: httpx.AsyncClient) -> None:
        async with following(http, job_id) as stream:
            await stream.event()
            await stream.rest()

    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT_S, limits=limits) as http:
        watches = [asyncio.create_task(watch(http)) for _ in range(200)]
        await until(lambda: waiters.waiting == 200)
        # Those of the shared reads: of tokens, of jobs, and of the jobs that are waited for.
        assert engine.pool.checkedout() <= 3  # type: ignore[attr-defined]
        for disconnecting in watches[:100]:
            disconnecting.cancel()
        await until(lambda: waiters.waiting == 100)
        await finish(sessions, job_id)
        await asyncio.gather(*watches[100:])
    assert waiters.waiting == 0


def test_document_has_an_example_of_a_stream(app: FastAPI) -> None:
    operation = app.openapi()["paths"]["/v1/jobs/{job_id}/events"]["get"]
    assert list(operation["responses"]["200"]["content"]) == ["text/event-stream"]
    assert "event: job" in operation["responses"]["200"]["content"]["text/event-stream"]["example"]
