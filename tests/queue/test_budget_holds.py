"""Claims take files of a client as far as its budget has room for them, and files that wait for that go on later."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func

from app.catalogue import MODELS, TaskUsage
from app.clients.budgets import BudgetPeriod, set_budget
from app.db import Sessions, transaction
from app.queue import budget_holds, claiming
from app.queue.billing import TaskBill
from app.queue.budget_holds import delete_old_holds
from app.queue.claiming import Claim, claim_any_file, claim_tasks
from app.queue.commands import cancel_job, delete_job
from app.queue.due_work import claim_unwanted_tasks, close_unwanted
from app.queue.polling import open_files
from app.queue.queries import find_job
from app.queue.results import TaskResults, store_results
from app.queue.retention import delete_dropped_files
from app.queue.submissions import (
    mark_running,
    mark_unsure,
    requeue,
)
from app.queue.submit_queues import SubmitQueue
from tests.poller.conftest import QueueClient
from tests.queue.test_bills import spoken
from tests.queue.test_spending import allowance_of, give
from tests.usage.rows import add_usage

PRICE = MODELS["fun-asr"].regions["beijing"]
ONE = PRICE.price_per_second * 300 if PRICE.price_per_second else Decimal(0)  # of an unknown file
PRICE_OF_30_S = ONE / 10


async def claim(queue: QueueClient, most: int = 100, **values: Any) -> list[Claim]:
    """Tasks of one file."""
    submit_queue = SubmitQueue(**{"account": "beijing/default", "region": "beijing", "model": "fun-asr", **values},
                               max_files=1, submits_per_s=10)  # fmt: skip
    async with transaction(queue.sessions) as session:
        return await claim_tasks(session, submit_queue, tokens=[uuid4() for _ in range(most)])


async def claimed(queue: QueueClient, **values: Any) -> int:
    return len(await claim(queue, **values))


async def start(queue: QueueClient) -> list[UUID]:
    """Claim what the budget has room for, and have it accepted. Returns the tasks."""
    claims = await claim(queue)
    async with transaction(queue.sessions) as session:
        for each in claims:
            await mark_running(session, each.task_id, str(each.task_id), poll_in_s=0)
    return [each.task_id for each in claims]


async def end(queue: QueueClient, task_id: UUID, *, seconds: int) -> None:
    token = uuid4()
    await queue.rows(
        "UPDATE tasks SET lease_token = :token, lease_until = now() + interval '60 s' WHERE id = :id RETURNING id",
        token=token,
        id=task_id,
    )
    async with transaction(queue.sessions) as session:
        results = [spoken(file, seconds * 1000) for file in await open_files(session, task_id)]
        bill = TaskBill(TaskUsage(seconds=seconds), PRICE, 1)
        await store_results(session, [TaskResults(task_id, token, "SUCCEEDED", seconds, results, bill=bill)])


async def end_holds(queue: QueueClient) -> None:
    """As when their time is over."""
    await queue.rows("UPDATE budget_holds SET until = now() RETURNING model")


async def reason(queue: QueueClient, job: UUID) -> tuple[str, str | None, str] | None:
    async with transaction(queue.sessions) as session:
        found = (await find_job(session, queue.client_id, job)).job.waiting_reason
    return (found.code, found.account, found.region) if found else None


async def spend(queue: QueueClient, cost: str) -> None:
    """With another model, so that the estimates stay."""
    await add_usage(queue.sessions, queue.client_id, {"at": func.now(), "cost": cost, "model": "paraformer-v2"})


def urls(count: int, name: str = "a") -> list[str]:
    return [f"https://example.com/{name}/{number}.wav" for number in range(count)]


async def test_files_stay_queued_when_the_budget_is_spent_meanwhile(queue: QueueClient) -> None:
    other = await queue.client("other")
    job = await queue.post(*urls(3))
    await queue.post(*urls(2, "other"), client_id=other)
    await give(queue.sessions, queue.client_id, "5")
    assert await reason(queue, job) is None
    await spend(queue, "5")
    assert await claimed(queue) == 2
    assert {row.client_id for row in await queue.rows("SELECT client_id FROM files WHERE status = 'submitting'")} == {
        other
    }
    assert await reason(queue, job) == ("budget_exceeded", None, "beijing")
    assert await claimed(queue) == 0
    (hold,) = await queue.rows("SELECT until - now() AS left_for FROM budget_holds")
    assert hold.left_for <= timedelta(seconds=budget_holds.HELD_BY_SPENT_S)


@pytest.mark.parametrize("amount", ["100", None])
async def test_files_go_on_at_once_when_the_budget_is_raised_or_removed(queue: QueueClient, amount: str | None) -> None:
    job = await queue.post(*urls(3))
    await give(queue.sessions, queue.client_id, "5")
    await spend(queue, "5")
    assert await claimed(queue) == 0
    if amount:
        await give(queue.sessions, queue.client_id, amount)
    else:
        async with transaction(queue.sessions) as session:
            await set_budget(session, queue.client_id, None)
    assert await reason(queue, job) is None
    assert await claimed(queue) == 3


async def test_files_go_on_when_the_period_ends(queue: QueueClient) -> None:
    job = await queue.post(*urls(3))
    await give(queue.sessions, queue.client_id, "5", BudgetPeriod.DAY)
    await spend(queue, "5")
    assert await claimed(queue) == 0
    await queue.rows("UPDATE usage SET at = at - interval '1 day' RETURNING id")
    await end_holds(queue)
    assert await claimed(queue) == 3
    assert await reason(queue, job) is None
    assert not await queue.rows("SELECT model FROM budget_holds")


async def test_files_go_out_in_steps_that_fit_by_their_estimates(queue: QueueClient) -> None:
    """A budget for two unknown files: two run at first, and more when their cost is known to be lower."""
    job = await queue.post(*urls(20))
    await give(queue.sessions, queue.client_id, str(2 * ONE))
    first, second = await start(queue)
    assert await claimed(queue) == 0
    (hold,) = await queue.rows("SELECT until - now() AS left_for FROM budget_holds")
    assert hold.left_for <= timedelta(seconds=budget_holds.HELD_BY_RUNNING_S)
    # On a busy machine it may be over already.
    await queue.rows("UPDATE budget_holds SET until = now() + interval '1 minute' RETURNING model")
    assert await reason(queue, job) == ("budget_exceeded", None, "beijing")
    await end(queue, first, seconds=30)
    await end(queue, second, seconds=30)
    # The results have ended the hold. (300 + 2 * 30) / 3 = 120 s are reserved for a file, and 540 s are left.
    assert len(await start(queue)) == 4
    assert not await queue.rows("SELECT model FROM budget_holds WHERE until > now()")


async def test_one_file_runs_while_anything_is_left(queue: QueueClient) -> None:
    """The estimate of one is above the budget. The real costs are below."""
    await queue.post(*urls(9))
    budget = ONE / 10
    await give(queue.sessions, queue.client_id, str(budget))
    ended = 0
    while started := await start(queue):
        assert len(started) == 1
        assert await claimed(queue) == 0
        await end(queue, started[0], seconds=12)
        ended += 1
        await end_holds(queue)
    (usage,) = await queue.rows("SELECT sum(cost) AS cost FROM usage")
    assert (ended, usage.cost) == (3, Decimal("0.00792"))  # of 0.0066: exceeded by less than the last file
    assert len(await queue.rows("SELECT index FROM files WHERE status = 'queued'")) == 6


async def test_concurrent_claims_take_what_fits_together(queue: QueueClient) -> None:
    await queue.post(*urls(20))
    await queue.post(*urls(20, "b"), model="paraformer-v2")
    await give(queue.sessions, queue.client_id, str(3 * ONE))
    models = ["fun-asr", "paraformer-v2", "fun-asr", "fun-asr"]
    found = await asyncio.gather(
        *(claimed(queue, account=f"beijing/{number}", model=model) for number, model in enumerate(models))
    )
    running = dict(zip(models, found, strict=True))
    (row,) = await queue.rows("""
        SELECT count(*) FILTER (WHERE model = 'fun-asr') AS fun, count(*) FILTER (WHERE model <> 'fun-asr') AS other
        FROM files WHERE status = 'submitting'
    """)
    price = MODELS["paraformer-v2"].regions["beijing"].price_per_second or Decimal(0)
    assert 0 < row.fun * ONE + row.other * 300 * price <= 3 * ONE, running


async def test_a_submit_without_a_known_outcome_counts(queue: QueueClient) -> None:
    await queue.post(*urls(5))
    await give(queue.sessions, queue.client_id, str(ONE))
    (lost,) = await claim(queue)
    async with transaction(queue.sessions) as session:
        await mark_unsure(session, lost.task_id, last_error="lost", poll_in_s=0)
    assert await claimed(queue) == 0


async def allowance(queue: QueueClient) -> tuple[Any, ...]:
    """What is spent and reserved for requests."""
    found = await allowance_of(queue.sessions, queue.client_id)
    return found.spent, found.reserved


async def test_a_file_that_is_canceled_while_it_runs_counts_until_its_bill_is_known(queue: QueueClient) -> None:
    job = await queue.post(*urls(1))
    await give(queue.sessions, queue.client_id, str(ONE))
    (task,) = await start(queue)
    await cancel_job(queue.sessions, queue.client_id, job)
    async with transaction(queue.sessions) as session:
        await delete_job(session, queue.client_id, job)
    await queue.post(*urls(1, "b"))
    assert await allowance(queue) == (0, 2 * ONE)
    assert await claimed(queue) == 0
    await end(queue, task, seconds=30)
    spent, _ = await allowance(queue)
    assert spent == PRICE_OF_30_S
    await end_holds(queue)
    assert await claimed(queue) == 1


async def test_a_file_that_upstream_cancels_counts_no_longer(queue: QueueClient) -> None:
    job = await queue.post(*urls(1))
    await give(queue.sessions, queue.client_id, str(ONE))
    (task,) = await start(queue)
    await cancel_job(queue.sessions, queue.client_id, job)
    token = uuid4()
    async with transaction(queue.sessions) as session:
        (unwanted,) = await claim_unwanted_tasks(session, "beijing/default", token=token)
        await close_unwanted(session, unwanted.id, token=token, canceled=True, last_error=None)
        assert unwanted.id == task
    assert await allowance(queue) == (0, 0)
    async with transaction(queue.sessions) as session:
        await delete_dropped_files(session)
    assert not await queue.rows("SELECT url FROM dropped_files")


async def test_a_file_whose_submit_is_refused_after_its_cancel_counts_no_longer(queue: QueueClient) -> None:
    job = await queue.post(*urls(1))
    await give(queue.sessions, queue.client_id, str(ONE))
    (lost,) = await claim(queue)
    await cancel_job(queue.sessions, queue.client_id, job)
    assert await allowance(queue) == (0, ONE)
    async with transaction(queue.sessions) as session:
        await requeue(session, lost.task_id)
    assert await allowance(queue) == (0, 0)
    assert not await queue.rows("SELECT url FROM dropped_files")


async def test_canceled_queued_files_make_room_at_once(queue: QueueClient) -> None:
    first = await queue.post(*urls(1))
    await queue.post(*urls(1, "b"))
    await give(queue.sessions, queue.client_id, str(ONE))
    assert await claimed(queue) == 1
    assert await claimed(queue) == 0
    await queue.rows("UPDATE files SET status = 'queued', task_id = NULL WHERE status = 'submitting' RETURNING index")
    await cancel_job(queue.sessions, queue.client_id, first)
    await end_holds(queue)
    assert await claimed(queue) == 1


async def test_a_group_has_no_more_files_than_the_budget_has_room_for(queue: QueueClient) -> None:
    other = await queue.client("other")
    await queue.post(*urls(30))
    await queue.post(*urls(30, "other"), client_id=other)
    await give(queue.sessions, queue.client_id, str(4 * ONE))
    group = SubmitQueue("beijing/default", "beijing", "fun-asr", max_files=100, submits_per_s=1)
    async with transaction(queue.sessions) as session:
        (found,) = await claim_tasks(session, group, tokens=[uuid4()])
    own = [url for url in found.file_urls if "/a/" in url]
    assert (len(own), len(found.file_urls)) == (4, 34)


async def test_a_probe_takes_no_file_that_is_held(queue: QueueClient) -> None:
    other = await queue.client("other")
    await queue.post(*urls(50))
    await queue.post(*urls(1, "other"), client_id=other)
    await give(queue.sessions, queue.client_id, "0")
    submit_queue = SubmitQueue("beijing/default", "beijing", "fun-asr", max_files=1, submits_per_s=10)
    async with transaction(queue.sessions) as session:
        found = await claim_any_file(session, submit_queue, token=uuid4())
        assert found is not None
        assert found.file_urls == urls(1, "other")
        assert await claim_any_file(session, submit_queue, token=uuid4()) is None


async def test_clients_over_their_budgets_do_not_hide_the_clients_behind_them(
    queue: QueueClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim holds a bounded number of clients. The next claims go on behind them."""
    monkeypatch.setattr(claiming, "MAX_BUDGETS", 2)
    monkeypatch.setattr(claiming, "MORE_BUDGETS", 5)
    last = queue.client_id
    for number in range(10):
        client = await queue.client(f"client-{number}")
        await queue.post(*urls(1, f"{number}"), client_id=client)
        await give(queue.sessions, client, "0")
    await queue.post(*urls(1), client_id=last)
    await give(queue.sessions, last, "5")
    assert await claim(queue) == []
    assert len(await queue.rows("SELECT model FROM budget_holds")) == 2 + 5
    (found,) = await claim(queue)
    assert found.file_urls == urls(1)
    assert len(await queue.rows("SELECT model FROM budget_holds")) == 10


async def test_files_in_another_currency_are_not_limited_until_the_budget_is_spent(queue: QueueClient) -> None:
    model = "qwen-audio-3.1-asr-flash-filetrans"
    await queue.post(*urls(3), model=model)
    await give(queue.sessions, queue.client_id, "0.01")
    assert len(await claim(queue, 2, model=model)) == 2
    await spend(queue, "0.01")
    assert await claimed(queue, model=model) == 0


async def test_old_holds_are_deleted(queue: QueueClient, sessions: Sessions) -> None:
    await queue.post(*urls(1))
    await give(sessions, queue.client_id, "0")
    assert await claimed(queue) == 0
    for minutes, left in ((1, 1), (120, 0)):
        old = "UPDATE budget_holds SET until = now() - make_interval(mins => :minutes) RETURNING model"
        await queue.rows(old, minutes=minutes)
        async with transaction(sessions) as session:
            await delete_old_holds(session)
        assert len(await queue.rows("SELECT model FROM budget_holds")) == left
