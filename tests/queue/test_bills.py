"""The bill of a task whose files are stored in several transactions is divided when the last of them is stored."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from uuid import UUID, uuid4

import orjson

from app.catalogue import MODELS, Recognised, TaskUsage, bill_by_duration
from app.db import transaction
from app.queue.billing import TaskBill
from app.queue.commands import cancel_job, delete_job
from app.queue.leases import LeaseLost
from app.queue.polling import TaskFile, open_files
from app.queue.results import Result, TaskResults, store_results
from app.queue.retention import delete_dropped_files
from app.queue.submissions import mark_running
from app.queue.submit_queues import SubmitQueue
from tests.poller.conftest import QueueClient
from tests.queue.claims import claim_task
from tests.queue.results import result_of

PRICE = MODELS["fun-asr"].regions["beijing"]
WEBHOOK = "https://hooks.example.com/asr"


async def running_task(queue: QueueClient, upstream_task_id: str = "upstream-1") -> tuple[UUID, UUID]:
    """The ids of a running task with all queued files, and of its lease."""
    token = uuid4()
    async with transaction(queue.sessions) as session:
        claim = await claim_task(session, SubmitQueue("beijing/default", "beijing", "fun-asr", 100, 1), token=token)
        assert claim is not None
        await mark_running(session, claim.task_id, upstream_task_id, poll_in_s=0)
    await queue.rows(
        "UPDATE tasks SET lease_token = :token, lease_until = now() + interval '60 s' RETURNING id", token=token
    )
    return claim.task_id, token


def spoken(file: TaskFile, duration_ms: int) -> Result:
    result = result_of(file, "succeeded", None)  # type: ignore[arg-type]  # no failure
    assert result.transcript is not None
    audio = Recognised(duration_ms, 1)
    transcript = replace(result.transcript, row=replace(result.transcript.row, audio_duration_ms=duration_ms))
    return replace(result, transcript=transcript, audio=audio, bill=bill_by_duration(PRICE, audio))


async def store(
    queue: QueueClient, task: tuple[UUID, UUID], files: Sequence[TaskFile], task_bill: TaskBill, duration_ms: int
) -> bool | LeaseLost:
    """Whether the task is closed. LeaseLost if it was closed before."""
    async with transaction(queue.sessions) as session:
        results = [spoken(file, duration_ms) for file in files]
        usage_s = task_bill.usage.seconds
        (closed,) = await store_results(session, [TaskResults(*task, "SUCCEEDED", usage_s, results, bill=task_bill)])
    return closed


async def costs(queue: QueueClient) -> dict[UUID, Decimal]:
    return {row.id: row.cost for row in await queue.rows("SELECT id, cost FROM jobs")}


async def test_jobs_of_a_task_share_its_bill_exactly(queue: QueueClient) -> None:
    """The first job is final before the bill is known. Its cost is corrected, without a second event."""
    first = await queue.post("https://example.com/a.wav", webhook_url=WEBHOOK)
    second = await queue.post("https://example.com/b.wav", "https://example.com/c.wav", webhook_url=WEBHOOK)
    task = await running_task(queue)
    async with transaction(queue.sessions) as session:
        a, b, c = await open_files(session, task[0])
    task_bill = TaskBill(TaskUsage(seconds=200), PRICE, 3)
    await store(queue, task, [a], task_bill, 100_000)
    assert (await costs(queue))[first] == Decimal("0.022")  # its duration, until the others are known
    (before,) = await queue.rows("SELECT finished_at FROM jobs WHERE id = :id", id=first)
    await store(queue, task, [b], task_bill, 100_000)
    await store(queue, task, [c], task_bill, 100_000)
    files = await queue.rows("SELECT job_id, billed_s, cost FROM files ORDER BY job_id, index")
    assert [str(file.billed_s) for file in files] == ["66.666", "66.667", "66.667"]
    assert sum(file.cost for file in files) == Decimal("0.044")
    assert await costs(queue) == {first: files[0].cost, second: files[1].cost + files[2].cost}
    (after,) = await queue.rows("SELECT finished_at FROM jobs WHERE id = :id", id=first)
    assert after.finished_at == before.finished_at
    deliveries = await queue.rows("SELECT job_id, body FROM deliveries")
    assert len(deliveries) == 2
    event = next(orjson.loads(row.body) for row in deliveries if row.job_id == second)
    assert event["data"]["cost"]["amount"] == "0.02933"


async def test_bill_is_settled_when_the_last_files_of_the_task_were_canceled(queue: QueueClient) -> None:
    """The canceled file has its share, which is in the cost of its job."""
    first = await queue.post("https://example.com/a.wav", "https://example.com/b.wav")
    second = await queue.post("https://example.com/c.wav")
    task = await running_task(queue)
    async with transaction(queue.sessions) as session:
        files = await open_files(session, task[0])
    task_bill = TaskBill(TaskUsage(seconds=150), PRICE, 3)
    await store(queue, task, files[:2], task_bill, 100_000)
    await cancel_job(queue.sessions, queue.client_id, second)
    assert await store(queue, task, [], task_bill, 0) is False
    async with transaction(queue.sessions) as session:
        (dropped,) = await open_files(session, task[0])
    assert dropped.dropped
    assert await store(queue, task, [dropped], task_bill, 100_000) is True
    assert await costs(queue) == {first: Decimal("0.022"), second: Decimal("0.011")}
    used = await queue.rows("SELECT job_id, sum(cost) AS cost FROM usage GROUP BY job_id")
    assert {row.job_id: row.cost for row in used} == await costs(queue)


async def test_file_does_not_pay_for_a_canceled_one(queue: QueueClient) -> None:
    first = await queue.post("https://example.com/a.wav")
    second = await queue.post("https://example.com/b.wav")
    task = await running_task(queue)
    async with transaction(queue.sessions) as session:
        files = await open_files(session, task[0])
    await cancel_job(queue.sessions, queue.client_id, second)
    await store(queue, task, files[:1], TaskBill(TaskUsage(seconds=200), PRICE, 2), 100_000)
    assert (await costs(queue))[first] == Decimal("0.022")


async def test_final_job_can_be_deleted_before_the_bill_is_settled(queue: QueueClient) -> None:
    """The usage of both jobs is the bill of their task, also if its figure is below the durations."""
    first = await queue.post("https://example.com/a.wav")
    second = await queue.post("https://example.com/b.wav")
    task = await running_task(queue)
    async with transaction(queue.sessions) as session:
        a, b = await open_files(session, task[0])
    task_bill = TaskBill(TaskUsage(seconds=150), PRICE, 2)
    await store(queue, task, [a], task_bill, 100_000)
    async with transaction(queue.sessions) as session:
        await delete_job(session, queue.client_id, first)
    await store(queue, task, [b], task_bill, 100_000)
    assert await costs(queue) == {second: Decimal("0.0165")}
    usage = await queue.rows("SELECT job_id, sum(billed_s) AS billed_s, sum(files) AS files FROM usage GROUP BY job_id")
    assert {row.job_id: (row.billed_s, row.files) for row in usage} == {first: (75, 1), second: (75, 1)}
    async with transaction(queue.sessions) as session:
        await delete_dropped_files(session)
    assert not await queue.rows("SELECT url FROM dropped_files")
