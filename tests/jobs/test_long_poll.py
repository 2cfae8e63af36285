"""Waits for jobs with `?wait=` and `Prefer: wait=`, and the loop that serves all waits."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from app.db import Sessions, create_engine, create_sessions, transaction
from app.identifiers import new_id
from app.jobs.batched_calls import job_finder
from app.jobs.long_poll import JobWaiters
from app.queue.job_json import JobVersion
from app.queue.models import Job
from app.queue.wakeup import WakeUp
from tests.database_proxy import database_proxy
from tests.jobs.rows import SUCCEEDED, add_job, finish

LONG_S = 30


@pytest.fixture
def waiters(app: FastAPI, sessions: Sessions) -> JobWaiters:
    """The application's waiters with a short interval."""
    waiters = app.state.services.waiters = JobWaiters(sessions, interval_s=0.01)
    return waiters


@asynccontextmanager
async def outage_on_demand(app: FastAPI, waiters: JobWaiters) -> AsyncIterator[Callable[[], None]]:
    """Yields a function that makes the next reads fail as in an outage, and ends all waits."""
    unreachable, find_job = create_engine("postgresql://nobody@127.0.0.1:1/nothing"), app.state.services.find_job

    def begin_outage() -> None:
        app.state.services.find_job = job_finder(create_sessions(unreachable))
        waiters.close()

    yield begin_outage
    app.state.services.find_job = find_job
    await unreachable.dispose()


async def waits_begun(waiters: JobWaiters, count: int = 1) -> None:
    for _ in range(2000):
        if waiters.waiting >= count:
            return
        await asyncio.sleep(0.005)
    raise AssertionError("too few waits")


async def test_get_with_wait_returns_when_the_job_is_final(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, waiters: JobWaiters
) -> None:
    job_id = await add_job(sessions, client_id)
    request = asyncio.create_task(api.get(f"/v1/jobs/{job_id}?wait={LONG_S}", timeout=LONG_S))
    await waits_begun(waiters)
    await finish(sessions, job_id)
    assert (await request).json()["status"] == "succeeded"
    assert waiters.waiting == 0


async def test_post_with_wait_returns_when_the_job_is_final(
    api: httpx.AsyncClient, sessions: Sessions, waiters: JobWaiters
) -> None:
    body = {"file_urls": ["https://example.com/a.wav"]}
    request = asyncio.create_task(api.post("/v1/jobs", json=body, headers={"Prefer": f"wait={LONG_S}"}, timeout=LONG_S))
    await waits_begun(waiters)
    await finish(sessions, (await api.get("/v1/jobs")).json()["items"][0]["id"])
    response = await request
    assert (response.status_code, response.json()["status"]) == (202, "succeeded")
    assert response.headers["preference-applied"] == f"wait={LONG_S}"


async def test_post_is_accepted_although_its_wait_ends_in_an_outage(
    api: httpx.AsyncClient, app: FastAPI, sessions: Sessions, waiters: JobWaiters
) -> None:
    body = {"file_urls": ["https://example.com/a.wav"]}
    async with outage_on_demand(app, waiters) as begin_outage:
        request = asyncio.create_task(api.post(f"/v1/jobs?wait={LONG_S}", json=body, timeout=LONG_S))
        await waits_begun(waiters)
        begin_outage()
        response = await request
    assert (response.status_code, response.json()["status"]) == (202, "queued")
    assert (await api.get(response.headers["location"])).status_code == 200


@pytest.mark.slow
async def test_wait_that_times_out_returns_the_job_as_it_is(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, waiters: JobWaiters
) -> None:
    job_id = await add_job(sessions, client_id)
    response = await api.get(f"/v1/jobs/{job_id}?wait=1")
    assert (response.status_code, response.json()["status"], response.headers["retry-after"]) == (200, "queued", "2")


@pytest.mark.parametrize("query", ["?wait=60", ""])
async def test_final_job_is_returned_without_a_wait(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, query: str
) -> None:
    job_id = await add_job(sessions, client_id, [SUCCEEDED])
    began = perf_counter()
    assert (await api.get(f"/v1/jobs/{job_id}{query}", headers={"Prefer": "wait=60"})).status_code == 200
    assert perf_counter() - began < 5


@pytest.mark.parametrize("wait", ["abc", "61", "-1", "1.5", ""])
async def test_invalid_wait_is_refused(api: httpx.AsyncClient, wait: str) -> None:
    for response in (
        await api.get(f"/v1/jobs/{new_id()}?wait={wait}"),
        await api.post(f"/v1/jobs?wait={wait}", json={"file_urls": ["https://example.com/a.wav"]}),
    ):
        assert response.status_code == 422
        assert [place["pointer"] for place in response.json()["errors"]] == ["/query/wait"]


