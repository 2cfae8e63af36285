"""RETENTION_DAYS: what finished longer ago goes with all that hangs on it, and nothing else does."""

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
from tests.poller.conftest import Desk, StartPoller
from tests.transcripts.transcript_store import store

DAYS = 30


async def add_old(services: Desk, files: Sequence[dict[str, Any]] = (SUCCEEDED,), *, ago: str = "31 days") -> UUID:
    """A job that was made and finished that long ago."""
    (row,) = await services.rows("SELECT now() - CAST(CAST(:ago AS text) AS interval) AS at", ago=ago)
    job_id = await add_job(services.sessions, services.client_id, files, created_at=row.at)
    await services.rows(
        "UPDATE jobs SET finished_at = :at WHERE id = :id AND finished_at IS NOT NULL RETURNING id",
        at=row.at,
        id=job_id,
    )
    return job_id


async def step(sessions: Sessions, after: UUID = UUID_MIN) -> PurgeStep:
    async with transaction(sessions) as session:
        return await purge_jobs(session, DAYS, after=after)


async def purge_all(sessions: Sessions) -> list[int]:
    """How many jobs went in each step."""
    steps = [await step(sessions)]
    while not steps[-1].done:
        steps.append(await step(sessions, steps[-1].after))
    return [each.jobs for each in steps]


async def left(services: Desk) -> set[UUID]:
    return {row.id for row in await services.rows("SELECT id FROM jobs")}


async def test_only_what_finished_longer_ago_goes(services: Desk) -> None:
    old = [await add_old(services, [files]) for files in (SUCCEEDED, FAILED, CANCELED)]
    young = await add_old(services, ago="29 days")
    new = await add_job(services.sessions, services.client_id, [SUCCEEDED])
    await services.rows("UPDATE jobs SET finished_at = now() WHERE id = :id RETURNING id", id=new)
    assert sum(await purge_all(services.sessions)) == len(old)
    assert await left(services) == {young, new}


async def test_open_jobs_stay_however_old_they_are(services: Desk) -> None:
    open_jobs = {
        await add_old(services, files) for files in ([QUEUED], [RUNNING], [SUCCEEDED, QUEUED], [FAILED, RUNNING])
    }
    assert sum(await purge_all(services.sessions)) == 0
    assert await left(services) == open_jobs


async def test_a_job_that_finished_exactly_so_long_ago_stays_for_another_microsecond(services: Desk) -> None:
    at_border, beyond = await add_old(services), await add_old(services)
    async with transaction(services.sessions) as session:  # now() stands still
        await session.execute(text("UPDATE jobs SET finished_at = now() - interval '30 days'"))
        await session.execute(
            text("UPDATE jobs SET finished_at = finished_at - interval '1 microsecond' WHERE id = :id"), {"id": beyond}
        )
        assert (await purge_jobs(session, DAYS)).jobs == 1
    assert await left(services) == {at_border}


async def test_everything_of_the_job_goes_and_nothing_of_others(services: Desk) -> None:
    tables = ("jobs", "files", "transcripts", "transcript_bodies", "deliveries", "delivery_attempts")
    jobs = await add_old(services), await add_old(services, ago="1 day")
    for job in jobs:
        await store(services.sessions, services.client_id, job_id=job)
        delivery = new_id()
        await services.rows(
            "INSERT INTO deliveries (id, job_id, client_id, type, url, host, body)"
            " VALUES (:id, :job, :client, 'job.succeeded', 'https://example.com', 'example.com:443', '{}') RETURNING 1",
            id=delivery,
            job=job,
            client=services.client_id,
        )
        await services.rows(
            "INSERT INTO delivery_attempts (delivery_id, number, started_at, duration_ms)"
            " VALUES (:id, 1, now(), 5) RETURNING 1",
            id=delivery,
        )
    assert await purge_all(services.sessions) == [1, 0]
    assert await left(services) == {jobs[1]}
    for table in tables:
        (row,) = await services.rows(f"SELECT count(*) AS number FROM {table}")  # noqa: S608 - our own names
        assert row.number == 1, table


async def test_a_webhook_that_is_owed_goes_with_its_job_and_a_try_under_way_notes_nothing(services: Desk) -> None:
    job = await add_old(services)
    event = Event(services.client_id, job, "job.succeeded", "https://example.com/hook", "{}")
    async with transaction(services.sessions) as session:
        await enqueue(session, [event])
    async with transaction(services.sessions) as session:
        (under_way,) = await claim(session, [])
    assert await purge_all(services.sessions) == [1, 0]
    async with transaction(services.sessions) as session:
        assert not await record(session, under_way, Attempt(duration_ms=5, response_status=204))
    assert not await services.rows("SELECT id FROM deliveries")


