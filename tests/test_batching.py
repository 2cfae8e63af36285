"""Who comes at the same moment shares a batch; nobody is forgotten, and nobody pays for another one's mistake."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from app.batching import Batcher
from app.errors import DatabaseUnavailable, NotFound


class Doubler:
    """Doubles numbers once `gate` is open; negative ones are not found, 13 breaks a batch, 99 is an outage."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.running = self.most_running = 0

    async def __call__(self, _connection: None, numbers: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(numbers))
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
        if 13 in numbers:
            raise ValueError("thirteen")
        if 99 in numbers:
            raise DatabaseUnavailable("away")
        return [NotFound("negative") if number < 0 else number * 2 for number in numbers]


async def test_one_alone_goes_out_alone() -> None:
    double = Doubler()
    assert await Batcher(nullcontext, double)(4) == 8
    assert double.batches == [[4]]


async def test_what_comes_while_a_batch_is_under_way_goes_into_the_next_in_order() -> None:
    double = Doubler()
    double.gate.clear()
    batched = Batcher(nullcontext, double)
    first = asyncio.create_task(batched(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = [asyncio.create_task(batched(number)) for number in range(2, 6)]
    await asyncio.sleep(0)
    double.gate.set()
    assert await asyncio.gather(first, *others) == [2, 4, 6, 8, 10]
    assert double.batches == [[1], [2, 3, 4, 5]]


async def test_who_comes_at_the_end_of_a_batch_is_not_forgotten() -> None:
    """A worker that has nothing left to do is not one to wait for."""
    batched = Batcher(nullcontext, Doubler())

    async def again_and_again(number: int) -> list[int]:
        return [await batched(number) for _ in range(50)]

    async with asyncio.timeout(20):
        assert await asyncio.gather(*map(again_and_again, range(8))) == [[2 * number] * 50 for number in range(8)]


async def test_no_more_than_so_many_batches_run_at_once() -> None:
    double = Doubler()
    double.gate.clear()
    batched = Batcher(nullcontext, double, at_once=2, most=1)
    asking = [asyncio.create_task(batched(number)) for number in range(9)]
    for _ in range(5):
        await asyncio.sleep(0)
    double.gate.set()
    assert await asyncio.gather(*asking) == [2 * number for number in range(9)]
    assert double.most_running == 2


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40))
def test_a_batch_weighs_no_more_than_it_may_unless_one_alone_does(weights: list[int]) -> None:
    double = Doubler()

    async def run() -> None:
        await asyncio.gather(*map(Batcher(nullcontext, double, most=5, weight=lambda weight: weight), weights))

    asyncio.run(run())
    assert [weight for batch in double.batches for weight in batch] == weights
    assert all(sum(batch) <= 5 or len(batch) == 1 for batch in double.batches)


async def test_an_error_among_the_results_is_raised_for_its_item_alone() -> None:
    results = await asyncio.gather(*map(Batcher(nullcontext, Doubler()), (1, -1, 2)), return_exceptions=True)
    assert (results[0], results[2]) == (2, 4)
    assert isinstance(results[1], NotFound)


async def test_a_batch_that_breaks_is_tried_item_by_item() -> None:
    results = await asyncio.gather(*map(Batcher(nullcontext, Doubler()), (1, 13, 2)), return_exceptions=True)
    assert (results[0], results[2]) == (2, 4)
    assert isinstance(results[1], ValueError)


async def test_an_outage_is_everybodys_and_nothing_is_tried_again() -> None:
    double = Doubler()
    results = await asyncio.gather(*map(Batcher(nullcontext, double), (1, 99, 2)), return_exceptions=True)
    assert all(isinstance(result, DatabaseUnavailable) for result in results)
    assert len(double.batches) == 1


async def test_who_is_gone_does_not_stop_the_others() -> None:
    double = Doubler()
    double.gate.clear()
    batched = Batcher(nullcontext, double)
    gone, there = asyncio.create_task(batched(1)), asyncio.create_task(batched(2))
    await asyncio.sleep(0)
    gone.cancel()
    double.gate.set()
    assert await there == 4
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_an_outage_takes_back_nothing_that_is_decided() -> None:
    results = await asyncio.gather(*map(Batcher(nullcontext, Doubler()), (1, 13, 99, 2)), return_exceptions=True)
    outage = "DatabaseUnavailable('away')"
    assert [repr(result) for result in results] == ["2", "ValueError('thirteen')", outage, outage]


async def test_one_batch_runs_at_a_time_while_the_next_can_hold_what_waits() -> None:
    double = Doubler()
    batched = Batcher(nullcontext, double, at_once=2, most=10)
    assert await asyncio.gather(*map(batched, range(9))) == [2 * number for number in range(9)]
    assert double.most_running == 1


async def test_what_is_small_does_not_wait_for_what_is_large() -> None:
    double = Doubler()
    double.gate.clear()
    batched = Batcher(nullcontext, double, at_once=2, most=10, weight=lambda weight: weight)
    large = asyncio.create_task(batched(1000))
    while not double.running:  # noqa: ASYNC110 - a turn of the loop, no time
        await asyncio.sleep(0)
    small = asyncio.create_task(batched(1))
    while double.running < 2:  # noqa: ASYNC110
        await asyncio.sleep(0)
    double.gate.set()
    assert (await large, await small) == (2000, 2)


class Pool:
    """Counts what it hands out, and has nothing to hand out while it is `empty`."""

    def __init__(self) -> None:
        self.taken = self.returned = 0
        self.empty = False

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[None]:
        if self.empty:
            raise DatabaseUnavailable("no connection")
        self.taken += 1
        try:
            yield None
        finally:
            self.returned += 1


async def test_a_connection_is_kept_while_something_waits_and_no_longer() -> None:
    pool, double = Pool(), Doubler()
    batched = Batcher(pool.connect, double, most=2)
    assert await asyncio.gather(*map(batched, range(10))) == [2 * number for number in range(10)]
    assert (len(double.batches), pool.taken) == (5, 1)
    await asyncio.sleep(0)
    assert pool.returned == 1


async def test_after_an_outage_the_next_batch_has_another_connection() -> None:
    pool = Pool()
    batched = Batcher(pool.connect, Doubler(), most=1)
    results = await asyncio.gather(*map(batched, (1, 99, 2)), return_exceptions=True)
    assert [repr(result) for result in results] == ["2", "DatabaseUnavailable('away')", "4"]
    assert pool.taken == 2


async def test_without_a_connection_nobody_waits_for_ever() -> None:
    pool = Pool()
    pool.empty = True
    batched = Batcher(pool.connect, Doubler(), at_once=2, most=2)
    async with asyncio.timeout(10):
        results = await asyncio.gather(*map(batched, range(7)), return_exceptions=True)
    assert [type(result) for result in results] == [DatabaseUnavailable] * 7
    pool.empty = False
    assert await batched(4) == 8


async def test_a_batch_logs_under_no_requests_id() -> None:
    seen = []

    async def look(_connection: None, items: Sequence[int]) -> Sequence[int]:
        seen.append(structlog.contextvars.get_contextvars())
        return items

    with structlog.contextvars.bound_contextvars(request_id="mine"):
        await Batcher(nullcontext, look)(1)
    assert seen == [{}]
