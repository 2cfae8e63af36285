"""Jobs that clients cancel, retry and delete while the poller and upstream are at work on them."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.dashscope.failures import Failure, FailureKind
from app.db import transaction
from app.errors import JobFinal
from app.queue.claiming import Claim, SubmitQueue, claim_files
from app.queue.commands import cancel_job, cancel_open_files, delete_job, retry_job
from app.queue.polling import open_files
from app.queue.results import Result, lock_for_result, store_results
from app.queue.submissions import fail_files, mark_running, mark_unsure, requeue, split_group
from app.sandbox import Faults, RunningSandbox, SandboxConfig
from tests.poller.conftest import Desk, StartPoller

A, B = "https://example.com/a.wav", "https://example.com/b.wav"
# At one submit a second whatever waits goes out in one task.
TOGETHER: dict[str, Any] = {"dashscope_beijing_submit_rps": 1}
LOT = SubmitQueue(account="beijing/default", region="beijing", model="fun-asr", max_files=100, submits_per_s=1)
LONG_QUEUE = SandboxConfig(queue_s=3600, run_s=0.1)
LONG_RUN = SandboxConfig(queue_s=0, run_s=3600)
SHORT_QUEUE = SandboxConfig(queue_s=1.5, run_s=0.1)
FAILED = Failure(FailureKind.PERMANENT, "audio_unreadable", "DECODE_ERROR")

Change = Callable[[AsyncSession, UUID, UUID], Awaitable[Any]]


async def cancel(services: Desk, job: UUID) -> None:
    await cancel_job(services.sessions, services.client_id, job)


async def change(services: Desk, change: Change, job: UUID) -> None:
    async with transaction(services.sessions) as session:
        await change(session, services.client_id, job)


async def claim(services: Desk, submit_queue: SubmitQueue = LOT) -> Claim | None:
    async with transaction(services.sessions) as session:
        return await claim_files(session, submit_queue, token=uuid4())


async def record(services: Desk, function: Callable[..., Awaitable[Any]], claimed: Claim | None, **values: Any) -> None:
    assert claimed is not None
    async with transaction(services.sessions) as session:
        await function(session, claimed.task_id, **values)


async def accept(services: Desk, claimed: Claim | None) -> None:
    await record(services, mark_running, claimed, upstream_task_id=str(uuid4()), poll_in_s=0)


async def statuses(services: Desk, *jobs: UUID) -> list[str]:
    return [file.status for job in jobs for file in await services.files(job)]


def upstream(sandbox: RunningSandbox) -> list[str]:
    return [sandbox.state.status_of(task).value for task in sandbox.state.tasks.values()]


def calls(sandbox: RunningSandbox, kind: str) -> int:
    return sum(count for call, count in sandbox.state.counts.items() if call.kind == kind)


async def assert_counters_are_those_of_the_files(services: Desk) -> None:
    wrong = """
        SELECT jobs.id FROM jobs WHERE
            (files_queued, files_running, files_succeeded, files_failed, files_canceled) <> (
                SELECT count(*) FILTER (WHERE status IN ('queued', 'submitting')),
                       count(*) FILTER (WHERE status = 'running'), count(*) FILTER (WHERE status = 'succeeded'),
                       count(*) FILTER (WHERE status = 'failed'), count(*) FILTER (WHERE status = 'canceled')
                FROM files WHERE job_id = jobs.id)
    """
    assert not await services.rows(wrong)


async def test_what_is_canceled_before_the_submit_never_reaches_upstream(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    canceled, kept = await services.post(A), await services.post(B)
    await cancel(services, canceled)
    async with start_poller():
        assert await services.final(canceled, kept) == ["canceled", "succeeded"]
    assert sandbox.state.submitted_files() == {B: 1}


@pytest.mark.parametrize("sandbox", [LONG_QUEUE], indirect=True)
async def test_tasks_that_are_pending_upstream_are_cancelled_there(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    job = await services.post(*(f"https://example.com/{number}.wav" for number in range(5)))
    async with start_poller():
        await services.until("SELECT 1 FROM jobs WHERE files_running = 5")
        await cancel(services, job)
        await services.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM tasks WHERE state <> 'done')")
    assert set(upstream(sandbox)) == {"CANCELED"}
    assert {row.upstream_status for row in await services.rows("SELECT upstream_status FROM tasks")} == {"CANCELED"}
    assert await statuses(services, job) == ["canceled"] * 5


@pytest.mark.parametrize("sandbox", [SHORT_QUEUE], indirect=True)
async def test_a_task_that_another_job_shares_goes_on_for_that_job(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    canceled, kept = await services.post(A), await services.post(B)
    async with start_poller(**TOGETHER):
        await services.until("SELECT 1 FROM tasks WHERE state = 'running' AND file_count = 2")
        await cancel(services, canceled)
        assert await services.final(canceled, kept) == ["canceled", "succeeded"]
    assert upstream(sandbox) == ["SUCCEEDED"]
    assert calls(sandbox, "cancel") == 0
    assert [row.job_id for row in await services.rows("SELECT job_id FROM transcripts")] == [kept]


@pytest.mark.parametrize("sandbox", [LONG_QUEUE], indirect=True)
async def test_a_shared_task_is_cancelled_once_all_its_jobs_are(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    jobs = [await services.post(A), await services.post(B)]
    async with start_poller(**TOGETHER):
        await services.until("SELECT 1 FROM tasks WHERE state = 'running' AND file_count = 2")
        await asyncio.gather(*(cancel(services, job) for job in jobs))
        await services.until("SELECT 1 FROM tasks WHERE state = 'done'")
    assert upstream(sandbox) == ["CANCELED"]


@pytest.mark.parametrize("sandbox", [LONG_RUN], indirect=True)
async def test_what_upstream_has_begun_is_dropped_and_looked_at_no_more(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    job = await services.post(A)
    async with start_poller():
        await services.until("SELECT 1 FROM jobs WHERE files_running = 1")
        await cancel(services, job)
        await services.until("SELECT 1 FROM tasks WHERE state = 'done' AND last_error LIKE 'not canceled%'")
        queries = calls(sandbox, "query")
        other = await services.post("https://example.com/other.wav?sandbox=run:1")
        assert await services.final(other) == ["succeeded"]
    assert upstream(sandbox)[0] == "RUNNING"
    assert calls(sandbox, "cancel") == 1
    assert calls(sandbox, "query") - queries == sum(task.polls + 1 for task in await done_tasks(services, other))


async def done_tasks(services: Desk, job: UUID) -> Any:
    return await services.rows("SELECT polls FROM tasks JOIN files ON task_id = tasks.id WHERE job_id = :job", job=job)


@pytest.mark.parametrize("sandbox", [replace(LONG_QUEUE, faults=Faults(slow_s=1.0))], indirect=True)
async def test_what_is_canceled_while_its_submit_is_under_way_is_cancelled_upstream_afterwards(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    job = await services.post(A)
    async with start_poller():
        await services.until("SELECT 1 FROM files WHERE status = 'submitting'")
        await cancel(services, job)
        await services.until("SELECT 1 FROM tasks WHERE state = 'done'")
    assert upstream(sandbox) == ["CANCELED"]
    assert await statuses(services, job) == ["canceled"]


@pytest.mark.parametrize("sandbox", [replace(LONG_QUEUE, query_rps=5)], indirect=True)
async def test_upstream_is_asked_again_when_it_is_away_or_busy(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    job = await services.post(A)
    async with start_poller():
        await services.until("SELECT 1 FROM jobs WHERE files_running = 1")
        sandbox.state.faults = Faults(down=True)
        await cancel(services, job)
        await services.until("SELECT 1 FROM tasks WHERE cancel_wanted_at IS NOT NULL AND lease_token IS NOT NULL")
        sandbox.state.faults = Faults(throttle_rate=0.5)
        await services.until("SELECT 1 FROM tasks WHERE state = 'done'")
    assert upstream(sandbox) == ["CANCELED"]


async def test_of_a_lost_submit_the_files_that_are_not_canceled_are_found_again(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    """Upstream's task has the canceled file too: without it, it would not be known, and B submitted twice."""
    sandbox.state.faults = Faults(drop_submit_rate=1.0, list_refused=True)
    canceled, kept = await services.post(A), await services.post(B)
    async with start_poller(**TOGETHER):
        await services.until("SELECT 1 FROM tasks WHERE state = 'unsure' AND file_count = 2")
        await cancel(services, canceled)
        sandbox.state.faults = Faults()
        assert await services.final(canceled, kept) == ["canceled", "succeeded"]
    assert sandbox.state.transcribed_files() == {A: 1, B: 1}
    assert not await services.rows("SELECT id FROM tasks WHERE state <> 'done' OR canceled_urls <> '{}'")


