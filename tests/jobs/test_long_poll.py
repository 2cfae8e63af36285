"""Waiting for jobs: `?wait=`, `Prefer: wait=`, and the one loop behind them."""

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

from app.db import Sessions, create_engine, create_sessions, transaction
from app.identifiers import new_id
from app.jobs.batched_calls import job_finder
from app.jobs.long_poll import JobWaiters
from app.queue.job_json import JobVersion
from app.queue.models import Job
from tests.jobs.rows import SUCCEEDED, add_job, finish

LONG_S = 30


@pytest.fixture
def waiters(app: FastAPI, sessions: Sessions) -> JobWaiters:
    """The application's, looking more often than in earnest."""
    waiters = app.state.services.waiters = JobWaiters(sessions, interval_s=0.01)
    return waiters


@asynccontextmanager
async def api_to_a_database_that_goes_away(app: FastAPI, waiters: JobWaiters) -> AsyncIterator[Callable[[], None]]:
    """Calling what it yields takes the database away from what comes next, and ends all waits."""
    away, there = create_engine("postgresql://nobody@127.0.0.1:1/nothing"), app.state.services.find_job

    def go_away() -> None:
        app.state.services.find_job = job_finder(create_sessions(away))
        waiters.close()

    yield go_away
    app.state.services.find_job = there
    await away.dispose()


async def somebody_waits(waiters: JobWaiters, people: int = 1) -> None:
    for _ in range(2000):
        if waiters.waiting >= people:
            return
        await asyncio.sleep(0.005)
    raise AssertionError("nobody waits")


async def test_a_get_that_waits_answers_when_the_job_is_final(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, waiters: JobWaiters
) -> None:
    job_id = await add_job(sessions, client_id)
    asking = asyncio.create_task(api.get(f"/v1/jobs/{job_id}?wait={LONG_S}", timeout=LONG_S))
    await somebody_waits(waiters)
    await finish(sessions, job_id)
    assert (await asking).json()["status"] == "succeeded"
    assert waiters.waiting == 0


async def test_a_post_that_waits_answers_when_the_job_is_final(
    api: httpx.AsyncClient, sessions: Sessions, waiters: JobWaiters
) -> None:
    body = {"file_urls": ["https://example.com/a.wav"]}
    asking = asyncio.create_task(api.post("/v1/jobs", json=body, headers={"Prefer": f"wait={LONG_S}"}, timeout=LONG_S))
    await somebody_waits(waiters)
    await finish(sessions, (await api.get("/v1/jobs")).json()["items"][0]["id"])
    answer = await asking
    assert (answer.status_code, answer.json()["status"]) == (202, "succeeded")
    assert answer.headers["preference-applied"] == f"wait={LONG_S}"


async def test_a_post_whose_wait_ends_in_an_outage_is_still_accepted(
    api: httpx.AsyncClient, app: FastAPI, sessions: Sessions, waiters: JobWaiters
) -> None:
    body = {"file_urls": ["https://example.com/a.wav"]}
    async with api_to_a_database_that_goes_away(app, waiters) as go_away:
        asking = asyncio.create_task(api.post(f"/v1/jobs?wait={LONG_S}", json=body, timeout=LONG_S))
        await somebody_waits(waiters)
        go_away()
        answer = await asking
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert (await api.get(answer.headers["location"])).status_code == 200


async def test_when_the_time_is_over_the_job_comes_as_it_is(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, waiters: JobWaiters
) -> None:
    job_id = await add_job(sessions, client_id)
    answer = await api.get(f"/v1/jobs/{job_id}?wait=1")
    assert (answer.status_code, answer.json()["status"], answer.headers["retry-after"]) == (200, "queued", "2")


@pytest.mark.parametrize("query", ["?wait=60", ""])
async def test_nobody_waits_for_a_final_job(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, query: str
) -> None:
    job_id = await add_job(sessions, client_id, [SUCCEEDED])
    began = perf_counter()
    assert (await api.get(f"/v1/jobs/{job_id}{query}", headers={"Prefer": "wait=60"})).status_code == 200
    assert perf_counter() - began < 5


