"""Claims that read budgets do not deadlock, wait for no request, and read no more jobs than are open."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import func, insert, text

from app.clients.budgets import lock_claims
from app.clients.models import BudgetHold
from app.db import raw_connection_of, transaction
from app.queue import spending
from app.queue.budget_holds import rooms_in_budgets
from app.queue.claiming import claim_any_file
from app.queue.spending import claim_allowances, lock_allowances
from app.queue.submit_queues import SubmitQueue
from tests.poller.conftest import QueueClient
from tests.queue.test_budget_holds import ONE, claim, claimed, end, spend, start, urls
from tests.queue.test_spending import give
from tests.rows_read import rows_read

BLOCKED = """
    SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
    HAVING count(*) = :count
"""


async def test_claims_of_several_queues_do_not_deadlock(queue: QueueClient) -> None:
    """Each claim has held the first client of its queue when it comes to that of the other."""
    first, second = queue.client_id, await queue.client("other")
    queues = {"fun-asr": (first, second), "paraformer-v2": (second, first)}
    for model, clients in queues.items():
        for client in clients:
            await queue.post(*urls(1, f"{client}"), client_id=client, model=model)
            await give(queue.sessions, client, "0")
    async with transaction(queue.sessions) as session:
        for model, (client, _) in queues.items():
            row = {"client_id": client, "region": "beijing", "model": model, "until": func.now()}
            await session.execute(insert(BudgetHold).values(row))
        claims = [asyncio.create_task(claim(queue, 1, model=model)) for model in queues]
        await queue.until(BLOCKED, count=2)  # both have locked their first client
        await session.rollback()
    assert await asyncio.gather(*claims) == [[], []]


async def test_probes_do_not_deadlock_with_claims(queue: QueueClient) -> None:
    """A probe that has held one client takes no file of a client that a claim has locked."""
    await queue.post(*urls(1))
    await give(queue.sessions, queue.client_id, "0")
    other = await queue.client("other")
    await queue.post(*urls(1, "other"), client_id=other)
    await give(queue.sessions, other, "5")
    submit_queue = SubmitQueue("beijing/default", "beijing", "fun-asr", max_files=1, submits_per_s=10)
    async with transaction(queue.sessions) as session:
        rooms: dict[str, Any] = {"region": "beijing", "model": "fun-asr", "assumed_s": 300}
        assert await rooms_in_budgets(session, [queue.client_id], **rooms) == {queue.client_id: 0}
        async with transaction(queue.sessions) as another:
            await lock_claims(another, [other])
            assert await rooms_in_budgets(session, [other], **rooms, waits=False) == {}
        assert await claim_any_file(session, submit_queue, token=uuid4()) is not None


async def test_results_do_not_wait_for_a_claim_that_writes_holds(queue: QueueClient) -> None:
    await queue.post(*urls(2))
    await give(queue.sessions, queue.client_id, str(ONE))
    (task,) = await start(queue)
    assert await claimed(queue) == 0
    async with transaction(queue.sessions) as session:
        await session.execute(text("SELECT FROM budget_holds FOR UPDATE"))
        async with asyncio.timeout(20):
            await end(queue, task, seconds=30)


async def test_a_claim_does_not_wait_for_a_request_that_has_locked_the_budget(
    queue: QueueClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also not when the claim would keep the sum of the usage."""
    monkeypatch.setattr(spending, "KEEP_FROM_ROWS", 0)
    monkeypatch.setattr(spending, "KEEP_UNTIL_MIN", 0)
    await queue.post(*urls(1))
    await give(queue.sessions, queue.client_id, "5")
    await spend(queue, "1")
    async with transaction(queue.sessions) as session:
        await lock_allowances(session, [queue.client_id], assumed_s=300)
        await session.execute(text("UPDATE client_budgets SET counted_until = NULL, counted_from = NULL"))
        async with asyncio.timeout(20):
            assert await claimed(queue) == 1


async def test_a_change_of_a_budget_does_not_delay_claims_while_it_waits_for_a_request(queue: QueueClient) -> None:
    await queue.post(*urls(1))
    await give(queue.sessions, queue.client_id, "5")
    async with transaction(queue.sessions) as session:
        await lock_allowances(session, [queue.client_id], assumed_s=300)
        change = asyncio.create_task(give(queue.sessions, queue.client_id, "6"))
        await queue.until(BLOCKED, count=1)
        async with asyncio.timeout(20):
            assert await claimed(queue) == 1
    await change


async def test_budgets_read_no_jobs_that_have_ended(queue: QueueClient) -> None:
    job = await queue.post(*urls(1))
    await give(queue.sessions, queue.client_id, "5")
    await queue.rows("""
        INSERT INTO jobs (id, client_id, status, model, region, requested_region, parameters, metadata, files_total,
                          files_queued, files_canceled, finished_at)
        SELECT gen_random_uuid(), client_id, 'canceled', model, region, requested_region, parameters, metadata, 1,
               0, 1, now()
        FROM jobs CROSS JOIN generate_series(1, 5000) WHERE id = :id RETURNING id
    """, id=job)  # fmt: skip
    async with transaction(queue.sessions) as session:
        await session.execute(text("ANALYZE jobs"))
    async with transaction(queue.sessions) as session:
        connection = await raw_connection_of(session)
        await lock_allowances(session, [queue.client_id], assumed_s=300)
        await claim_allowances(session, [queue.client_id], region="beijing", model="fun-asr", assumed_s=300)
        assert await rows_read(connection, "jobs") < 100