async def test_steps_are_small(services: Desk) -> None:
    half = [SUCCEEDED] * (FILES_PER_STEP // 2)
    for files in (half, half, [SUCCEEDED], half, [SUCCEEDED]):
        await add_old(services, files)
    assert await purge_all(services.sessions) == [2, 3, 0]


async def test_a_large_job_loses_its_transcripts_first_and_is_in_order_meanwhile(services: Desk) -> None:
    job = await add_old(services, [SUCCEEDED] * (FILES_PER_STEP + 1))
    for index in range(FILES_PER_STEP + 1):
        transcript = await store(services.sessions, services.client_id, job_id=job, file_index=index)
        await services.rows(
            "UPDATE files SET transcript_id = :id WHERE job_id = :job AND index = :index RETURNING index",
            id=transcript.id,
            job=job,
            index=index,
        )
    assert (await step(services.sessions)).jobs == 0
    (transcript_left,) = await services.rows("SELECT id FROM transcripts")
    assert [file.transcript_id for file in await services.files(job) if file.transcript_id] == [transcript_left.id]
    assert await left(services) == {job}
    assert await purge_all(services.sessions) == [0, 1, 0]
    assert await left(services) == set()


async def test_two_at_once_share_the_work_and_pass_by_what_is_locked(services: Desk) -> None:
    jobs = [await add_old(services, [SUCCEEDED] * FILES_PER_STEP) for _ in range(6)]
    async with services.sessions() as session:
        await session.execute(text("SELECT FROM jobs WHERE id = :id FOR UPDATE"), {"id": jobs[0]})
        done = await asyncio.gather(purge_all(services.sessions), purge_all(services.sessions))
        assert sum(map(sum, done)) == len(jobs) - 1
        assert await left(services) == {jobs[0]}


async def test_a_job_that_is_being_retried_stays(services: Desk) -> None:
    job = await add_old(services, [FAILED])
    async with services.sessions() as session:
        await retry_job(session, services.client_id, job)
        assert sum(await purge_all(services.sessions)) == 0
        await session.commit()
    assert sum(await purge_all(services.sessions)) == 0
    assert [file.status for file in await services.files(job)] == ["queued"]


async def test_a_retry_that_comes_too_late_finds_no_job(services: Desk) -> None:
    job = await add_old(services, [FAILED])

    async def retry() -> None:
        async with transaction(services.sessions) as session:
            await retry_job(session, services.client_id, job)

    async with services.sessions() as session:
        assert (await purge_jobs(session, DAYS)).jobs == 1
        late = asyncio.create_task(retry())
        await services.until(
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        await session.commit()
        with pytest.raises(NotFound):
            await late


async def test_task_rows_go_with_the_last_of_their_files(services: Desk) -> None:
    old, young = await add_old(services), await add_old(services, ago="1 day")
    shared = await services.files(young)
    await services.rows("UPDATE files SET task_id = :task RETURNING index", task=shared[0].task_id)
    await services.rows("UPDATE tasks SET state = 'done', done_at = now() - interval '31 days' RETURNING id")
    await purge_all(services.sessions)
    async with transaction(services.sessions) as session:
        assert (
            await delete_task_rows(session, min_hours=24 * DAYS) == 1
        )  # the old job's own, which carries nothing any more
    assert [row.id for row in await services.rows("SELECT id FROM tasks")] == [shared[0].task_id]
    assert await left(services) == {young} != {old}


async def test_a_task_that_upstream_still_lists_is_known_for_a_day_longer(services: Desk) -> None:
    await add_old(services)
    await services.rows("DELETE FROM jobs RETURNING id")
    await services.rows(
        "UPDATE tasks SET state = 'done', done_at = now() - interval '24 hours 30 minutes' RETURNING id"
    )
    async with transaction(services.sessions) as session:
        assert await delete_task_rows(session) == 0


async def test_the_poller_purges_counts_and_says_so_when_it_is_told_for_how_long_to_keep(
    services: Desk, start_poller: StartPoller
) -> None:
    jobs = [await add_old(services) for _ in range(3)]
    before = REGISTRY.get_sample_value("asr_gateway_jobs_purged_total") or 0
    async with start_poller():
        done = await services.post("https://example.com/a.wav")
        await services.final(done)
    assert await left(services) == {*jobs, done}
    with structlog.testing.capture_logs() as lines:
        async with start_poller(retention_days=DAYS):
            await services.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM jobs WHERE id = ANY(:ids))", ids=jobs)
    assert await left(services) == {done}
    assert (REGISTRY.get_sample_value("asr_gateway_jobs_purged_total") or 0) - before == 3
    assert [line for line in lines if line["event"] == "jobs purged"] == [
        {"event": "jobs purged", "jobs": 3, "retention_days": DAYS, "log_level": "info"}
    ]
