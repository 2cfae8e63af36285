"""The cache of listed jobs agrees with the database and stays within its size."""

import asyncio
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import delete, update

from app.db import Sessions, raw_connection, transaction
from app.jobs import batched_calls
from app.jobs.batched_calls import LIST_CACHE_BYTES, PAGE_BYTES, JobListCache
from app.queue.job_json import job_bytes
from app.queue.models import Job
from app.queue.queries import JobFilters, find_first_jobs, find_job
from tests.jobs.rows import add_job


async def test_cached_version_is_not_read_again(sessions: Sessions, client_id: UUID, statements: list[str]) -> None:
    cache = JobListCache(sessions)
    jobs = [await add_job(sessions, client_id) for _ in range(3)]
    first, _ = await cache.page(client_id, JobFilters(), 50)
    await asyncio.sleep(0)  # the statements of the call before are logged now
    statements.clear()
    assert await cache.page(client_id, JobFilters(), 50) == (first, None)
    assert [job_id for job_id, _ in first] == jobs[::-1]
    await asyncio.sleep(0)
    assert len(statements) == 1


async def test_new_version_is_read_again(sessions: Sessions, client_id: UUID) -> None:
    cache = JobListCache(sessions)
    job_id, other = await add_job(sessions, client_id), await add_job(sessions, client_id)
    before = dict((await cache.page(client_id, JobFilters(), 50)).jobs)
    async with transaction(sessions) as session:
        await session.execute(
            update(Job).where(Job.id == job_id).values(version=Job.version + 1, audio_duration_ms=4711)
        )
    after = dict((await cache.page(client_id, JobFilters(), 50)).jobs)
    assert after[other] == before[other]
    async with transaction(sessions) as session:
        assert after[job_id] == job_bytes(await find_job(session, client_id, job_id))
    assert b"4711" in after[job_id]


async def test_cache_stays_within_its_size(sessions: Sessions, client_id: UUID, statements: list[str]) -> None:
    jobs = [await add_job(sessions, client_id) for _ in range(5)]
    small = JobListCache(sessions, cache_bytes=1500)
    large = await JobListCache(sessions).page(client_id, JobFilters(), 50)
    assert await small.page(client_id, JobFilters(), 50) == large
    assert len(large.jobs) == len(jobs)
    await asyncio.sleep(0)  # the statements of the call before are logged now
    statements.clear()
    assert await small.page(client_id, JobFilters(), 50) == large
    await asyncio.sleep(0)
    assert len(statements) == 2


async def test_job_larger_than_the_cache_is_listed(sessions: Sessions, client_id: UUID) -> None:
    job_id = await add_job(sessions, client_id)
    listed = await JobListCache(sessions, cache_bytes=10).page(client_id, JobFilters(), 50)
    assert [each for each, _ in listed.jobs] == [job_id]


@pytest.mark.parametrize("cache_bytes", [0, LIST_CACHE_BYTES])
async def test_page_ends_at_its_size_but_has_a_job(sessions: Sessions, client_id: UUID, cache_bytes: int) -> None:
    jobs = [await add_job(sessions, client_id) for _ in range(5)][::-1]
    cache = JobListCache(sessions, cache_bytes=cache_bytes)
    size = len((await cache.page(client_id, JobFilters(), 1)).jobs[0][1])
    for page_bytes, shown in ((1, 1), (size, 1), (size + 1, 2), (10 * size, 5)):
        listed = await cache.page(client_id, JobFilters(), 50, page_bytes=page_bytes)
        assert [each for each, _ in listed.jobs] == jobs[:shown]
        assert listed.next_before == (jobs[shown - 1] if shown < 5 else None)


@pytest.mark.slow
async def test_list_of_large_jobs_is_complete_and_read_in_parts(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    url = "https://example.com/" + "a" * 4000
    created = []
    for _ in range(45):
        response = await api.post("/v1/jobs", json={"file_urls": [f"{url}{number:03d}" for number in range(100)]})
        created.append(response.json()["id"])
    listed: list[str] = []
    sizes: list[int] = []
    cursor = None
    while cursor or not listed:
        response = await api.get("/v1/jobs", params={"limit": 200} | ({"cursor": cursor} if cursor else {}))
        listed += [job["id"] for job in response.json()["items"]]
        cursor = response.json()["next_cursor"]
        sizes.append(len(response.content))
    assert listed == created[::-1]
    assert len(sizes) == 3
    assert max(sizes) < PAGE_BYTES + 500_000


async def test_deleted_jobs_end_no_page(sessions: Sessions, client_id: UUID) -> None:
    jobs = [await add_job(sessions, client_id) for _ in range(4)][::-1]
    async with raw_connection(sessions) as connection:
        found = await find_first_jobs(connection, client_id, [*jobs[:1], UUID(int=1), *jobs[2:]], read_bytes=1)
        assert [snapshot.job.id for snapshot in found] == jobs[:1]
        assert await find_first_jobs(connection, client_id, [UUID(int=1)], read_bytes=1) == []


@pytest.mark.parametrize("deleted", [[0, 1], [1], [0, 1, 2, 3]])
async def test_jobs_that_are_deleted_while_a_page_is_read_do_not_end_the_list(
    sessions: Sessions, client_id: UUID, monkeypatch: pytest.MonkeyPatch, deleted: list[int]
) -> None:
    """The jobs are deleted after the statement that reads the versions, and before the one that reads the jobs."""
    jobs = [await add_job(sessions, client_id) for _ in range(4)][::-1]
    gone = [jobs[index] for index in deleted]

    async def find_after_delete(*arguments: Any, **options: Any) -> Any:
        async with transaction(sessions) as session:
            await session.execute(delete(Job).where(Job.id.in_(gone)))
        return await find_first_jobs(*arguments, **options)

    monkeypatch.setattr(batched_calls, "find_first_jobs", find_after_delete)
    cache = JobListCache(sessions)
    first = await cache.page(client_id, JobFilters(), 2)
    assert [job_id for job_id, _ in first.jobs] == [job_id for job_id in jobs[:2] if job_id not in gone]
    assert first.next_before == jobs[1]
    rest = await cache.page(client_id, JobFilters(before_id=first.next_before), 2)
    assert [job_id for job_id, _ in rest.jobs] == [job_id for job_id in jobs[2:] if job_id not in gone]
    assert rest.next_before is None


async def test_deleted_jobs_leave_the_list_although_they_are_cached(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    await add_job(sessions, client_id)
    assert len((await api.get("/v1/jobs")).json()["items"]) == 1
    async with transaction(sessions) as session:
        await session.execute(delete(Job))
    assert (await api.get("/v1/jobs")).json()["items"] == []