@pytest.mark.parametrize(
    ("preferences", "waits"),
    [
        (["wait=1"], True),
        (["respond-async, wait=1"], True),
        (["respond-async", 'Wait = "1"; x=y'], True),
        (["wait=x"], False),
        (["wait=-1"], False),
        (["await=1"], False),
        (['note="a, wait=1"'], False),
        (['note="a, wait=0", wait=1'], True),
        (["return=minimal; wait=1"], False),
        (["wait"], False),
        (["wait=0"], False),
    ],
)
async def test_wait_preference_is_honored_and_invalid_ones_are_ignored(
    api: httpx.AsyncClient,
    client_id: UUID,
    waiters: JobWaiters,
    preferences: list[str],
    *,
    waits: bool,
    sessions: Sessions,
) -> None:
    job_id = await add_job(sessions, client_id)
    headers = [("Prefer", preference) for preference in preferences]
    request = asyncio.create_task(api.get(f"/v1/jobs/{job_id}", headers=headers))
    if waits:
        await waits_begun(waiters)
        await finish(sessions, job_id)
    assert (await request).json()["status"] == ("succeeded" if waits else "queued")


@pytest.mark.parametrize(
    ("query", "preference", "applied"),
    [
        ("", "wait=20", "wait=20"),
        ("", "respond-async, wait=0", "wait=0"),
        ("", "wait=3600", "wait=60"),
        ("", "wait=x", None),
        ("?wait=0", "wait=20", None),
    ],
)
async def test_response_names_the_preference_that_was_honored(
    api: httpx.AsyncClient,
    client_id: UUID,
    sessions: Sessions,
    *,
    query: str,
    preference: str,
    applied: str | None,
) -> None:
    job_id = await add_job(sessions, client_id, [SUCCEEDED])
    response = await api.get(f"/v1/jobs/{job_id}{query}", headers={"Prefer": preference})
    assert response.headers.get("preference-applied") == applied
    known = {"Prefer": preference, "If-None-Match": response.headers["etag"]}
    assert (await api.get(f"/v1/jobs/{job_id}{query}", headers=known)).headers.get("preference-applied") == applied
    refused = await api.get(f"/v1/jobs/{new_id()}{query}", headers={"Prefer": preference})
    assert (refused.status_code, refused.headers.get("preference-applied")) == (404, None)


