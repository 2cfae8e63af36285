"""Idempotency keys when attempts overlap, crash or lose their answers."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.clients.service import CurrentClient
from app.db import Sessions, transaction
from app.jobs.schemas import JobRequest
from app.jobs.validation import validate_new_job
from app.queue.creation import NewJob
from app.queue.models import File, Job
from tests.jobs.rows import count, create

URL = "https://example.com/a.wav"
KEY = {"Idempotency-Key": "k"}
BODY: dict[str, Any] = {"file_urls": [URL]}


@pytest.fixture
def new(api_client: tuple[CurrentClient, str]) -> NewJob:
    """What BODY with KEY comes to."""
    request = JobRequest(**BODY)
    return validate_new_job(request, client_id=api_client[0].id, idempotency_key="k", served=("beijing", "singapore"))


@pytest.fixture
async def first(sessions: Sessions, new: NewJob) -> AsyncIterator[AsyncSession]:
    """A first attempt that has written its job and not committed yet."""
    async with sessions() as session:
        await create(session, new)
        yield session


async def somebody_waits_for(sessions: Sessions) -> None:
    """Return once another transaction waits for this one's end."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(20):
        while True:
            async with transaction(sessions) as session:
                if await session.scalar(waiting):
                    return
            await asyncio.sleep(0.01)


async def test_a_second_attempt_waits_for_the_first_and_replays_it(
    api: httpx.AsyncClient, first: AsyncSession, sessions: Sessions
) -> None:
    again = asyncio.create_task(api.post("/v1/jobs", json=BODY, headers=KEY))
    await somebody_waits_for(sessions)
    assert not again.done()
    await first.commit()
    assert ((await again).status_code, (await again).headers["idempotency-replayed"]) == (202, "true")
    assert (await count(sessions, Job), await count(sessions, File)) == (1, 1)


async def test_a_second_attempt_makes_the_job_when_the_first_gives_up(
    api: httpx.AsyncClient, first: AsyncSession, sessions: Sessions
) -> None:
    again = asyncio.create_task(api.post("/v1/jobs", json=BODY, headers=KEY))
    await somebody_waits_for(sessions)
    await first.rollback()
    assert ((await again).status_code, (await again).headers.get("idempotency-replayed")) == (202, None)
    assert (await count(sessions, Job), await count(sessions, File)) == (1, 1)


async def test_a_first_attempt_whose_connection_is_killed_leaves_the_key_free(
    api: httpx.AsyncClient, first: AsyncSession, sessions: Sessions
) -> None:
    backend = await first.scalar(text("SELECT pg_backend_pid()"))
    async with transaction(sessions) as session:
        await session.execute(text("SELECT pg_terminate_backend(:backend)"), {"backend": backend})
    await first.invalidate()
    answer = await api.post("/v1/jobs", json=BODY, headers=KEY)
    assert (answer.status_code, answer.headers.get("idempotency-replayed")) == (202, None)
    assert (await count(sessions, Job), await count(sessions, File)) == (1, 1)


async def test_another_body_that_comes_while_the_first_is_under_way_is_refused_once_that_is_durable(
    api: httpx.AsyncClient, first: AsyncSession, sessions: Sessions
) -> None:
    other = asyncio.create_task(api.post("/v1/jobs", json={"file_urls": [URL, URL]}, headers=KEY))
    await somebody_waits_for(sessions)
    await first.commit()
    assert ((await other).status_code, (await other).json()["code"]) == (422, "idempotency_key_reused")
    assert await count(sessions, Job) == 1


async def test_of_different_bodies_at_once_one_becomes_the_job_and_the_others_are_refused(
    api: httpx.AsyncClient, sessions: Sessions
) -> None:
    bodies = [{"file_urls": [URL], "metadata": {"number": str(number % 4)}} for number in range(20)]
    answers = await asyncio.gather(*(api.post("/v1/jobs", json=body, headers=KEY) for body in bodies))
    assert Counter(answer.status_code for answer in answers) == {202: 5, 422: 15}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 202}) == 1
    assert (await count(sessions, Job), await count(sessions, File)) == (1, 1)


async def test_an_attempt_whose_caller_hung_up_is_found_by_the_next(api: httpx.AsyncClient, sessions: Sessions) -> None:
    lost = asyncio.create_task(api.post("/v1/jobs?wait=60", json=BODY, headers=KEY))
    async with asyncio.timeout(20):
        while not await count(sessions, Job):  # noqa: ASYNC110 - a row that another connection writes
            await asyncio.sleep(0.01)
    lost.cancel()
    await asyncio.gather(lost, return_exceptions=True)
    again = await api.post("/v1/jobs", json=BODY, headers=KEY)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (202, "true")
    assert await count(sessions, Job) == 1


async def test_a_refused_request_does_not_use_up_its_key(api: httpx.AsyncClient) -> None:
    assert (await api.post("/v1/jobs", json={**BODY, "model": "no-such-model"}, headers=KEY)).status_code == 422
    answer = await api.post("/v1/jobs", json=BODY, headers=KEY)
    assert (answer.status_code, answer.headers.get("idempotency-replayed")) == (202, None)
