"""Bursts of a client with a budget, against a poller and the sandbox: what they cost, and what they may cost."""

import asyncio
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx

from app.clients.budgets import Budget, BudgetPeriod, set_budget
from app.clients.service import CurrentClient
from app.db import Sessions, transaction
from app.sandbox import RunningSandbox
from tests.poller.conftest import QueueClient, StartPoller

COST = Decimal("0.0066")  # 30 s
URL = "https://example.com/{}.wav?sandbox=seconds:40,billed:30"


async def test_a_burst_stays_within_the_budget_and_the_usage_has_its_cost(
    api: httpx.AsyncClient,
    api_client: tuple[CurrentClient, str],
    sessions: Sessions,
    start_poller: StartPoller,
) -> None:
    """At first 300 s are reserved for a file, later ever less. Each wave is sent at once."""
    queue, amount = QueueClient(sessions, api_client[0].id), COST * 20
    async with transaction(sessions) as session:
        await set_budget(session, api_client[0].id, Budget(amount, "CNY", BudgetPeriod.MONTH))
    accepted: list[dict[str, Any]] = []
    async with start_poller():
        for wave in range(3):
            sent = [api.post("/v1/jobs", json={"file_urls": [URL.format(f"{wave}-{n}")]}) for n in range(30)]
            responses = await asyncio.gather(*sent)
            jobs = [response.json() for response in responses if response.status_code == 202]
            assert {response.status_code for response in responses} <= {202, 429}
            await queue.final(*(UUID(job["id"]) for job in jobs))
            accepted += jobs
    (item,) = (await api.get("/v1/usage")).json()["items"]
    assert (item["files"], item["billed_seconds"]) == (len(accepted), f"{30 * len(accepted)}.000")
    assert Decimal(item["cost"]["amount"]) == COST * len(accepted) <= amount
    assert len(accepted) == 2 + 4 + 6  # of 0.066, 0.0264 and 0.0151 each


async def test_queued_files_wait_when_the_budget_is_spent_and_go_on_when_it_is_raised(
    api: httpx.AsyncClient,
    api_client: tuple[CurrentClient, str],
    sessions: Sessions,
    start_poller: StartPoller,
    sandbox: RunningSandbox,
) -> None:
    """The queue is older than the budget, so no request is refused. The budget is that of three files."""
    client, queue = api_client[0], QueueClient(sessions, api_client[0].id)
    urls = [URL.format(number) for number in range(8)]
    job = (await api.post("/v1/jobs", json={"file_urls": urls})).json()
    async with transaction(sessions) as session:
        await set_budget(session, client.id, Budget(COST * 3, "CNY", BudgetPeriod.MONTH))
    async with start_poller(dashscope_beijing_max_files_per_task=1):
        await queue.until("SELECT 1 FROM jobs WHERE files_succeeded = 3 AND files_running = 0")
        await queue.until("SELECT 1 FROM budget_holds WHERE until > now() + interval '10 s'")
        waiting = (await api.get(f"/v1/jobs/{job['id']}")).json()
        assert waiting["file_counts"] == {
            "total": 8, "queued": 5, "running": 0, "succeeded": 3, "failed": 0, "canceled": 0
        }  # fmt: skip
        assert waiting["waiting_reason"]["code"] == "budget_exceeded"
        assert sum(sandbox.state.transcribed_files().values()) == 3
        async with transaction(sessions) as session:
            await set_budget(session, client.id, Budget(COST * 100, "CNY", BudgetPeriod.MONTH))
        assert await queue.final(UUID(job["id"])) == ["succeeded"]
    assert sum(sandbox.state.transcribed_files().values()) == 8
