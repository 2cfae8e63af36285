"""Jobs that clients cancel, retry and delete while the poller and upstream work on them."""

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
from app.queue.claiming import Claim
from app.queue.commands import cancel_job, cancel_open_files, delete_job, retry_job
from app.queue.polling import open_files
from app.queue.results import Result, TaskResults, store_results
from app.queue.submissions import fail_files, mark_running, mark_unsure, requeue, split_group
from app.queue.submit_queues import SubmitQueue
from app.sandbox import Faults, RunningSandbox, SandboxConfig
from tests.poller.conftest import QueueClient, StartPoller, until
from tests.queue.claims import claim_task

A, B = "https://example.com/a.wav", "https://example.com/b.wav"
# With one submit a second all queued files are submitted in one task.
TOGETHER: dict[str, Any] = {"dashscope_beijing_submit_rps": 1}
QUEUE = SubmitQueue(account="beijing/default", region="beijing", model="fun-asr", max_files=100, submits_per_s=1)
LONG_QUEUE = SandboxConfig(queue_s=3600, run_s=0.1)
LONG_RUN = SandboxConfig(queue_s=0, run_s=3600)
SHORT_QUEUE = SandboxConfig(queue_s=1.5, run_s=0.1)
FAILED = Failure(FailureKind.PERMANENT, "audio_unreadable", "DECODE_ERROR")

Change = Callable[[AsyncSession, UUID, UUID], Awaitable[Any]]


async def cancel(queue: QueueClient, job: UUID) -> None:
    await cancel_job(queue.sessions, queue.client_id, job)


async def change(queue: QueueClient, change: Change, job: UUID) -> None:
    async with transaction(queue.sessions) as session:
        await change(session, queue.client_id, job)


async def claim(queue: QueueClient, submit_queue: SubmitQueue = QUEUE) -> Claim | None:
    async with transaction(queue.sessions) as session:
        return await claim_task(session, submit_queue)


async def record(
    queue: QueueClient, function: Callable[..., Awaitable[Any]], claimed: Claim | None, **values: Any
) -> None:
    assert claimed is not None
    async with transaction(queue.sessions) as session:
        await function(session, claimed.task_id, **values)


async def accept(queue: QueueClient, claimed: Claim | None) -> None:
    await record(queue, mark_running, claimed, upstream_task_id=str(uuid4()), poll_in_s=0)


async def statuses(queue: QueueClient, *jobs: UUID) -> list[str]:
    return [file.status for job in jobs for file in await queue.files(job)]


def upstream(sandbox: RunningSandbox) -> list[str]:
    return [sandbox.state.status_of(task).value for task in sandbox.state.tasks.values()]


def calls(sandbox: RunningSandbox, kind: str) -> int:
    return sum(count for call, count in sandbox.state.counts.items() if call.kind == kind)


async def assert_counters_match_the_files(queue: QueueClient) -> None:
    wrong = """
        SELECT jobs.id FROM jobs WHERE
            (files_queued, files_running, files_succeeded, files_failed, files_canceled) <> (
                SELECT count(*) FILTER (WHERE status IN ('queued', 'submitting')),
                       count(*) FILTER (WHERE status = 'running'), count(*) FILTER (WHERE status = 'succeeded'),
                       count(*) FILTER (WHERE status = 'failed'), count(*) FILTER (WHERE status = 'canceled')
                FROM files WHERE job_id = jobs.id)
    """
    assert not await queue.rows(wrong)


