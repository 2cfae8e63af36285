"""Spent, reserved and the usage agree after any sequence of what clients and pollers do, and budgets hold."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from random import Random
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, text

from app.catalogue import MODELS, TaskUsage, validate_job
from app.clients.budgets import Budget, BudgetPeriod, set_budget
from app.dashscope.failures import Failure, FailureKind
from app.db import Sessions, transaction
from app.errors import BudgetExceeded, JobFinal, JobNotFinal, NothingToRetry
from app.queue import spending
from app.queue.billing import TaskBill
from app.queue.commands import cancel_job, delete_job, retry_job
from app.queue.creation import CreatedJob, NewJob, create_jobs_within_budgets
from app.queue.polling import open_files
from app.queue.results import TaskResults, store_results
from app.queue.spending import Allowance, claim_allowances, lock_allowances
from app.queue.submissions import mark_running, requeue
from app.queue.submit_queues import SubmitQueue
from tests.poller.conftest import QueueClient
from tests.queue.claims import claim_task
from tests.queue.results import result_of
from tests.queue.test_bills import spoken
from tests.usage.rows import add_usage

PRICE = MODELS["fun-asr"].regions["beijing"]
BROKEN = Failure(FailureKind.TRANSIENT, "upstream_error", "broken")
ASSUMED_S = 300
STEPS = 50


async def allowance_of(sessions: Sessions, client_id: UUID) -> Allowance:
    async with transaction(sessions) as session:
        return (await lock_allowances(session, [client_id], assumed_s=ASSUMED_S))[client_id]


async def give(sessions: Sessions, client_id: UUID, amount: str, period: BudgetPeriod = BudgetPeriod.MONTH) -> None:
    async with transaction(sessions) as session:
        await set_budget(session, client_id, Budget(Decimal(amount), "CNY", period))


class Walk:
    """A client with a budget, and pollers that end its files in any way."""

    def __init__(self, queue: QueueClient, seed: int) -> None:
        self.queue = queue
        self.sessions = queue.sessions
        self.random = Random(seed)

    async def step(self) -> None:
        steps = (self.post, self.claim, self.end, self.cancel, self.retry, self.delete)
        (step,) = self.random.choices(steps, weights=[4, 6, 6, 1, 1, 1])
        await step()

    async def post(self) -> None:
        validated = validate_job(model="fun-asr", region="beijing", parameters={}, served=["beijing"])
        urls = [f"https://e/{uuid4()}.wav" for _ in range(self.random.randint(1, 4))]
        new = NewJob(self.queue.client_id, validated, "beijing", urls, {}, None, None, None)
        (outcome,) = await create_jobs_within_budgets(self.sessions, [new], assumed_s=ASSUMED_S)
        if isinstance(outcome, CreatedJob):
            await self.check_accepted()
        else:
            assert isinstance(outcome, BudgetExceeded)

    async def claim(self) -> None:
        async with transaction(self.sessions) as session:
            await session.execute(text("UPDATE files SET not_before = NULL WHERE status = 'queued'"))
            most = self.random.choice([1, 3, 100])
            claim = await claim_task(
                session, SubmitQueue("beijing/default", "beijing", "fun-asr", most, 1), token=uuid4()
            )
            if claim and self.random.random() < 0.2:
                await requeue(session, claim.task_id)
            elif claim and self.random.random() < 0.9:
                await mark_running(session, claim.task_id, str(claim.task_id), poll_in_s=0)
        if claim:
            await self.check_claimed()
        await self.queue.rows("UPDATE budget_holds SET until = now() RETURNING model")

    async def end(self) -> None:
        """Store some or all open files of a task, and settle its bill."""
        tasks = await self.queue.rows("SELECT id, file_count FROM tasks WHERE state = 'running' ORDER BY id")
        if not tasks:
            return
        task, token = self.random.choice(tasks), uuid4()
        lease = "UPDATE tasks SET lease_token = :token, lease_until = now() + interval '20 s' WHERE id = :id"
        statuses = self.random.choices(["succeeded", "succeeded", "failed", "queued", "open"], k=100)
        async with transaction(self.sessions) as session:
            await session.execute(text(lease), {"id": task.id, "token": token})
            # Upstream's figure for a task does not change.
            usage_s = Random(task.id.int).randint(30, 60) * task.file_count
            files = await open_files(session, task.id)
            results = [
                spoken(file, 60_000) if status == "succeeded" else result_of(file, status, BROKEN)
                for file, status in zip(files, statuses, strict=False)
                if status != "open"
            ]
            task_bill = TaskBill(TaskUsage(seconds=usage_s), PRICE, task.file_count)
            await store_results(session, [TaskResults(task.id, token, "SUCCEEDED", usage_s, results, bill=task_bill)])

    async def cancel(self) -> None:
        await self.change(lambda job: cancel_job(self.sessions, self.queue.client_id, job), JobFinal)

    async def retry(self) -> None:
        async def retry(job: UUID) -> None:
            async with transaction(self.sessions) as session:
                await retry_job(session, self.queue.client_id, job, budget_assumed_s=ASSUMED_S)
            await self.check_accepted()

        await self.change(retry, NothingToRetry, BudgetExceeded)

    async def delete(self) -> None:
        async def delete(job: UUID) -> None:
            async with transaction(self.sessions) as session:
                await delete_job(session, self.queue.client_id, job)

        await self.change(delete, JobNotFinal)

    async def change(self, change: Callable[[UUID], Awaitable[object]], *expected: type[Exception]) -> None:
        if jobs := await self.queue.rows("SELECT id FROM jobs ORDER BY id"):
            with suppress(*expected):
                await change(self.random.choice(jobs).id)

    async def check_accepted(self) -> None:
        """What was accepted fits, but for a lone file, and for a lone job with the whole budget."""
        allowance = await allowance_of(self.sessions, self.queue.client_id)
        if allowance.spent + allowance.reserved > allowance.budget.amount and await self.under_way() > 1:
            (row,) = await self.queue.rows("SELECT max(files_queued + files_running) AS files FROM jobs")
            assert (allowance.spent, row.files) == (Decimal(0), await self.under_way())

    async def under_way(self) -> int:
        """Open files, and canceled ones whose bill is not known."""
        (row,) = await self.queue.rows("""
            SELECT (SELECT coalesce(sum(files_queued + files_running), 0) FROM jobs) + (
                SELECT count(*) FROM dropped_files JOIN tasks ON tasks.id = task_id WHERE open AND state <> 'done'
            ) AS files
        """)
        return int(row.files)

    async def check_claimed(self) -> None:
        """What runs fits, but for a lone file."""
        async with transaction(self.sessions) as session:
            allowances = await claim_allowances(
                session, [self.queue.client_id], region="beijing", model="fun-asr", assumed_s=ASSUMED_S
            )
        allowance = allowances[self.queue.client_id]
        one = allowance.estimate("fun-asr", PRICE)
        assert allowance.spent < allowance.budget.amount
        assert allowance.reserved <= allowance.left or allowance.reserved == one

    async def check(self) -> None:
        allowance = await allowance_of(self.sessions, self.queue.client_id)
        (usage,) = await self.queue.rows("SELECT coalesce(sum(cost), 0) AS cost FROM usage")
        assert allowance.spent == usage.cost
        assert allowance.reserved == await self.under_way() * allowance.estimate("fun-asr", PRICE)
        assert not await self.queue.rows("""
            SELECT jobs.id, jobs.cost FROM jobs LEFT JOIN usage ON job_id = jobs.id
            GROUP BY jobs.id HAVING jobs.cost <> coalesce(sum(usage.cost), 0)
        """)
        assert not await self.queue.rows("""
            SELECT id FROM tasks WHERE state = 'running'
            AND NOT EXISTS (SELECT FROM files WHERE task_id = tasks.id AND status = 'running')
            AND NOT EXISTS (SELECT FROM dropped_files WHERE task_id = tasks.id AND open)
        """)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
async def test_sums_agree_after_any_sequence(queue: QueueClient, seed: int) -> None:
    walk = Walk(queue, seed)
    await give(queue.sessions, queue.client_id, "1" if seed % 2 else "0.15")
    for _ in range(STEPS):
        await walk.step()
        await walk.check()
    assert await queue.rows("SELECT id FROM usage LIMIT 1")


async def test_a_sum_that_is_kept_gives_the_same_figure(queue: QueueClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows after the kept instant are added to it, and another period, currency or amount begins anew."""
    sessions, client_id = queue.sessions, queue.client_id
    monkeypatch.setattr(spending, "KEEP_FROM_ROWS", 2)
    monkeypatch.setattr(spending, "KEEP_UNTIL_MIN", 0)
    (row,) = await queue.rows("SELECT date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' AS month, now()")
    span = row.now - row.month
    rows = [{"at": row.month + span * part / 10, "cost": "1"} for part in range(10)]
    rows += [{"at": row.month - timedelta(seconds=1), "cost": "100"}, {"at": row.month, "cost": "9", "currency": "USD"}]
    await add_usage(sessions, client_id, *rows)
    await give(sessions, client_id, "5")
    for added in range(3):
        assert (await allowance_of(sessions, client_id)).spent == 10 + added
        await add_usage(sessions, client_id, {"at": func.now(), "cost": "1"})
    (kept,) = await queue.rows("SELECT counted, counted_from, counted_until FROM client_budgets")
    assert (kept.counted, kept.counted_from, kept.counted_until > row.now) == (10, row.month, True)
    await queue.rows("UPDATE client_budgets SET counted_from = counted_from - interval '1 day' RETURNING period")
    assert (await allowance_of(sessions, client_id)).spent == 13
    async with transaction(sessions) as session:
        await set_budget(session, client_id, Budget(Decimal(1), "USD", BudgetPeriod.MONTH))
    assert (await allowance_of(sessions, client_id)).spent == 9


async def test_periods_are_those_of_utc_whatever_the_zone_of_the_session(queue: QueueClient) -> None:
    await give(queue.sessions, queue.client_id, "5", BudgetPeriod.DAY)
    for zone in ("Asia/Shanghai", "America/New_York"):
        async with transaction(queue.sessions) as session:
            await session.execute(text(f"SET LOCAL timezone = '{zone}'"))
            allowance = (await lock_allowances(session, [queue.client_id], assumed_s=1))[queue.client_id]
        assert (allowance.resets_at.timestamp() % 86_400, 0 < allowance.resets_in_s <= 86_400) == (0, True)


async def test_clients_without_a_budget_have_no_allowance(queue: QueueClient) -> None:
    async with transaction(queue.sessions) as session:
        assert await lock_allowances(session, [queue.client_id], assumed_s=1) == {}