async def test_parameter_takes_precedence_over_the_preference(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    job_id = await add_job(sessions, client_id)
    began = perf_counter()
    await api.get(f"/v1/jobs/{job_id}?wait=0", headers={"Prefer": "wait=60"})
    assert perf_counter() - began < 5


async def test_two_thousand_waits_share_one_statement_and_hold_no_connection(
    engine: AsyncEngine, client_id: UUID, sessions: Sessions, statements: list[str]
) -> None:
    waiters = JobWaiters(sessions, interval_s=0.05)
    job_id, other_id = await add_job(sessions, client_id), await add_job(sessions, client_id)
    statements.clear()
    others = [
        asyncio.create_task(waiters.until_changed(JobVersion(other_id, version, None), LONG_S))
        for version in range(1, 1001)
    ]
    mine = [asyncio.create_task(waiters.until_final(job_id, LONG_S)) for _ in range(1000)]
    await waits_begun(waiters, 2000)
    assert engine.pool.checkedout() <= 1  # type: ignore[attr-defined]
    await finish(sessions, job_id)
    await asyncio.gather(*mine)
    assert waiters.waiting == 1000
    waiters.close()
    await asyncio.gather(*others)
    assert len(statements) < 50


@pytest.mark.slow
async def test_two_hundred_gets_with_wait_share_reads_and_hold_no_connection(
    api: httpx.AsyncClient,
    client_id: UUID,
    sessions: Sessions,
    waiters: JobWaiters,
    engine: AsyncEngine,
    *,
    statements: list[str],
) -> None:
    jobs = [await add_job(sessions, client_id) for _ in range(4)]
    paths = [f"/v1/jobs/{job_id}?wait={LONG_S}" for job_id in jobs] * 50
    requests = [asyncio.create_task(api.get(path, timeout=LONG_S)) for path in paths]
    await waits_begun(waiters, 200)
    # Those of the shared reads: of tokens, of jobs, and of the jobs that are waited for.
    assert engine.pool.checkedout() <= 3  # type: ignore[attr-defined]
    statements.clear()
    for job_id in jobs:
        await finish(sessions, job_id)
    responses = await asyncio.gather(*requests)
    assert {response.json()["status"] for response in responses} == {"succeeded"}
    assert waiters.waiting == 0
    assert len([statement for statement in statements if "json_agg" in statement]) <= 4


async def test_delete_ends_the_wait_with_404(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, waiters: JobWaiters
) -> None:
    job_id = await add_job(sessions, client_id)
    request = asyncio.create_task(api.get(f"/v1/jobs/{job_id}?wait={LONG_S}", timeout=LONG_S))
    await waits_begun(waiters)
    async with transaction(sessions) as session:
        await session.execute(delete(Job).where(Job.id == job_id))
    assert (await request).status_code == 404


async def test_change_ends_waits_for_changes_and_not_waits_for_the_end(client_id: UUID, sessions: Sessions) -> None:
    waiters = JobWaiters(sessions, interval_s=0.01)
    job_id = await add_job(sessions, client_id, version=3)
    await waiters.until_changed(JobVersion(job_id, 2, None), LONG_S)
    began = perf_counter()
    await waiters.until_changed(JobVersion(job_id, 3, None), 0.05)
    await waiters.until_final(job_id, 0.05)
    assert perf_counter() - began >= 0.1
    waiters.close()


async def test_loop_ends_when_all_waits_are_canceled(client_id: UUID, sessions: Sessions) -> None:
    waiters = JobWaiters(sessions, interval_s=0.01)
    job_id = await add_job(sessions, client_id)
    waits = [asyncio.create_task(waiters.until_final(job_id, LONG_S)) for _ in range(3)]
    await waits_begun(waiters, 3)
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    assert waiters.waiting == 0
    async with asyncio.timeout(5):
        while waiters.running:  # noqa: ASYNC110 - the loop ends with its next iteration, and sets no event
            await asyncio.sleep(0.005)


async def test_disconnect_ends_the_wait(
    app: FastAPI, api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, waiters: JobWaiters
) -> None:
    job_id = await add_job(sessions, client_id)
    disconnected = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await disconnected.wait()
        return {"type": "http.disconnect"}

    async def send(_message: Any) -> None: ...

    scope = {
        "type": "http",
        "method": "GET",
        "path": f"/v1/jobs/{job_id}",
        "query_string": b"wait=60",
        "headers": [(b"authorization", api.headers["authorization"].encode())],
        "asgi": {"version": "3.0"},
    }
    handling = asyncio.create_task(app(scope, receive, send))
    await waits_begun(waiters)
    disconnected.set()
    async with asyncio.timeout(5):
        await handling
    assert waiters.waiting == 0


async def test_close_ends_all_waits_and_later_ones_return_at_once(client_id: UUID, sessions: Sessions) -> None:
    waiters = JobWaiters(sessions)
    job_id = await add_job(sessions, client_id)
    wait = asyncio.create_task(waiters.until_final(job_id, LONG_S))
    await waits_begun(waiters)
    began = perf_counter()
    waiters.close()
    await wait
    await waiters.until_final(job_id, LONG_S)
    waiters.close()
    assert perf_counter() - began < 5


async def test_wait_survives_an_outage(database_url: str, client_id: UUID, sessions: Sessions) -> None:
    async with database_proxy(database_url) as proxy:
        engine = create_engine(proxy.url)
        waiters = JobWaiters(create_sessions(engine), interval_s=0.01)
        job_id = await add_job(sessions, client_id)
        await proxy.stop()
        with capture_logs() as logs:
            wait = asyncio.create_task(waiters.until_final(job_id, LONG_S))
            async with asyncio.timeout(LONG_S):
                while not any(entry["event"] == "long poll failed" for entry in logs):  # noqa: ASYNC110 - a log entry
                    await asyncio.sleep(0.005)
        assert not wait.done()
        await finish(sessions, job_id)
        await proxy.start()
        assert await wait is not None
        await engine.dispose()


async def test_wait_ends_when_a_poller_of_the_process_stores_the_result(client_id: UUID, sessions: Sessions) -> None:
    stored = WakeUp()
    waiters = JobWaiters(sessions, interval_s=3600, stored=stored)
    job_id = await add_job(sessions, client_id)
    async with asyncio.timeout(LONG_S):
        wait = asyncio.create_task(waiters.until_final(job_id, LONG_S))
        await waits_begun(waiters)
        await finish(sessions, job_id)
        stored.notify()
        snapshot = await wait
    assert snapshot is not None
    assert snapshot.job.id == job_id
