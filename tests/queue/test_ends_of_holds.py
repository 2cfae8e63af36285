"""The hold of a client ends as soon as files of the client leave the queue or a task."""

from uuid import UUID, uuid4

import pytest

from app.dashscope.failures import Failure, FailureKind
from app.db import transaction
from app.queue.claiming import Claim
from app.queue.commands import cancel_job
from app.queue.due_work import claim_unwanted_tasks, close_unwanted
from app.queue.submissions import fail_files, fail_uploads, requeue, requeue_suspects, split_group
from app.uploads.links import EXPIRED
from tests.poller.conftest import QueueClient
from tests.queue.test_budget_holds import ONE, claim, claimed, end, start, urls
from tests.queue.test_spending import give


async def test_a_result_ends_the_holds_of_its_client_only(queue: QueueClient) -> None:
    other = await queue.client("other")
    for client in (queue.client_id, other):
        await queue.post(*urls(2, f"{client}"), client_id=client)
        await queue.post(*urls(1, f"{client}"), client_id=client, model="paraformer-v2")
        await give(queue.sessions, client, str(ONE))
    tasks = await start(queue)
    assert (await claimed(queue), await claimed(queue, model="paraformer-v2")) == (0, 0)
    (task,) = await queue.rows("SELECT task_id FROM files WHERE client_id = :client AND task_id IS NOT NULL",
                               client=other)  # fmt: skip
    assert task.task_id in tasks
    await end(queue, task.task_id, seconds=30)
    rows = await queue.rows("SELECT client_id, model FROM budget_holds WHERE until > now()")
    assert sorted((row.client_id, row.model) for row in rows) == [
        (queue.client_id, "fun-asr"),
        (queue.client_id, "paraformer-v2"),
    ]


async def claim_beside_a_hold(queue: QueueClient) -> Claim:
    """One file of a client is claimed, and the other one is held until there is room in the budget."""
    await queue.post(*urls(2))
    await give(queue.sessions, queue.client_id, str(ONE))
    (found,) = await claim(queue)
    assert await claimed(queue) == 0
    return found


async def test_a_refused_file_ends_the_hold_of_its_client(queue: QueueClient) -> None:
    refused = await claim_beside_a_hold(queue)
    async with transaction(queue.sessions) as session:
        await fail_files(session, refused.task_id, failure=Failure(FailureKind.PERMANENT, "invalid_url", "no"))
    assert not await queue.rows("SELECT model FROM budget_holds WHERE until > now()")
    assert await claimed(queue) == 1


async def lose(queue: QueueClient, task_id: UUID, way: str) -> None:
    """The submit of the task fails in this way, and its files are queued again."""
    async with transaction(queue.sessions) as session:
        match way:
            case "throttled":
                await requeue(session, task_id)
            case "split":
                await split_group(session, task_id, last_error="", suspect=True)
            case "suspect":
                await requeue_suspects(session, task_id)


@pytest.mark.parametrize("way", ["throttled", "split", "suspect"])
async def test_a_file_that_is_queued_again_ends_the_hold_of_its_client(queue: QueueClient, way: str) -> None:
    first = await claim_beside_a_hold(queue)
    await lose(queue, first.task_id, way)
    assert await claimed(queue) == 1


async def test_an_upload_that_has_expired_ends_the_hold_of_its_client(queue: QueueClient) -> None:
    first = await claim_beside_a_hold(queue)
    async with transaction(queue.sessions) as session:
        await fail_uploads(session, first.task_id, first.file_urls, failure=EXPIRED)
    assert await claimed(queue) == 1


@pytest.mark.parametrize("way", ["throttled", "split", "suspect"])
async def test_a_canceled_file_whose_submit_fails_ends_the_hold_of_its_client(queue: QueueClient, way: str) -> None:
    job = await queue.post(*urls(1))
    await queue.post(*urls(1, "b"))
    await give(queue.sessions, queue.client_id, str(ONE))
    (first,) = await claim(queue)
    await cancel_job(queue.sessions, queue.client_id, job)
    assert await claimed(queue) == 0
    await lose(queue, first.task_id, way)
    assert await claimed(queue) == 1


async def test_a_task_that_upstream_cancels_ends_the_hold_of_its_client(queue: QueueClient) -> None:
    job = await queue.post(*urls(1))
    await queue.post(*urls(1, "b"))
    await give(queue.sessions, queue.client_id, str(ONE))
    await start(queue)
    await cancel_job(queue.sessions, queue.client_id, job)
    assert await claimed(queue) == 0
    token = uuid4()
    async with transaction(queue.sessions) as session:
        (unwanted,) = await claim_unwanted_tasks(session, "beijing/default", token=token)
        await close_unwanted(session, unwanted.id, token=token, canceled=True, last_error=None)
    assert await claimed(queue) == 1
