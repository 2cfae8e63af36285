"""Rate budgets on PostgreSQL. A trigger records each grant with the database's clock, so no test measures time."""

import asyncio
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.dashscope.budgets import CATCH_UP_S, USED_SHARE, Budgets, Call
from app.db import Sessions, create_engine, create_sessions
from app.errors import DatabaseUnavailable
from tests.dashscope.budget_rows import row_of, rows_of, run, set_row
from tests.poller.conftest import until

# PostgreSQL stores timestamps and intervals in microseconds.
ROUNDING = timedelta(microseconds=2)
ONCE = 0.001  # one call, and the next a quarter of an hour later


async def granted(budgets: Budgets, call: Call) -> bool:
    """True if the call may go out at once."""
    return await budgets.try_take(call) == 0


async def many(budgets: Budgets, call: Call, count: int) -> None:
    for _ in range(count):
        await budgets.take(call)


@pytest.mark.slow
@pytest.mark.usefixtures("grants")
async def test_no_second_has_more_calls_than_the_rate(replicas: list[Budgets], sessions: Sessions) -> None:
    call = Call("beijing/default", "query", 40)

    await asyncio.gather(*(many(budgets, call, 10) for budgets in replicas for _ in range(3)))

    rows = await rows_of(sessions, "SELECT * FROM grants ORDER BY number")
    times: list[datetime] = [row.at for row in rows]
    spacing = timedelta(seconds=1 / (40 * USED_SHARE))
    catch_up = timedelta(seconds=CATCH_UP_S)
    assert len(times) == 60
    for first, earlier in enumerate(times):
        for later in range(first + 1, len(times)):
            apart = (later - first) * spacing - catch_up
            assert times[later] - earlier >= apart - (later - first) * ROUNDING
    assert all(later - earlier > timedelta(seconds=1) for earlier, later in zip(times, times[40:], strict=False))


@pytest.mark.slow
@pytest.mark.usefixtures("grants")
async def test_each_grant_advances_the_row_by_one_interval(replicas: list[Budgets], sessions: Sessions) -> None:
    call = Call("beijing/default", "query", 200)

    await asyncio.gather(*(many(budgets, call, 10) for budgets in replicas for _ in range(4)))

    rows = await rows_of(sessions, "SELECT * FROM grants ORDER BY number")
    assert len(rows) == 80
    for row in rows:
        assert row.allowed_at <= row.at
        place = max(row.allowed_at, row.at - timedelta(seconds=CATCH_UP_S))
        assert abs(row.next_at - place - timedelta(seconds=1 / (row.current_rate * USED_SHARE))) <= ROUNDING
    assert all(later.allowed_at == earlier.next_at for earlier, later in pairwise(rows))


async def test_kinds_of_calls_do_not_wait_for_each_other(budgets: Budgets) -> None:
    calls = [
        Call(account, kind, ONCE)
        for account in ("beijing/default", "beijing/other", "singapore/default")
        for kind in ("query", "list", "cancel", "submit:fun-asr", "submit:fun-asr-mtl")
    ]

    assert [await granted(budgets, call) for call in calls] == [True] * 15
    assert [await granted(budgets, call) for call in calls] == [False] * 15


async def test_replicas_share_one_row(replicas: list[Budgets], sessions: Sessions) -> None:
    call = Call("beijing/default", "query", ONCE)

    granted_first = await asyncio.gather(*(granted(budgets, call) for budgets in replicas))

    assert sorted(granted_first) == [False, True]
    assert len(await rows_of(sessions, "SELECT kind FROM budgets")) == 1


async def test_callers_of_one_process_are_served_in_order(budgets: Budgets) -> None:
    served: list[int] = []

    async def caller(number: int) -> None:
        await budgets.take(Call("beijing/default", "query", 500))
        served.append(number)

    async with asyncio.TaskGroup() as callers:
        for number in range(10):
            callers.create_task(caller(number))

    assert served == list(range(10))


async def test_429_halves_the_rate_and_pauses(budgets: Budgets, sessions: Sessions) -> None:
    call = Call("beijing/default", "query", 20)
    await budgets.take(call)
    before = await row_of(sessions, call)

    await budgets.slow_down(call, pause_s=1000)

    row = await row_of(sessions, call)
    assert (row.rate, row.current_rate, row.throttled) == (20, 10, 1)
    assert row.next_at >= before.now + timedelta(seconds=1000)
    assert not await granted(budgets, call)


async def test_concurrent_429s_lower_the_rate_once(budgets: Budgets, sessions: Sessions) -> None:
    call = Call("beijing/default", "query", 20)
    await budgets.take(call)

    await asyncio.gather(*(budgets.slow_down(call, pause_s=60) for _ in range(8)))
    assert (await row_of(sessions, call)).current_rate == 10

    await set_row(sessions, "next_at = clock_timestamp()")
    await budgets.slow_down(call, pause_s=60)
    row = await row_of(sessions, call)
    assert (row.current_rate, row.throttled) == (5, 9)


