"""A call that leaves its process late is noted in the row of its budget, and call N+1 waits for it."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text

from app.dashscope.budgets import MAX_DEPARTURES, MAX_GRANT_AGE_S, MAX_LATE_S, Budgets, Call
from app.dashscope.transport import ON_DEPARTURE
from app.db import Sessions, transaction
from tests.dashscope.budget_rows import row_of, rows_of, run, set_row

ONCE = 0.001  # one call, and the next a quarter of an hour later


async def test_call_waits_until_a_second_after_the_departure_of_call_n_before(
    replicas: list[Budgets], sessions: Sessions
) -> None:
    """Although the spacing lets it go. The departures of all processes count."""
    call = Call("beijing/default", "query", 2)
    for budgets in replicas:
        await budgets.take(call)
    assert len((await row_of(sessions, call)).departures) == 2
    departures = "ARRAY[clock_timestamp() + interval '1 hour', clock_timestamp() + interval '{}']"

    await set_row(sessions, f"next_at = now() - interval '1 min', departures = {departures.format('1 min')}")
    assert 60 < await replicas[0].try_take(call) <= 61

    await set_row(sessions, f"departures = {departures.format('-1 s')}")
    assert await replicas[1].try_take(call) == 0
    row = await row_of(sessions, call)
    assert row.departures[1:] == [row.rate_changed_at]  # the grant replaces the oldest one


async def test_late_departure_is_noted(budgets: Budgets, sessions: Sessions) -> None:
    call = Call("beijing/default", "query", ONCE)

    async with budgets.spend(call):
        await asyncio.sleep(2 * MAX_LATE_S)
        depart = ON_DEPARTURE.get()
        assert depart is not None
        depart()

    row = await row_of(sessions, call)
    (departed_at,) = row.departures
    # The grant sets `rate_changed_at`. What its reply took counts in part.
    assert departed_at - row.rate_changed_at >= timedelta(seconds=MAX_LATE_S)
    assert ON_DEPARTURE.get() is None


async def test_departure_is_noted_although_later_grants_have_taken_the_place_of_its_grant(
    budgets: Budgets, sessions: Sessions
) -> None:
    """As if a new connection had taken longer than the next grants."""
    call = Call("beijing/default", "query", 2)
    later = "ARRAY[clock_timestamp() - interval '1 min', clock_timestamp() - interval '2 min']"

    async with budgets.spend(call):
        await asyncio.sleep(2 * MAX_LATE_S)
        await set_row(sessions, f"departures = {later}")
        depart = ON_DEPARTURE.get()
        assert depart is not None
        depart()

    row = await row_of(sessions, call)
    assert len(row.departures) == 2
    assert row.departures[0] > row.rate_changed_at > row.departures[1]


async def test_row_of_a_high_rate_keeps_few_departures(budgets: Budgets, sessions: Sessions) -> None:
    """As many calls as upstream allows in a part of a second."""
    call = Call("beijing/default", "query", 1000)
    await budgets.take(call)
    filled = f"array_fill(now() + interval '1 min', ARRAY[{MAX_DEPARTURES}])"

    await set_row(sessions, f"next_at = now() - interval '1 min', departures = {filled}")
    assert 60 < await budgets.try_take(call) <= 60 + MAX_DEPARTURES / 1000

    await set_row(sessions, f"departures = departures[1:{MAX_DEPARTURES - 1}] || now() - interval '1 s'")
    assert await budgets.try_take(call) == 0
    assert len((await row_of(sessions, call)).departures) == MAX_DEPARTURES


async def test_response_of_a_late_call_is_kept_although_its_departure_cannot_be_noted(
    budgets: Budgets, sessions: Sessions
) -> None:
    call = Call("beijing/default", "query", ONCE)

    async def respond() -> str:
        async with budgets.spend(call):
            await asyncio.sleep(2 * MAX_LATE_S)
            await run(sessions, "ALTER TABLE budgets RENAME departures TO gone")
            depart = ON_DEPARTURE.get()
            assert depart is not None
            depart()
            return "response"

    response = await respond()
    await run(sessions, "ALTER TABLE budgets RENAME gone TO departures")
    assert response == "response"


@pytest.mark.usefixtures("grants")
async def test_grant_that_is_old_is_given_up(budgets: Budgets, sessions: Sessions) -> None:
    """Here the statement waits for another session."""
    call = Call("beijing/default", "query", 20)

    async def spend() -> None:
        async with budgets.spend(call):
            pass

    await spend()
    async with transaction(sessions) as session:
        await session.execute(text("SELECT 1 FROM budgets FOR UPDATE"))
        spending = asyncio.create_task(spend())
        await asyncio.sleep(2 * MAX_GRANT_AGE_S)
    await spending

    assert len(await rows_of(sessions, "SELECT 1 FROM grants")) == 3
