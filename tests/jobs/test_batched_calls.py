"""The cache of listed jobs agrees with the database and stays within its size."""

import asyncio
from uuid import UUID

import httpx
from sqlalchemy import delete, update

from app.db import Sessions, transaction
from app.jobs.batched_calls import JobListCache
from app.queue.job_json import job_bytes
from app.queue.models import Job
from app.queue.queries import JobFilters, find_job
from tests.jobs.rows import add_job


async def test_cached_version_is_not_read_again(sessions: Sessions, client_id: UUID, statements: list[str]) -> None:
    cache = JobListCache(sessions)
    jobs = [await add_job(sessions, client_id) for _ in range(3)]
    first = await cache.page(client_id, JobFilters(), 50)
    await asyncio.sleep(0)  # the statements of the call before are logged now
    statements.clear()
    assert await cache.page(client_id, JobFilters(), 50) == first
    assert [job_id for job_id, _ in first] == jobs[::-1]
    await asyncio.sleep(0)
    assert len(statements) == 1


async def test_new_version_is_read_again(sessions: Sessions, client_id: UUID) -> None:
    cache = JobListCache(sessions)
    job_id, other = await add_job(sessions, client_id), await add_job(sessions, client_id)
    before = dict(await cache.page(client_id, JobFilters(), 50))
    async with transaction(sessions) as session:
        await session.execute(
            update(Job).where(Job.id == job_id).values(version=Job.version + 1, audio_duration_ms=4711)
        )
    after = dict(await cache.page(client_id, JobFilters(), 50))
    assert after[other] == before[other]
    async with transaction(sessions) as session:
        assert after[job_id] == job_bytes(await find_job(session, client_id, job_id))
    assert b"4711" in after[job_id]


async def test_cache_stays_within_its_size(sessions: Sessions, client_id: UUID, statements: list[str]) -> None:
    jobs = [await add_job(sessions, client_id) for _ in range(5)]
    small = JobListCache(sessions, cache_bytes=1500)
    large = await JobListCache(sessions).page(client_id, JobFilters(), 50)
    assert await small.page(client_id, JobFilters(), 50) == large
    assert len(large) == len(jobs)
    await asyncio.sleep(0)  # the statements of the call before are logged now
    statements.clear()
    assert await small.page(client_id, JobFilters(), 50) == large
    await asyncio.sleep(0)
    assert len(statements) == 2


async def test_job_larger_than_the_cache_is_listed(sessions: Sessions, client_id: UUID) -> None:
    job_id = await add_job(sessions, client_id)
    assert [each for each, _ in await JobListCache(sessions, cache_bytes=10).page(client_id, JobFilters(), 50)] == [
        job_id
    ]


async def test_deleted_jobs_leave_the_list_although_they_are_cached(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    await add_job(sessions, client_id)
    assert len((await api.get("/v1/jobs")).json()["items"]) == 1
    async with transaction(sessions) as session:
        await session.execute(delete(Job))
    assert (await api.get("/v1/jobs")).json()["items"] == []