async def test_a_file_of_a_lost_submit_may_be_canceled_retried_and_deleted_without_harm_to_the_others(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    sandbox.state.faults = Faults(drop_submit_rate=1.0, list_refused=True)
    retried, deleted = await services.post(A), await services.post("https://example.com/deleted.wav")
    kept = await services.post(B)
    async with start_poller(**TOGETHER):
        await services.until("SELECT 1 FROM tasks WHERE state = 'unsure' AND file_count = 3")
        await cancel(services, retried)
        await cancel(services, deleted)
        await change(services, delete_job, deleted)
        sandbox.state.faults = Faults()
        await change(services, retry_job, retried)
        assert await services.final(retried, kept) == ["succeeded"] * 2
    assert sandbox.state.transcribed_files()[B] == 1


async def test_a_lost_submit_of_which_nothing_is_wanted_is_settled_all_the_same(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    sandbox.state.faults = Faults(drop_submit_rate=1.0)
    job = await services.post(A)
    async with start_poller():
        await services.until("SELECT 1 FROM tasks WHERE state = 'unsure'")
        await cancel(services, job)
        await services.until("SELECT 1 FROM tasks WHERE state = 'done'")
    assert len(sandbox.state.submits) == 1
    assert await statuses(services, job) == ["canceled"]


async def test_a_retry_succeeds_once_upstream_can_read_the_file(services: Desk, start_poller: StartPoller) -> None:
    job = await services.post(A, "https://example.com/bad.wav?sandbox=fail_once:DECODE_ERROR")
    async with start_poller():
        assert await services.final(job) == ["partial"]
        await change(services, retry_job, job)
        assert await services.final(job) == ["succeeded"]
    assert [file.attempts for file in await services.files(job)] == [1, 2]
    await assert_counters_are_those_of_the_files(services)


async def test_a_canceled_job_is_done_after_all_when_it_is_retried(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    job = await services.post(A)
    await cancel(services, job)
    await change(services, retry_job, job)
    async with start_poller():
        assert await services.final(job) == ["succeeded"]
    assert sandbox.state.transcribed_files() == {A: 1}


@pytest.mark.parametrize(
    ("function", "values"),
    [
        (mark_running, {"upstream_task_id": "up", "poll_in_s": 0}),
        (requeue, {}),
        (mark_unsure, {"last_error": "", "poll_in_s": 0}),
        (split_group, {"last_error": "", "suspect": True}),
        (fail_files, {"failure": FAILED}),
    ],
)
async def test_whatever_comes_of_its_submit_a_canceled_file_stays_canceled(
    services: Desk, function: Callable[..., Awaitable[Any]], values: dict[str, Any]
) -> None:
    canceled, kept = await services.post(A), await services.post(B)
    claimed = await claim(services)
    await cancel(services, canceled)
    await record(services, function, claimed, **values)
    assert await statuses(services, canceled) == ["canceled"]
    assert (await statuses(services, kept))[0] in {"running", "queued", "submitting", "failed"}
    await assert_counters_are_those_of_the_files(services)


async def test_nothing_is_left_of_an_attempt_whose_files_were_canceled_and_that_upstream_never_had(
    services: Desk,
) -> None:
    job = await services.post(A)
    claimed = await claim(services)
    await cancel(services, job)
    await record(services, requeue, claimed)
    assert not await services.rows("SELECT id FROM tasks")


async def test_a_refused_group_teaches_no_limit_when_its_culprit_was_canceled(services: Desk) -> None:
    good, bad = await services.post(A), await services.post(B)
    await record(services, split_group, await claim(services), last_error="", suspect=True)
    await cancel(services, bad)
    await accept(services, await claim(services))
    assert await statuses(services, good, bad) == ["running", "canceled"]
    assert not await services.rows("SELECT * FROM group_limits")


async def test_a_file_that_was_refused_alone_is_retried_alone(services: Desk) -> None:
    bad = await services.post(A)
    await record(services, split_group, await claim(services), last_error="", suspect=True)
    await record(services, fail_files, await claim(services), failure=FAILED)
    await change(services, retry_job, bad)
    await services.post(B)
    claimed = await claim(services)
    assert claimed is not None
    assert claimed.file_urls == [A]


async def test_a_file_that_finishes_while_its_job_is_being_canceled_stays_finished(services: Desk) -> None:
    job = await services.post(A)
    task_id, token = await ended_task(services)
    async with transaction(services.sessions) as poller:
        await finish(poller, task_id, token)
        canceling = asyncio.create_task(cancel(services, job))
        await waits_for_a_lock(services)
    with pytest.raises(JobFinal):
        await canceling
    assert await statuses(services, job) == ["failed"]
    await assert_counters_are_those_of_the_files(services)


async def test_a_result_that_comes_while_its_job_is_being_canceled_is_dropped(services: Desk) -> None:
    job = await services.post(A)
    task_id, token = await ended_task(services)

    async def collect() -> None:
        async with transaction(services.sessions) as poller:
            await finish(poller, task_id, token)

    async with transaction(services.sessions) as client:
        assert await cancel_open_files(client, services.client_id, job) == 1
        collecting = asyncio.create_task(collect())
        await waits_for_a_lock(services)
    await collecting
    assert await statuses(services, job) == ["canceled"]
    await assert_counters_are_those_of_the_files(services)


async def ended_task(services: Desk) -> tuple[UUID, UUID]:
    """A task of one file that upstream accepted, leased by a poller."""
    claimed = await claim(services)
    await accept(services, claimed)
    assert claimed is not None
    await services.rows(
        "UPDATE tasks SET lease_token = :token, lease_until = now() + interval '20 s' RETURNING id", token=claimed.token
    )
    return claimed.task_id, claimed.token


async def finish(session: AsyncSession, task_id: UUID, token: UUID) -> None:
    files = await open_files(session, task_id)
    await lock_for_result(session, task_id, token, status="FAILED", usage_s=None)
    await store_results(session, task_id, [Result(file, "failed", failure=FAILED) for file in files])


async def waits_for_a_lock(services: Desk) -> None:
    await services.until(
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )


async def test_cancels_and_a_poller_at_work_on_the_same_tasks_neither_block_nor_miscount(services: Desk) -> None:
    submit_queue = replace(LOT, submits_per_s=10)
    jobs = [
        await services.post(*(f"https://example.com/{job}/{number}.wav" for number in range(40))) for job in range(4)
    ]

    async def work() -> None:
        while claimed := await claim(services, submit_queue):
            if int(claimed.task_id) % 3:
                await accept(services, claimed)
            else:
                await record(services, mark_unsure, claimed, last_error="", poll_in_s=0)

    await asyncio.gather(*(work() for _ in range(4)), *(cancel(services, job) for job in jobs))
    assert await services.final(*jobs) == ["canceled"] * 4
    await assert_counters_are_those_of_the_files(services)
    assert not await services.rows(
        "SELECT 1 FROM tasks WHERE state IN ('running', 'unsure') AND cancel_wanted_at IS NULL"
    )
    assert not await services.rows(
        "SELECT 1 FROM tasks WHERE state = 'unsure' AND cardinality(canceled_urls) < file_count"
    )


async def test_a_deleted_job_does_not_disturb_the_poller_that_has_its_task(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    deleted, kept = await services.post(A), await services.post(B)
    async with start_poller(**TOGETHER):
        await services.until("SELECT 1 FROM tasks WHERE state = 'running' AND file_count = 2")
        await cancel(services, deleted)
        await change(services, delete_job, deleted)
        assert await services.final(kept) == ["succeeded"]
        await services.until("SELECT 1 FROM tasks WHERE state = 'done'")
    async with transaction(services.sessions) as session:
        assert list(await session.scalars(text("SELECT job_id FROM files"))) == [kept]
