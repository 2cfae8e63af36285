"""RETENTION_DAYS: jobs that finished longer ago are deleted with all their rows, and nothing else is."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
import structlog
from prometheus_client import REGISTRY
from sqlalchemy import text

from app.db import Sessions, transaction
from app.errors import NotFound
from app.identifiers import UUID_MIN, new_id
from app.queue.commands import retry_job
from app.queue.retention import FILES_PER_STEP, PurgeStep, delete_task_rows, purge_jobs
from app.webhooks.outbox import Attempt, Event, claim, enqueue, record
from tests.jobs.rows import CANCELED, FAILED, QUEUED, RUNNING, SUCCEEDED, add_job
from tests.poller.conftest import QueueClient, StartPoller
from tests.transcripts.transcript_store import store

DAYS = 30


async def add_old(queue: QueueClient, files: Sequence[dict[str, Any]] = (SUCCEEDED,), *, ago: str = "31 days") -> UUID:
    """A job that was created and finished that long ago."""
    (row,) = await queue.rows("SELECT now() - CAST(CAST(:ago AS text) AS interval) AS at", ago=ago)
    job_id = await add_job(queue.sessions, queue.client_id, files, created_at=row.at)
    await queue.rows(
        "UPDATE jobs SET finished_at = :at WHERE id = :id AND finished_at IS NOT NULL RETURNING id",
        at=row.at,
        id=job_id,
    )
    return job_id


async def step(sessions: Sessions, after: UUID = UUID_MIN) -> PurgeStep:
    async with transaction(sessions) as session:
        return await purge_jobs(session, DAYS, after=after)


async def purge_all(sessions: Sessions) -> list[int]:
    """The number of jobs that each step deleted."""
    steps = [await step(sessions)]
    while not steps[-1].done:
        steps.append(await step(sessions, steps[-1].after))
    return [each.jobs for each in steps]


async def remaining(queue: QueueClient) -> set[UUID]:
    return {row.id for row in await queue.rows("SELECT id FROM jobs")}


async def test_purge_deletes_only_jobs_that_finished_long_enough_ago(queue: QueueClient) -> None:
    old = [await add_old(queue, [files]) for files in (SUCCEEDED, FAILED, CANCELED)]
    young = await add_old(queue, ago="29 days")
    new = await add_job(queue.sessions, queue.client_id, [SUCCEEDED])
    await queue.rows("UPDATE jobs SET finished_at = now() WHERE id = :id RETURNING id", id=new)
    assert sum(await purge_all(queue.sessions)) == len(old)
    assert await remaining(queue) == {young, new}


async def test_purge_keeps_open_jobs_of_any_age(queue: QueueClient) -> None:
    open_jobs = {await add_old(queue, files) for files in ([QUEUED], [RUNNING], [SUCCEEDED, QUEUED], [FAILED, RUNNING])}
    assert sum(await purge_all(queue.sessions)) == 0
    assert await remaining(queue) == open_jobs


async def test_purge_keeps_a_job_that_finished_exactly_at_the_cutoff(queue: QueueClient) -> None:
    at_border, beyond = await add_old(queue), await add_old(queue)
    async with transaction(queue.sessions) as session:  # now() is constant in a transaction
        await session.execute(text("UPDATE jobs SET finished_at = now() - interval '30 days'"))
        await session.execute(
            text("UPDATE jobs SET finished_at = finished_at - interval '1 microsecond' WHERE id = :id"), {"id": beyond}
        )
        assert (await purge_jobs(session, DAYS)).jobs == 1
    assert await remaining(queue) == {at_border}


async def test_purge_deletes_all_rows_of_the_job_and_none_of_other_jobs(queue: QueueClient) -> None:
    tables = ("jobs", "files", "transcripts", "transcript_bodies", "deliveries", "delivery_attempts")
    jobs = await add_old(queue), await add_old(queue, ago="1 day")
    for job in jobs:
        await store(queue.sessions, queue.client_id, job_id=job)
        delivery = new_id()
        await queue.rows(
            "INSERT INTO deliveries (id, job_id, client_id, type, url, host, body)"
            " VALUES (:id, :job, :client, 'job.succeeded', 'https://example.com', 'example.com:443', '{}') RETURNING 1",
            id=delivery,
            job=job,
            client=queue.client_id,
        )
        await queue.rows(
            "INSERT INTO delivery_attempts (delivery_id, number, started_at, duration_ms)"
            " VALUES (:id, 1, now(), 5) RETURNING 1",
            id=delivery,
        )
    assert await purge_all(queue.sessions) == [1, 0]
    assert await remaining(queue) == {jobs[1]}
    for table in tables:
        (row,) = await queue.rows(f"SELECT count(*) AS number FROM {table}")  # noqa: S608 - constants
        assert row.number == 1, table


async def test_purge_deletes_pending_deliveries_and_attempts_in_flight_store_nothing(queue: QueueClient) -> None:
    job = await add_old(queue)
    event = Event(queue.client_id, job, "job.succeeded", "https://example.com/hook", "{}")
    async with transaction(queue.sessions) as session:
        await enqueue(session, [event])
    async with transaction(queue.sessions) as session:
        (in_flight,) = await claim(session, [])
    assert await purge_all(queue.sessions) == [1, 0]
    async with transaction(queue.sessions) as session:
        assert not await record(session, in_flight, Attempt(duration_ms=5, response_status=204))
    assert not await queue.rows("SELECT id FROM deliveries")


async def test_purge_step_deletes_a_limited_number_of_files(queue: QueueClient) -> None:
    half = [SUCCEEDED] * (FILES_PER_STEP // 2)
    for files in (half, half, [SUCCEEDED], half, [SUCCEEDED]):
        await add_old(queue, files)
    assert await purge_all(queue.sessions) == [2, 3, 0]


async def test_purge_of_a_large_job_deletes_its_transcripts_first(queue: QueueClient) -> None:
    job = await add_old(queue, [SUCCEEDED] * (FILES_PER_STEP + 1))
    for index in range(FILES_PER_STEP + 1):
        transcript = await store(queue.sessions, queue.client_id, job_id=job, file_index=index)
        await queue.rows(
            "UPDATE files SET transcript_id = :id WHERE job_id = :job AND index = :index RETURNING index",
            id=transcript.id,
            job=job,
            index=index,
        )
    assert (await step(queue.sessions)).jobs == 0
    (transcript_left,) = await queue.rows("SELECT id FROM transcripts")
    assert [file.transcript_id for file in await queue.files(job) if file.transcript_id] == [transcript_left.id]
    assert await remaining(queue) == {job}
    assert await purge_all(queue.sessions) == [0, 1, 0]
    assert await remaining(queue) == set()


async def test_concurrent_purges_share_the_work_and_skip_locked_jobs(queue: QueueClient) -> None:
    jobs = [await add_old(queue, [SUCCEEDED] * FILES_PER_STEP) for _ in range(6)]
    async with queue.sessions() as session:
        await session.execute(text("SELECT FROM jobs WHERE id = :id FOR UPDATE"), {"id": jobs[0]})
        done = await asyncio.gather(purge_all(queue.sessions), purge_all(queue.sessions))
        assert sum(map(sum, done)) == len(jobs) - 1
        assert await remaining(queue) == {jobs[0]}


async def test_purge_skips_a_job_that_is_being_retried(queue: QueueClient) -> None:
    job = await add_old(queue, [FAILED])
    async with queue.sessions() as session:
        await retry_job(session, queue.client_id, job)
        assert sum(await purge_all(queue.sessions)) == 0
        await session.commit()
    assert sum(await purge_all(queue.sessions)) == 0
    assert [file.status for file in await queue.files(job)] == ["queued"]


async def test_retry_of_a_purged_job_is_not_found(queue: QueueClient) -> None:
    job = await add_old(queue, [FAILED])

    async def retry() -> None:
        async with transaction(queue.sessions) as session:
            await retry_job(session, queue.client_id, job)

    async with queue.sessions() as session:
        assert (await purge_jobs(session, DAYS)).jobs == 1
        late = asyncio.create_task(retry())
        await queue.until(
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        await session.commit()
        with pytest.raises(NotFound):
            await late


async def test_task_row_is_deleted_after_the_last_of_its_files(queue: QueueClient) -> None:
    old, young = await add_old(queue), await add_old(queue, ago="1 day")
    shared = await queue.files(young)
    await queue.rows("UPDATE files SET task_id = :task RETURNING index", task=shared[0].task_id)
    await queue.rows("UPDATE tasks SET state = 'done', done_at = now() - interval '31 days' RETURNING id")
    await purge_all(queue.sessions)
    async with transaction(queue.sessions) as session:
        assert (
            await delete_task_rows(session, min_hours=24 * DAYS) == 1
        )  # the old job's own, which carries nothing any more
    assert [row.id for row in await queue.rows("SELECT id FROM tasks")] == [shared[0].task_id]
    assert await remaining(queue) == {young} != {old}


async def test_task_row_stays_while_upstream_lists_the_task(queue: QueueClient) -> None:
    await add_old(queue)
    await queue.rows("DELETE FROM jobs RETURNING id")
    await queue.rows("UPDATE tasks SET state = 'done', done_at = now() - interval '24 hours 30 minutes' RETURNING id")
    async with transaction(queue.sessions) as session:
        assert await delete_task_rows(session) == 0


async def test_poller_purges_with_a_retention_and_counts_and_logs_it(
    queue: QueueClient, start_poller: StartPoller
) -> None:
    jobs = [await add_old(queue) for _ in range(3)]
    before = REGISTRY.get_sample_value("asr_gateway_jobs_purged_total") or 0
    async with start_poller():
        done = await queue.post("https://example.com/a.wav")
        await queue.final(done)
    assert await remaining(queue) == {*jobs, done}
    with structlog.testing.capture_logs() as lines:
        async with start_poller(retention_days=DAYS):
            await queue.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM jobs WHERE id = ANY(:ids))", ids=jobs)
    assert await remaining(queue) == {done}
    assert (REGISTRY.get_sample_value("asr_gateway_jobs_purged_total") or 0) - before == 3
    assert [line for line in lines if line["event"] == "jobs purged"] == [
        {"event": "jobs purged", "jobs": 3, "retention_days": DAYS, "log_level": "info"}
    ]