@pytest.mark.parametrize("wait", ["abc", "61", "-1", "1.5", ""])
async def test_a_wait_that_is_no_number_of_seconds_is_refused(api: httpx.AsyncClient, wait: str) -> None:
    for answer in (
        await api.get(f"/v1/jobs/{new_id()}?wait={wait}"),
        await api.post(f"/v1/jobs?wait={wait}", json={"file_urls": ["https://example.com/a.wav"]}),
    ):
        assert answer.status_code == 422
        assert [place["pointer"] for place in answer.json()["errors"]] == ["/query/wait"]


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
async def test_preferences_are_read_and_bad_ones_ignored(
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
    asking = asyncio.create_task(api.get(f"/v1/jobs/{job_id}", headers=headers))
    if waits:
        await somebody_waits(waiters)
        await finish(sessions, job_id)
    assert (await asking).json()["status"] == ("succeeded" if waits else "queued")


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
async def test_an_answer_says_which_preference_was_honoured(
    api: httpx.AsyncClient,
    client_id: UUID,
    sessions: Sessions,
    *,
    query: str,
    preference: str,
    applied: str | None,
) -> None:
    job_id = await add_job(sessions, client_id, [SUCCEEDED])
    answer = await api.get(f"/v1/jobs/{job_id}{query}", headers={"Prefer": preference})
    assert answer.headers.get("preference-applied") == applied
    known = {"Prefer": preference, "If-None-Match": answer.headers["etag"]}
    assert (await api.get(f"/v1/jobs/{job_id}{query}", headers=known)).headers.get("preference-applied") == applied
    refused = await api.get(f"/v1/jobs/{new_id()}{query}", headers={"Prefer": preference})
    assert (refused.status_code, refused.headers.get("preference-applied")) == (404, None)


async def test_the_parameter_wins_over_the_preference(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    job_id = await add_job(sessions, client_id)
    began = perf_counter()
    await api.get(f"/v1/jobs/{job_id}?wait=0", headers={"Prefer": "wait=60"})
    assert perf_counter() - began < 5


async def test_two_thousand_waiters_share_one_statement_and_hold_no_connection(
    engine: AsyncEngine, client_id: UUID, sessions: Sessions, statements: list[str]
) -> None:
    waiters = JobWaiters(sessions, interval_s=0.05)
    job_id, other_id = await add_job(sessions, client_id), await add_job(sessions, client_id)
    statements.clear()
    others = [
        asyncio.create_task(waiters.until_changed(JobVersion(other_id, version, None), 2)) for version in range(1, 1001)
    ]
    mine = [asyncio.create_task(waiters.until_final(job_id, LONG_S)) for _ in range(1000)]
    await somebody_waits(waiters, 2000)
    assert engine.pool.checkedout() <= 1  # type: ignore[attr-defined]
    await finish(sessions, job_id)
    await asyncio.gather(*mine)
    assert waiters.waiting == 1000
    waiters.close()
    await asyncio.gather(*others)
    assert len(statements) < 50


async def test_two_hundred_gets_that_wait_hold_no_connection_and_are_read_for_together(
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
    asking = [asyncio.create_task(api.get(path, timeout=LONG_S)) for path in paths]
    await somebody_waits(waiters, 200)
    assert engine.pool.checkedout() <= 1  # type: ignore[attr-defined]
    statements.clear()
    for job_id in jobs:
        await finish(sessions, job_id)
    answers = await asyncio.gather(*asking)
    assert {answer.json()["status"] for answer in answers} == {"succeeded"}
    assert waiters.waiting == 0
    assert len([statement for statement in statements if "json_agg" in statement]) <= 4


async def test_a_deleted_job_ends_the_wait_with_a_404(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, waiters: JobWaiters
) -> None:
    job_id = await add_job(sessions, client_id)
    asking = asyncio.create_task(api.get(f"/v1/jobs/{job_id}?wait={LONG_S}", timeout=LONG_S))
    await somebody_waits(waiters)
    async with transaction(sessions) as session:
        await session.execute(delete(Job).where(Job.id == job_id))
    assert (await asking).status_code == 404


async def test_a_waiter_is_woken_by_a_change_only_if_it_asked_for_changes(client_id: UUID, sessions: Sessions) -> None:
    waiters = JobWaiters(sessions, interval_s=0.01)
    job_id = await add_job(sessions, client_id, version=3)
    await waiters.until_changed(JobVersion(job_id, 2, None), LONG_S)
    began = perf_counter()
    await waiters.until_changed(JobVersion(job_id, 3, None), 0.05)
    await waiters.until_final(job_id, 0.05)
    assert perf_counter() - began >= 0.1
    waiters.close()


async def test_who_hangs_up_or_is_cancelled_leaves_nothing_behind(client_id: UUID, sessions: Sessions) -> None:
    waiters = JobWaiters(sessions, interval_s=0.01)
    job_id = await add_job(sessions, client_id)
    waits = [asyncio.create_task(waiters.until_final(job_id, LONG_S)) for _ in range(3)]
    await somebody_waits(waiters, 3)
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    assert waiters.waiting == 0
    assert waiters._loop is not None
    async with asyncio.timeout(5):
        await waiters._loop


async def test_a_caller_who_hangs_up_stops_waiting(
    app: FastAPI, api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, waiters: JobWaiters
) -> None:
    job_id = await add_job(sessions, client_id)
    hung_up = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await hung_up.wait()
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
    await somebody_waits(waiters)
    hung_up.set()
    async with asyncio.timeout(5):
        await handling
    assert waiters.waiting == 0


async def test_all_waits_end_when_the_process_stops_and_none_begins_any_more(
    client_id: UUID, sessions: Sessions
) -> None:
    waiters = JobWaiters(sessions)
    job_id = await add_job(sessions, client_id)
    wait = asyncio.create_task(waiters.until_final(job_id, LONG_S))
    await somebody_waits(waiters)
    began = perf_counter()
    waiters.close()
    await wait
    await waiters.until_final(job_id, LONG_S)
    waiters.close()
    assert perf_counter() - began < 5


async def test_an_outage_ends_no_wait(database_url: str, client_id: UUID, sessions: Sessions) -> None:
    away = create_engine("postgresql://nobody@127.0.0.1:1/nothing")
    waiters = JobWaiters(create_sessions(away), interval_s=0.01)
    job_id = await add_job(sessions, client_id)
    wait = asyncio.create_task(waiters.until_final(job_id, LONG_S))
    await somebody_waits(waiters)
    await asyncio.sleep(0.1)
    assert not wait.done()
    waiters._sessions = sessions
    await finish(sessions, job_id)
    await wait
    await away.dispose()