async def test_file_canceled_before_the_submit_never_reaches_upstream(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    canceled, kept = await queue.post(A), await queue.post(B)
    await cancel(queue, canceled)
    async with start_poller():
        assert await queue.final(canceled, kept) == ["canceled", "succeeded"]
    assert sandbox.state.submitted_files() == {B: 1}


@pytest.mark.parametrize("sandbox", [LONG_QUEUE], indirect=True)
async def test_pending_tasks_are_canceled_upstream(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    job = await queue.post(*(f"https://example.com/{number}.wav" for number in range(5)))
    async with start_poller():
        await queue.until("SELECT 1 FROM jobs WHERE files_running = 5")
        await cancel(queue, job)
        await queue.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM tasks WHERE state <> 'done')")
    assert set(upstream(sandbox)) == {"CANCELED"}
    assert {row.upstream_status for row in await queue.rows("SELECT upstream_status FROM tasks")} == {"CANCELED"}
    assert await statuses(queue, job) == ["canceled"] * 5


@pytest.mark.parametrize("sandbox", [SHORT_QUEUE], indirect=True)
async def test_task_shared_with_another_job_continues_for_that_job(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    canceled, kept = await queue.post(A), await queue.post(B)
    async with start_poller(**TOGETHER):
        await queue.until("SELECT 1 FROM tasks WHERE state = 'running' AND file_count = 2")
        await cancel(queue, canceled)
        assert await queue.final(canceled, kept) == ["canceled", "succeeded"]
    assert upstream(sandbox) == ["SUCCEEDED"]
    assert calls(sandbox, "cancel") == 0
    assert [row.job_id for row in await queue.rows("SELECT job_id FROM transcripts")] == [kept]


@pytest.mark.parametrize("sandbox", [LONG_QUEUE], indirect=True)
async def test_shared_task_is_canceled_after_all_its_jobs(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    jobs = [await queue.post(A), await queue.post(B)]
    async with start_poller(**TOGETHER):
        await queue.until("SELECT 1 FROM tasks WHERE state = 'running' AND file_count = 2")
        await asyncio.gather(*(cancel(queue, job) for job in jobs))
        await queue.until("SELECT 1 FROM tasks WHERE state = 'done'")
    assert upstream(sandbox) == ["CANCELED"]


@pytest.mark.parametrize("sandbox", [LONG_RUN], indirect=True)
async def test_task_that_runs_upstream_is_polled_on_after_a_cancel(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    job = await queue.post(A)
    async with start_poller():
        await queue.until("SELECT 1 FROM jobs WHERE files_running = 1")
        await cancel(queue, job)
        await queue.until("SELECT 1 FROM tasks WHERE cancel_wanted_at IS NULL")
        queries = calls(sandbox, "query")
        await until(lambda: calls(sandbox, "query") > queries + 1)
    assert upstream(sandbox) == ["RUNNING"]
    assert calls(sandbox, "cancel") == 1
    assert await statuses(queue, job) == ["canceled"]


@pytest.mark.parametrize("sandbox", [replace(LONG_QUEUE, faults=Faults(slow_s=1.0))], indirect=True)
async def test_task_canceled_during_its_submit_is_canceled_upstream_afterwards(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    job = await queue.post(A)
    async with start_poller():
        await until(lambda: sandbox.state.received["submit"])
        sandbox.state.faults = Faults()  # applies to later calls
        await cancel(queue, job)
        await queue.until("SELECT 1 FROM tasks WHERE state = 'done'")
    assert upstream(sandbox) == ["CANCELED"]
    assert await statuses(queue, job) == ["canceled"]


@pytest.mark.parametrize("sandbox", [replace(LONG_QUEUE, query_rps=5)], indirect=True)
async def test_cancel_is_retried_while_upstream_is_unreachable_or_throttles(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    job = await queue.post(A)
    async with start_poller():
        await queue.until("SELECT 1 FROM jobs WHERE files_running = 1")
        sandbox.state.faults = Faults(down=True)
        await cancel(queue, job)
        await until(lambda: sandbox.state.received["cancel"])
        sandbox.state.faults = Faults(throttle_rate=0.5)
        await queue.until("SELECT 1 FROM tasks WHERE state = 'done'")
    assert upstream(sandbox) == ["CANCELED"]


async def test_lost_submit_with_a_canceled_file_is_found_for_its_other_file(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    """Upstream's task contains the canceled file too. Without it the task would not match, and B be submitted twice."""
    sandbox.state.faults = Faults(drop_submit_rate=1.0, list_refused=True)
    canceled, kept = await queue.post(A), await queue.post(B)
    async with start_poller(**TOGETHER):
        await queue.until("SELECT 1 FROM tasks WHERE state = 'unsure' AND file_count = 2")
        await cancel(queue, canceled)
        sandbox.state.faults = Faults()
        assert await queue.final(canceled, kept) == ["canceled", "succeeded"]
    assert sandbox.state.transcribed_files() == {A: 1, B: 1}
    assert not await queue.rows("SELECT id FROM tasks WHERE state <> 'done' OR canceled_urls <> '{}'")


async def test_cancel_retry_and_delete_during_a_lost_submit_do_not_affect_other_files(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    sandbox.state.faults = Faults(drop_submit_rate=1.0, list_refused=True)
    retried, deleted = await queue.post(A), await queue.post("https://example.com/deleted.wav")
    kept = await queue.post(B)
    async with start_poller(**TOGETHER):
        await queue.until("SELECT 1 FROM tasks WHERE state = 'unsure' AND file_count = 3")
        await cancel(queue, retried)
        await cancel(queue, deleted)
        await change(queue, delete_job, deleted)
        sandbox.state.faults = Faults()
        await change(queue, retry_job, retried)
        assert await queue.final(retried, kept) == ["succeeded"] * 2
    assert sandbox.state.transcribed_files()[B] == 1


async def test_lost_submit_without_open_files_is_reconciled(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    sandbox.state.faults = Faults(drop_submit_rate=1.0)
    job = await queue.post(A)
    async with start_poller():
        await queue.until("SELECT 1 FROM tasks WHERE state = 'unsure'")
        await cancel(queue, job)
        await queue.until("SELECT 1 FROM tasks WHERE state = 'done'")
    assert len(sandbox.state.submits) == 1
    assert await statuses(queue, job) == ["canceled"]


async def test_retry_succeeds_once_upstream_can_read_the_file(queue: QueueClient, start_poller: StartPoller) -> None:
    job = await queue.post(A, "https://example.com/bad.wav?sandbox=fail_once:DECODE_ERROR")
    async with start_poller():
        assert await queue.final(job) == ["partial"]
        await change(queue, retry_job, job)
        assert await queue.final(job) == ["succeeded"]
    assert [file.attempts for file in await queue.files(job)] == [1, 2]
    await assert_counters_match_the_files(queue)


async def test_canceled_job_succeeds_after_a_retry(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    job = await queue.post(A)
    await cancel(queue, job)
    await change(queue, retry_job, job)
    async with start_poller():
        assert await queue.final(job) == ["succeeded"]
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
async def test_canceled_file_stays_canceled_for_every_outcome_of_its_submit(
    queue: QueueClient, function: Callable[..., Awaitable[Any]], values: dict[str, Any]
) -> None:
    canceled, kept = await queue.post(A), await queue.post(B)
    claimed = await claim(queue)
    await cancel(queue, canceled)
    await record(queue, function, claimed, **values)
    assert await statuses(queue, canceled) == ["canceled"]
    assert (await statuses(queue, kept))[0] in {"running", "queued", "submitting", "failed"}
    await assert_counters_match_the_files(queue)


async def test_requeue_of_a_canceled_file_deletes_the_task_row(
    queue: QueueClient,
) -> None:
    job = await queue.post(A)
    claimed = await claim(queue)
    await cancel(queue, job)
    await record(queue, requeue, claimed)
    assert not await queue.rows("SELECT id FROM tasks")


async def test_refused_group_teaches_no_limit_if_the_bad_file_was_canceled(queue: QueueClient) -> None:
    good, bad = await queue.post(A), await queue.post(B)
    await record(queue, split_group, await claim(queue), last_error="", suspect=True)
    await cancel(queue, bad)
    await accept(queue, await claim(queue))
    assert await statuses(queue, good, bad) == ["running", "canceled"]
    assert not await queue.rows("SELECT * FROM group_limits")


async def test_file_that_was_refused_alone_is_retried_alone(queue: QueueClient) -> None:
    bad = await queue.post(A)
    await record(queue, split_group, await claim(queue), last_error="", suspect=True)
    await record(queue, fail_files, await claim(queue), failure=FAILED)
    await change(queue, retry_job, bad)
    await queue.post(B)
    claimed = await claim(queue)
    assert claimed is not None
    assert claimed.file_urls == [A]


async def test_file_that_finishes_during_a_cancel_stays_finished(queue: QueueClient) -> None:
    job = await queue.post(A)
    task_id, token = await ended_task(queue)
    async with transaction(queue.sessions) as poller:
        await finish(poller, task_id, token)
        canceling = asyncio.create_task(cancel(queue, job))
        await waits_for_a_lock(queue)
    with pytest.raises(JobFinal):
        await canceling
    assert await statuses(queue, job) == ["failed"]
    await assert_counters_match_the_files(queue)


async def test_result_that_arrives_after_a_cancel_is_dropped(queue: QueueClient) -> None:
    job = await queue.post(A)
    task_id, token = await ended_task(queue)

    async def collect() -> None:
        async with transaction(queue.sessions) as poller:
            await finish(poller, task_id, token)

    async with transaction(queue.sessions) as client:
        assert await cancel_open_files(client, queue.client_id, job) == 1
        collecting = asyncio.create_task(collect())
        await waits_for_a_lock(queue)
    await collecting
    assert await statuses(queue, job) == ["canceled"]
    await assert_counters_match_the_files(queue)


async def ended_task(queue: QueueClient) -> tuple[UUID, UUID]:
    """A task with one file that upstream accepted, with a lease."""
    claimed = await claim(queue)
    await accept(queue, claimed)
    assert claimed is not None
    await queue.rows(
        "UPDATE tasks SET lease_token = :token, lease_until = now() + interval '20 s' RETURNING id", token=claimed.token
    )
    return claimed.task_id, claimed.token


async def finish(session: AsyncSession, task_id: UUID, token: UUID) -> None:
    files = await open_files(session, task_id)
    results = [Result(file, "failed", failure=FAILED) for file in files]
    await store_results(session, [TaskResults(task_id, token, "FAILED", results=results)])


async def waits_for_a_lock(queue: QueueClient) -> None:
    await queue.until("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")


async def test_concurrent_cancels_and_submits_neither_deadlock_nor_miscount(queue: QueueClient) -> None:
    submit_queue = replace(QUEUE, submits_per_s=10)
    jobs = [await queue.post(*(f"https://example.com/{job}/{number}.wav" for number in range(40))) for job in range(4)]

    async def work() -> None:
        while claimed := await claim(queue, submit_queue):
            if int(claimed.task_id) % 3:
                await accept(queue, claimed)
            else:
                await record(queue, mark_unsure, claimed, last_error="", poll_in_s=0)

    await asyncio.gather(*(work() for _ in range(4)), *(cancel(queue, job) for job in jobs))
    assert await queue.final(*jobs) == ["canceled"] * 4
    await assert_counters_match_the_files(queue)
    assert not await queue.rows("SELECT 1 FROM tasks WHERE state IN ('running', 'unsure') AND cancel_wanted_at IS NULL")
    assert not await queue.rows(
        "SELECT 1 FROM tasks WHERE state = 'unsure' AND cardinality(canceled_urls) < file_count"
    )


async def test_deleted_job_does_not_disturb_a_shared_task(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    deleted, kept = await queue.post(A), await queue.post(B)
    async with start_poller(**TOGETHER):
        await queue.until("SELECT 1 FROM tasks WHERE state = 'running' AND file_count = 2")
        await cancel(queue, deleted)
        await change(queue, delete_job, deleted)
        assert await queue.final(kept) == ["succeeded"]
        await queue.until("SELECT 1 FROM tasks WHERE state = 'done'")
    async with transaction(queue.sessions) as session:
        assert list(await session.scalars(text("SELECT job_id FROM files"))) == [kept]