async def test_short_pause_does_not_end_a_longer_one(budgets: Budgets, sessions: Sessions) -> None:
    call = Call("beijing/default", "query", 20)
    await budgets.take(call)
    await budgets.slow_down(call, pause_s=1000)
    before = await row_of(sessions, call)

    await budgets.slow_down(call)

    assert (await row_of(sessions, call)).next_at == before.next_at


async def test_rate_has_a_minimum(budgets: Budgets, sessions: Sessions) -> None:
    call = Call("beijing/default", "query", 20)
    await budgets.take(call)
    for _ in range(10):
        await set_row(sessions, "next_at = clock_timestamp()")
        await budgets.slow_down(call)

    assert (await row_of(sessions, call)).current_rate == 1


@pytest.mark.parametrize(
    ("changed_ago", "lowest", "highest"),
    [("10 seconds", 10, 11), ("1 hour", 20, 20), ("-1 hour", 6, 6)],
    ids=["in part", "up to the full rate", "not while the clock is behind"],
)
async def test_rate_recovers_with_time(
    budgets: Budgets, sessions: Sessions, changed_ago: str, lowest: float, highest: float
) -> None:
    call = Call("beijing/default", "query", 20)
    await budgets.take(call)
    await set_row(
        sessions,
        "current_rate = 6, next_at = clock_timestamp(),"
        f" rate_changed_at = clock_timestamp() - interval '{changed_ago}'",
    )

    assert await granted(budgets, call)

    assert lowest <= (await row_of(sessions, call)).current_rate <= highest


async def test_recovery_starts_after_the_pause(budgets: Budgets, sessions: Sessions) -> None:
    call = Call("beijing/default", "submit:fun-asr", 10)
    await budgets.take(call)
    await budgets.slow_down(call, pause_s=30)

    # End the pause: shift all times back by half a minute.
    shift = "interval '30 seconds'"
    await set_row(sessions, f"next_at = next_at - {shift}, rate_changed_at = rate_changed_at - {shift}")

    assert await granted(budgets, call)
    assert 5 <= (await row_of(sessions, call)).current_rate < 6


async def test_new_rate_applies_to_all_replicas(replicas: list[Budgets], sessions: Sessions) -> None:
    before, after = replicas
    old, new = Call("beijing/default", "query", 20), Call("beijing/default", "query", 5)
    await before.take(old)

    await after.take(new)
    await before.take(old)

    row = await row_of(sessions, new)
    assert (row.rate, row.current_rate) == (5, 5)


async def test_restart_with_the_same_rate_preserves_the_lower_rate(replicas: list[Budgets], sessions: Sessions) -> None:
    call = Call("beijing/default", "query", 20)
    before, after = replicas
    await before.take(call)
    await before.slow_down(call, pause_s=1000)

    assert not await granted(after, call)

    row = await row_of(sessions, call)
    assert (row.current_rate, row.throttled) == (10, 1)


async def test_missing_row_is_created_again(budgets: Budgets, sessions: Sessions) -> None:
    call = Call("beijing/default", "query", 20)
    await budgets.take(call)
    await run(sessions, "DELETE FROM budgets")

    await budgets.slow_down(call)
    await budgets.take(call)

    assert (await row_of(sessions, call)).rate == 20


@pytest.mark.slow
async def test_canceled_wait_does_not_block_the_next_caller(budgets: Budgets, sessions: Sessions) -> None:
    call = Call("beijing/default", "query", ONCE)
    await budgets.take(call)
    first, second = (asyncio.create_task(budgets.take(call)) for _ in range(2))
    await asyncio.sleep(0)

    first.cancel()
    await set_row(sessions, "next_at = clock_timestamp(), departures = '{}'")
    await second

    assert first.cancelled()


async def test_take_can_be_canceled_at_any_point(budgets: Budgets, engine: AsyncEngine) -> None:
    call = Call("beijing/default", "query", 1000)
    await budgets.take(call)

    for steps in range(40):
        take = asyncio.create_task(budgets.take(call))
        for _ in range(steps):
            await asyncio.sleep(0)
        take.cancel()
        await asyncio.gather(take, return_exceptions=True)

    await budgets.take(call)
    # A take has its result before the connection of its statement is back.
    await until(lambda: engine.pool.checkedout() == 0)  # type: ignore[attr-defined]


async def test_take_without_a_database_raises_and_can_be_repeated() -> None:
    engine = create_engine("postgresql://127.0.0.1:1/nothing")
    budgets = Budgets(create_sessions(engine))
    call = Call("beijing/default", "query", 20)

    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            await budgets.take(call)

    await engine.dispose()
