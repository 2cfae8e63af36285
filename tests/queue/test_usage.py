"""The usage has a row for each file that upstream billed or that was reused, and keeps it whatever is deleted later."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalogue import MODELS, TaskUsage, validate_job
from app.dashscope.failures import Failure, FailureKind
from app.db import transaction
from app.identifiers import new_id
from app.queue.billing import TaskBill
from app.queue.commands import cancel_job, delete_job, retry_job
from app.queue.creation import NewJob
from app.queue.leases import LeaseLost
from app.queue.polling import TaskFile, open_files
from app.queue.results import Result, TaskResults, store_results
from app.queue.retention import delete_transcript
from app.queue.reuse import create_reusing_job
from app.queue.revocation import revoke_client
from app.queue.submissions import mark_running, record_sent_urls
from app.queue.submit_queues import SubmitQueue
from app.transcripts.models import Transcript
from app.transcripts.storage import prepare_unreadable
from tests.poller.conftest import QueueClient
from tests.queue.claims import claim_task
from tests.queue.results import result_of
from tests.queue.test_bills import PRICE, running_task, spoken, store

REFUSED = Failure(FailureKind.PERMANENT, "file_url_refused", "no")
Row = dict[str, Any]


async def usage(queue: QueueClient) -> list[Row]:
    return [
        orjson.loads(row.json) | {"at": row.at, "billed_s": row.billed_s, "cost": row.cost}
        for row in await queue.rows("SELECT to_json(usage)::text AS json, at, billed_s, cost FROM usage ORDER BY id")
    ]


async def files_of(queue: QueueClient, task: tuple[UUID, UUID]) -> list[TaskFile]:
    async with transaction(queue.sessions) as session:
        return await open_files(session, task[0])


async def end(queue: QueueClient, *, seconds: int = 50) -> None:
    """All queued files succeed, each with 60 s of audio, in a task of their own."""
    task = await running_task(queue)
    files = await files_of(queue, task)
    assert await store(queue, task, files, TaskBill(TaskUsage(seconds=seconds), PRICE, len(files)), 60_000) is True
    # The next task has the same id of upstream.
    await queue.rows("UPDATE tasks SET upstream_task_id = id::text RETURNING id")


async def test_a_file_that_succeeded_has_a_row(queue: QueueClient) -> None:
    job = await queue.post("https://example.com/a.wav")
    await queue.rows("""UPDATE jobs SET metadata = '{"team": "a"}' RETURNING id""")
    await end(queue)
    (row,) = await usage(queue)
    (file,) = await queue.files(job)
    assert row == {
        "id": row["id"],
        "at": file.finished_at,
        "client_id": str(queue.client_id),
        "client": "tester",
        "job_id": str(job),
        "file_index": 0,
        "model": "fun-asr",
        "region": "beijing",
        "account": "beijing/default",
        "metadata": {"team": "a"},
        "files": 1,
        "audio_ms": 60_000,
        "billed_s": 50,
        "input_tokens": 0,
        "output_tokens": 0,
        "cost": Decimal("0.011"),
        "currency": "CNY",
    }


async def test_files_that_upstream_does_not_bill_have_no_row(queue: QueueClient) -> None:
    """A file that failed, one that failed after its cancel, and one that was canceled before its submit."""
    await queue.post("https://example.com/a.wav")
    canceled = await queue.post("https://example.com/b.wav")
    task = await running_task(queue)
    await cancel_job(queue.sessions, queue.client_id, await queue.post("https://example.com/c.wav"))
    files = await files_of(queue, task)
    await cancel_job(queue.sessions, queue.client_id, canceled)
    async with transaction(queue.sessions) as session:
        results = [result_of(file, "failed", REFUSED) for file in files]
        await store_results(
            session, [TaskResults(*task, "FAILED", None, results, bill=TaskBill(TaskUsage(), PRICE, 2))]
        )
    assert await usage(queue) == []


async def test_a_bill_that_is_corrected_later_adds_a_row_without_a_file(queue: QueueClient) -> None:
    job = await queue.post("https://example.com/a.wav", "https://example.com/b.wav")
    task = await running_task(queue)
    first, second = await files_of(queue, task)
    task_bill = TaskBill(TaskUsage(seconds=100), PRICE, 2)
    await store(queue, task, [first], task_bill, 100_000)
    await store(queue, task, [second], task_bill, 100_000)
    rows = await usage(queue)
    assert [(row["files"], row["billed_s"], row["cost"]) for row in rows] == [
        (1, 100, Decimal("0.022")),
        (1, 100, Decimal("0.022")),
        (0, -50, Decimal("-0.011")),
        (0, -50, Decimal("-0.011")),
    ]
    (stored,) = await queue.rows("SELECT cost FROM jobs WHERE id = :id", id=job)
    assert sum(row["cost"] for row in rows) == stored.cost == Decimal("0.022")


async def test_a_result_that_cannot_be_read_is_billed(queue: QueueClient) -> None:
    job = await queue.post("https://example.com/a.wav")
    task = await running_task(queue)
    (file,) = await files_of(queue, task)
    transcript = prepare_unreadable(
        Transcript(
            client_id=file.client_id,
            job_id=file.job_id,
            file_index=0,
            file_url=file.url,
            model="fun-asr",
            region="beijing",
        ),
        raw=b"<html>",
    )
    unreadable = Result(file, "failed", transcript=transcript, failure=REFUSED)
    async with transaction(queue.sessions) as session:
        task_bill = TaskBill(TaskUsage(seconds=30), PRICE, 1)
        await store_results(session, [TaskResults(*task, "SUCCEEDED", 30, [unreadable], bill=task_bill)])
    (row,) = await usage(queue)
    assert (row["files"], row["audio_ms"], row["billed_s"], row["cost"]) == (1, 0, 30, Decimal("0.0066"))
    (stored,) = await queue.rows("SELECT status, cost FROM jobs WHERE id = :id", id=job)
    assert (stored.status, stored.cost) == ("failed", Decimal("0.0066"))


@pytest.mark.parametrize("code", ["result_expired", "result_host_refused", "result_too_large"])
async def test_a_result_that_cannot_be_fetched_is_billed(queue: QueueClient, code: str) -> None:
    job = await queue.post("https://example.com/a.wav")
    task = await running_task(queue)
    (file,) = await files_of(queue, task)
    lost = result_of(file, "failed", Failure(FailureKind.TRANSIENT, code, "gone"))
    async with transaction(queue.sessions) as session:
        task_bill = TaskBill(TaskUsage(seconds=30), PRICE, 1)
        await store_results(session, [TaskResults(*task, "SUCCEEDED", 30, [lost], bill=task_bill)])
    (row,) = await usage(queue)
    assert (row["files"], row["audio_ms"], row["billed_s"], row["cost"]) == (1, 0, 30, Decimal("0.0066"))
    (stored,) = await queue.rows("SELECT status, cost FROM jobs WHERE id = :id", id=job)
    assert (stored.status, stored.cost) == ("failed", Decimal("0.0066"))


async def test_the_lost_result_of_a_canceled_file_is_billed(queue: QueueClient) -> None:
    """The result is fetched some times, for the duration of the audio; without it the task has the bill."""
    job = await queue.post("https://example.com/a.wav")
    task = await running_task(queue)
    await cancel_job(queue.sessions, queue.client_id, job)
    (file,) = await files_of(queue, task)
    lost = result_of(file, "failed", Failure(FailureKind.PERMANENT, "result_unreadable", "no"))
    task_bill = TaskBill(TaskUsage(seconds=30), PRICE, 1)
    async with transaction(queue.sessions) as session:
        await store_results(session, [TaskResults(*task, "SUCCEEDED", 30, failed_fetches=[file], bill=task_bill)])
    (file,) = await files_of(queue, task)
    assert (file.dropped, file.result_failures) == (True, 1)
    async with transaction(queue.sessions) as session:
        await store_results(session, [TaskResults(*task, "SUCCEEDED", 30, [lost], bill=task_bill)])
    (row,) = await usage(queue)
    assert (row["files"], row["audio_ms"], row["billed_s"], row["cost"]) == (1, 0, 30, Decimal("0.0066"))
    (stored,) = await queue.rows("SELECT status, cost FROM jobs WHERE id = :id", id=job)
    assert (stored.status, stored.cost) == ("canceled", Decimal("0.0066"))


async def test_an_upload_that_is_canceled_before_its_link_is_made_is_found_in_the_response(queue: QueueClient) -> None:
    """The poller makes the link after the claim, and responses name the file by its path."""
    url, sent_as = "upload://019ab0a4-4d5e-7a20-8f3b-2b1c6a0d9e11", "oss://bucket/a.wav"
    job = await queue.post(url)
    async with transaction(queue.sessions) as session:
        claim = await claim_task(session, SubmitQueue("beijing/default", "beijing", "fun-asr", 1, 1), token=new_id())
    assert claim is not None
    await cancel_job(queue.sessions, queue.client_id, job)
    async with transaction(queue.sessions) as session:
        await record_sent_urls(session, claim.task_id, {url: sent_as})
        await mark_running(session, claim.task_id, "upstream", poll_in_s=0)
        (file,) = await open_files(session, claim.task_id)
    assert (file.dropped, file.sent_as) == (True, sent_as)


async def test_a_result_that_was_fetched_before_the_cancel_is_billed_and_not_stored(queue: QueueClient) -> None:
    job = await queue.post("https://example.com/a.wav")
    task = await running_task(queue)
    files = await files_of(queue, task)
    await cancel_job(queue.sessions, queue.client_id, job)
    assert await store(queue, task, files, TaskBill(TaskUsage(seconds=50), PRICE, 1), 60_000) is True
    assert [(row["audio_ms"], row["billed_s"]) for row in await usage(queue)] == [(60_000, 50)]
    assert not await queue.rows("SELECT id FROM transcripts")


async def test_a_result_that_expired_without_figures_has_no_row(queue: QueueClient) -> None:
    """The response for an unknown task has no usage."""
    await queue.post("https://example.com/a.wav")
    task = await running_task(queue)
    (file,) = await files_of(queue, task)
    lost = result_of(file, "failed", Failure(FailureKind.TRANSIENT, "result_expired", "gone"))
    async with transaction(queue.sessions) as session:
        await store_results(
            session, [TaskResults(*task, "UNKNOWN", None, [lost], bill=TaskBill(TaskUsage(), PRICE, 1))]
        )
    assert await usage(queue) == []


async def test_a_file_that_is_billed_twice_has_two_rows(queue: QueueClient) -> None:
    """A retry after upstream had transcribed the file, but its result could not be read."""
    job = await queue.post("https://example.com/a.wav")
    await end(queue)
    failed = "UPDATE files SET status = 'failed', error_code = 'result_unreadable' RETURNING index"
    await queue.rows(failed)
    await queue.rows(
        "UPDATE jobs SET status = 'failed', files_succeeded = 0, files_failed = 1 WHERE id = :id RETURNING id", id=job
    )
    async with transaction(queue.sessions) as session:
        await retry_job(session, queue.client_id, job)
    await queue.rows("DELETE FROM transcripts RETURNING id")
    await end(queue)
    assert [row["files"] for row in await usage(queue)] == [1, 1]
    (stored,) = await queue.rows("SELECT cost FROM jobs WHERE id = :id", id=job)
    assert stored.cost == sum(row["cost"] for row in await usage(queue)) == Decimal("0.022")


async def test_tokens_are_counted(queue: QueueClient) -> None:
    model = "qwen-audio-3.1-asr-flash-filetrans"
    price = MODELS[model].regions["beijing"]
    await queue.post("https://example.com/a.wav")
    task = await running_task(queue)
    (file,) = await files_of(queue, task)
    tokens = TaskBill(TaskUsage(input_tokens=1000, output_tokens=160), price, 1)
    await store(queue, task, [file], tokens, 40_000)
    (row,) = await usage(queue)
    assert (row["billed_s"], row["input_tokens"], row["output_tokens"], row["currency"]) == (0, 1000, 160, "USD")
    assert row["cost"] == Decimal("0.00017412")


async def test_rows_outlive_transcripts_jobs_and_clients(queue: QueueClient) -> None:
    jobs = [await queue.post(f"https://example.com/{number}.wav") for number in range(3)]
    await end(queue)
    before = await usage(queue)
    assert len(before) == 3
    (transcript, *_) = await queue.rows("SELECT id FROM transcripts WHERE job_id = :job", job=jobs[0])
    async with transaction(queue.sessions) as session:
        await delete_transcript(session, queue.client_id, transcript.id)
        await delete_job(session, queue.client_id, jobs[1])
    await revoke_client(queue.sessions, queue.client_id, cancel_jobs=True)
    assert await usage(queue) == before


async def test_a_reused_file_costs_nothing_and_is_counted(queue: QueueClient) -> None:
    url = "https://example.com/a.wav"
    await queue.post(url)
    await end(queue)
    validated = validate_job(model="fun-asr", region="beijing", parameters={}, served=["beijing"])
    new = NewJob(queue.client_id, validated, "beijing", [url], {"team": "b"}, None, None, b"", reuse=True)
    await create_reusing_job(queue.sessions, new, assumed_s=300)
    _, row = await usage(queue)
    figures = row["files"], row["audio_ms"], row["billed_s"], row["cost"], row["account"], row["metadata"]
    assert figures == (1, 60_000, 0, 0, None, {"team": "b"})


async def test_a_result_adds_its_row_once(queue: QueueClient) -> None:
    """The statement that adds rows is the one that stores the status: a rollback takes both back."""
    await queue.post("https://example.com/a.wav")
    task = await running_task(queue)
    files = await files_of(queue, task)
    async with AsyncSession(queue.sessions.kw["bind"]) as session:
        results, task_bill = [spoken(files[0], 1000)], TaskBill(TaskUsage(seconds=1), PRICE, 1)
        await store_results(session, [TaskResults(*task, "SUCCEEDED", 1, results, bill=task_bill)])
        await session.rollback()
    assert await usage(queue) == []
    assert await store(queue, task, files, task_bill, 1000) is True
    # A second time changes nothing.
    assert isinstance(await store(queue, task, files, task_bill, 1000), LeaseLost)
    assert len(await usage(queue)) == 1
