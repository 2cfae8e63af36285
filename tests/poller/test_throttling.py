"""The pause of a budget after a 429."""

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.dashscope.failures import Failure, FailureKind
from app.db import transaction
from app.poller.context import MAX_THROTTLED_PAUSE_S, QUOTA_PAUSE_S
from app.poller.poller import poller_context
from app.settings import load_settings

RATE, QUOTA = "Throttling.RateQuota", "Throttling.AllocationQuota"


@pytest.mark.parametrize(
    ("code", "retry_after_s", "pause_s"),
    [
        (RATE, None, 1),
        (RATE, 20, 20),
        (RATE, -5, 1),
        (RATE, 10**9, MAX_THROTTLED_PAUSE_S),
        (QUOTA, None, QUOTA_PAUSE_S),
        (QUOTA, 2, QUOTA_PAUSE_S),
        (QUOTA, 45, 45),
    ],
)
async def test_budget_pauses_as_long_as_the_response_asks(
    engine: AsyncEngine, code: str, retry_after_s: float | None, pause_s: float
) -> None:
    failure = Failure(FailureKind.THROTTLED, "throttled", "", code, 429, retry_after_s=retry_after_s)
    settings = load_settings({"dashscope_beijing_api_key": "sk-throttled"})
    async with poller_context(settings, engine, asyncio.Event()) as context:
        call = context.submit_call(context.upstreams["beijing/default"], "fun-asr")
        await context.budgets.take(call)

        await context.throttled(call, failure)

        async with transaction(context.sessions) as session:
            left_s = await session.scalar(text("SELECT extract(epoch FROM next_at - clock_timestamp()) FROM budgets"))
    # The statements between the two clocks take less than a second, also on a busy machine.
    assert left_s is not None
    assert pause_s - 1 < float(left_s) <= pause_s
