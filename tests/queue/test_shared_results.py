"""Results of several tasks in one transaction: each is stored under its own lease and for its own task."""

from uuid import UUID, uuid4

import pytest

from app.dashscope.failures import Failure, FailureKind
from app.db import transaction
from app.queue.commands import cancel_job, retry_job
from app.queue.leases import LeaseLost
from app.queue.polling import TaskFile, open_files
from app.queue.results import TaskResults, store_results
from tests.poller.conftest import QueueClient
from tests.queue.results import result_of
from tests.queue.test_bills import running_task

BROKEN = Failure(FailureKind.PERMANENT, "file_unreadable", "broken")


async def store(queue: QueueClient, *tasks: TaskResults) -> list[bool | LeaseLost]:
    async with transaction(queue.sessions) as session:
        return await store_results(session, tasks)


async def files_of(queue: QueueClient, task_id: UUID) -> list[TaskFile]:
    async with transaction(queue.sessions) as session:
        return await open_files(session, task_id)


async def assert_stored_once(queue: QueueClient, job: UUID, status: str) -> None:
    """The job has two files, one of which is still running."""
    counts = "files_queued, files_running, files_succeeded, files_failed"
    (row,) = await queue.rows(f"SELECT {counts} FROM jobs WHERE id = :id", id=job)  # noqa: S608 - a constant
    assert tuple(row) == (0, 1, int(status == "succeeded"), int(status == "failed"))
    assert len(await queue.rows("SELECT 1 FROM transcripts")) == int(status == "succeeded")
    assert len(await queue.rows("SELECT 1 FROM usage")) == int(status == "succeeded")


@pytest.mark.parametrize("status", ["succeeded", "failed"])
async def test_results_under_a_lost_lease_do_not_count_beside_those_under_the_new_one(
    queue: QueueClient, status: str
) -> None:
    """After an outage one process may hold both."""
    job = await queue.post("https://example.com/a.wav", "https://example.com/b.wav")
    task_id, token = await running_task(queue)
    first = (await files_of(queue, task_id))[0]
    late, current = (
        TaskResults(task_id, each, "SUCCEEDED", results=[result_of(first, status, BROKEN)]) for each in (uuid4(), token)
    )
    of_late, of_current = await store(queue, late, current)
    assert isinstance(of_late, LeaseLost)
    assert of_current is False
    await assert_stored_once(queue, job, status)


@pytest.mark.parametrize("status", ["succeeded", "failed"])
async def test_result_of_an_earlier_task_of_a_retried_file_does_not_count(queue: QueueClient, status: str) -> None:
    """The earlier task has a file of another job, so it is still collected."""
    job = await queue.post("https://example.com/a.wav", "https://example.com/b.wav")
    await queue.post("https://example.com/c.wav")
    earlier, token = await running_task(queue)
    before = await files_of(queue, earlier)
    await cancel_job(queue.sessions, queue.client_id, job)
    async with transaction(queue.sessions) as session:
        await retry_job(session, queue.client_id, job)
    later, _ = await running_task(queue, "upstream-2")
    await queue.rows("UPDATE tasks SET lease_token = :token RETURNING id", token=token)
    after = await files_of(queue, later)
    assert after[0].url == before[0].url
    await store(
        queue,
        *(
            TaskResults(task_id, token, "SUCCEEDED", results=[result_of(file, status, BROKEN)])
            for task_id, file in ((earlier, before[0]), (later, after[0]))
        ),
    )
    await assert_stored_once(queue, job, status)
