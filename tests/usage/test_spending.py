"""A burst of a client with a budget, against a poller and the sandbox: what it costs, and what it may cost."""

import asyncio
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx

from app.clients.budgets import Budget, BudgetPeriod, set_budget
from app.clients.service import CurrentClient
from app.db import Sessions, transaction
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
