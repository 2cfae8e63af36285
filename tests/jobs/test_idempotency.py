"""Idempotency keys when requests overlap, fail or lose their responses."""

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
    """The validated request of BODY with KEY."""
    request = JobRequest(**BODY)
    return validate_new_job(request, client_id=api_client[0].id, idempotency_key="k", served=("beijing", "singapore"))


@pytest.fixture
async def first(sessions: Sessions, new: NewJob) -> AsyncIterator[AsyncSession]:
    """The transaction of a first request, which has inserted its job and is not committed yet."""
    async with sessions() as session:
        await create(session, new)
        yield session


async def another_transaction_waits(sessions: Sessions) -> None:
    """Return when another transaction waits for the end of the first one."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(20):
        while True:
            async with transaction(sessions) as session:
                if await session.scalar(waiting):
                    return
            await asyncio.sleep(0.01)


async def test_second_request_waits_for_the_first_and_replays_it(
    api: httpx.AsyncClient, first: AsyncSession, sessions: Sessions
) -> None:
    again = asyncio.create_task(api.post("/v1/jobs", json=BODY, headers=KEY))
    await another_transaction_waits(sessions)
    assert not again.done()
    await first.commit()
    assert ((await again).status_code, (await again).headers["idempotency-replayed"]) == (202, "true")
    assert (await count(sessions, Job), await count(sessions, File)) == (1, 1)


async def test_second_request_creates_the_job_if_the_first_rolls_back(
    api: httpx.AsyncClient, first: AsyncSession, sessions: Sessions
) -> None:
    again = asyncio.create_task(api.post("/v1/jobs", json=BODY, headers=KEY))
    await another_transaction_waits(sessions)
    await first.rollback()
    assert ((await again).status_code, (await again).headers.get("idempotency-replayed")) == (202, None)
    assert (await count(sessions, Job), await count(sessions, File)) == (1, 1)


async def test_request_whose_connection_is_killed_leaves_the_key_free(
    api: httpx.AsyncClient, first: AsyncSession, sessions: Sessions
) -> None:
    backend = await first.scalar(text("SELECT pg_backend_pid()"))
    async with transaction(sessions) as session:
        await session.execute(text("SELECT pg_terminate_backend(:backend)"), {"backend": backend})
    await first.invalidate()
    response = await api.post("/v1/jobs", json=BODY, headers=KEY)
    assert (response.status_code, response.headers.get("idempotency-replayed")) == (202, None)
    assert (await count(sessions, Job), await count(sessions, File)) == (1, 1)


async def test_another_body_during_the_first_request_is_refused_after_its_commit(
    api: httpx.AsyncClient, first: AsyncSession, sessions: Sessions
) -> None:
    other = asyncio.create_task(api.post("/v1/jobs", json={"file_urls": [URL, URL]}, headers=KEY))
    await another_transaction_waits(sessions)
    await first.commit()
    assert ((await other).status_code, (await other).json()["code"]) == (422, "idempotency_key_reused")
    assert await count(sessions, Job) == 1


async def test_one_of_several_concurrent_bodies_creates_the_job(api: httpx.AsyncClient, sessions: Sessions) -> None:
    bodies = [{"file_urls": [URL], "metadata": {"number": str(number % 4)}} for number in range(20)]
    responses = await asyncio.gather(*(api.post("/v1/jobs", json=body, headers=KEY) for body in bodies))
    assert Counter(response.status_code for response in responses) == {202: 5, 422: 15}
    assert len({response.json()["id"] for response in responses if response.status_code == 202}) == 1
    assert (await count(sessions, Job), await count(sessions, File)) == (1, 1)


async def test_request_of_a_disconnected_client_is_replayed(api: httpx.AsyncClient, sessions: Sessions) -> None:
    lost = asyncio.create_task(api.post("/v1/jobs?wait=60", json=BODY, headers=KEY))
    async with asyncio.timeout(20):
        while not await count(sessions, Job):  # noqa: ASYNC110 - a row that another connection writes
            await asyncio.sleep(0.01)
    lost.cancel()
    await asyncio.gather(lost, return_exceptions=True)
    again = await api.post("/v1/jobs", json=BODY, headers=KEY)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (202, "true")
    assert await count(sessions, Job) == 1


async def test_refused_request_leaves_the_key_free(api: httpx.AsyncClient) -> None:
    assert (await api.post("/v1/jobs", json={**BODY, "model": "no-such-model"}, headers=KEY)).status_code == 422
    response = await api.post("/v1/jobs", json=BODY, headers=KEY)
    assert (response.status_code, response.headers.get("idempotency-replayed")) == (202, None)
