"""Concurrent calls share a batch, every caller gets a result, and an error reaches only the calls it belongs to."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext

import pytest
import structlog
from asyncpg.exceptions import DeadlockDetectedError
from hypothesis import given
from hypothesis import strategies as st

from app.batching import Batcher
from app.errors import DatabaseUnavailable, NotFound


class Doubler:
    """Doubles numbers once `gate` is open. Negative: not found, 13: fails the batch, 98 and 99: an outage."""

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
        if 98 in numbers:
            raise ConnectionResetError
        return [NotFound("negative") if number < 0 else number * 2 for number in numbers]


class Conflicting:
    """Returns the numbers of a batch after `conflicts` batches that PostgreSQL rolled back."""

    def __init__(self, batches: list[list[int]], *, conflicts: int) -> None:
        self._batches = batches
        self._conflicts = conflicts

    async def __call__(self, _connection: None, numbers: Sequence[int]) -> Sequence[int]:
        self._batches.append(list(numbers))
        if len(self._batches) <= self._conflicts:
            raise DeadlockDetectedError("deadlock detected")
        return numbers


async def test_a_single_item_is_sent_at_once() -> None:
    double = Doubler()
    assert await Batcher(nullcontext, double)(4) == 8
    assert double.batches == [[4]]


async def test_a_batch_starts_no_sooner_than_its_interval_after_the_last_one() -> None:
    started: list[float] = []

    async def note(_connection: None, numbers: Sequence[int]) -> Sequence[int]:
        started.append(time.monotonic())
        return numbers

    batched = Batcher(nullcontext, note, every_s=0.05)
    assert await batched(1) == 1
    assert list(await asyncio.gather(batched(2), batched(3), batched(4))) == [2, 3, 4]
    assert len(started) == 2
    assert started[1] - started[0] >= 0.05


async def test_items_that_arrive_while_a_batch_runs_form_the_next_batch_in_order() -> None:
    double = Doubler()
    double.gate.clear()
    batched = Batcher(nullcontext, double)
    first = batched(1)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = [batched(number) for number in range(2, 6)]
    await asyncio.sleep(0)
    double.gate.set()
    assert await asyncio.gather(first, *others) == [2, 4, 6, 8, 10]
    assert double.batches == [[1], [2, 3, 4, 5]]


async def test_an_item_that_arrives_as_a_batch_ends_is_processed() -> None:
    """A worker that is about to end does not pick up new items."""
    batched = Batcher(nullcontext, Doubler())

    async def call_repeatedly(number: int) -> list[int]:
        return [await batched(number) for _ in range(50)]

    async with asyncio.timeout(20):
        assert await asyncio.gather(*map(call_repeatedly, range(8))) == [[2 * number] * 50 for number in range(8)]


async def test_at_most_at_once_batches_run_concurrently() -> None:
    double = Doubler()
    double.gate.clear()
    batched = Batcher(nullcontext, double, at_once=2, max_weight=1)
    asking = [batched(number) for number in range(9)]
    for _ in range(5):
        await asyncio.sleep(0)
    double.gate.set()
    assert await asyncio.gather(*asking) == [2 * number for number in range(9)]
    assert double.most_running == 2


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40))
def test_a_batch_exceeds_the_weight_limit_only_with_a_single_item(weights: list[int]) -> None:
    double = Doubler()

    async def run() -> None:
        await asyncio.gather(*map(Batcher(nullcontext, double, max_weight=5, weight=lambda weight: weight), weights))

    asyncio.run(run())
    assert [weight for batch in double.batches for weight in batch] == weights
    assert all(sum(batch) <= 5 or len(batch) == 1 for batch in double.batches)


async def test_an_error_among_the_results_is_raised_for_its_item_alone() -> None:
    results = await asyncio.gather(*map(Batcher(nullcontext, Doubler()), (1, -1, 2)), return_exceptions=True)
    assert (results[0], results[2]) == (2, 4)
    assert isinstance(results[1], NotFound)


async def test_a_failed_batch_is_retried_item_by_item() -> None:
    results = await asyncio.gather(*map(Batcher(nullcontext, Doubler()), (1, 13, 2)), return_exceptions=True)
    assert (results[0], results[2]) == (2, 4)
    assert isinstance(results[1], ValueError)


@pytest.mark.parametrize("outage", [98, 99])
async def test_an_outage_fails_the_whole_batch_without_a_retry(outage: int) -> None:
    double = Doubler()
    results = await asyncio.gather(*map(Batcher(nullcontext, double), (1, outage, 2)), return_exceptions=True)
    assert all(isinstance(result, DatabaseUnavailable) for result in results)
    assert len(double.batches) == 1


@pytest.mark.parametrize("items", [[1], [1, 2]])
async def test_items_are_retried_once_after_a_conflict(items: list[int]) -> None:
    batches: list[list[int]] = []
    batched = Batcher(nullcontext, Conflicting(batches, conflicts=1))
    assert await asyncio.gather(*map(batched, items)) == items
    assert batches == [items, *([item] for item in items)]


async def test_a_second_conflict_is_raised() -> None:
    batches: list[list[int]] = []
    batched = Batcher(nullcontext, Conflicting(batches, conflicts=2))
    results = await asyncio.gather(*map(batched, (1, 2)), return_exceptions=True)
    assert [isinstance(result, DatabaseUnavailable) for result in results] == [True, True]
    assert batches == [[1, 2], [1]]


async def test_a_canceled_caller_does_not_stop_the_batch() -> None:
    double = Doubler()
    double.gate.clear()
    batched = Batcher(nullcontext, double)
    canceled, waiting = batched(1), batched(2)
    await asyncio.sleep(0)
    canceled.cancel()
    double.gate.set()
    assert await waiting == 4
    with pytest.raises(asyncio.CancelledError):
        await canceled


async def test_an_outage_keeps_the_results_of_items_that_were_retried_before_it() -> None:
    results = await asyncio.gather(*map(Batcher(nullcontext, Doubler()), (1, 13, 99, 2)), return_exceptions=True)
    outage = "DatabaseUnavailable('away')"
    assert [repr(result) for result in results] == ["2", "ValueError('thirteen')", outage, outage]


async def test_one_batch_runs_at_a_time_while_all_queued_items_fit_into_the_next() -> None:
    double = Doubler()
    batched = Batcher(nullcontext, double, at_once=2, max_weight=10)
    assert await asyncio.gather(*map(batched, range(9))) == [2 * number for number in range(9)]
    assert double.most_running == 1


async def test_a_small_item_does_not_wait_for_a_large_one() -> None:
    double = Doubler()
    double.gate.clear()
    batched = Batcher(nullcontext, double, at_once=2, max_weight=10, weight=lambda weight: weight)
    large = batched(1000)
    while not double.running:  # noqa: ASYNC110 - one cycle of the event loop
        await asyncio.sleep(0)
    small = batched(1)
    while double.running < 2:  # noqa: ASYNC110
        await asyncio.sleep(0)
    double.gate.set()
    assert (await large, await small) == (2000, 2)


class Pool:
    """A pool that counts its connections, and has none while it is `empty`."""

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


async def test_a_connection_is_reused_while_items_are_queued_and_then_returned() -> None:
    pool, double = Pool(), Doubler()
    batched = Batcher(pool.connect, double, max_weight=2)
    assert await asyncio.gather(*map(batched, range(10))) == [2 * number for number in range(10)]
    assert (len(double.batches), pool.taken) == (5, 1)
    await asyncio.sleep(0)
    assert pool.returned == 1


async def test_the_batch_after_an_outage_runs_on_a_new_connection() -> None:
    pool = Pool()
    batched = Batcher(pool.connect, Doubler(), max_weight=1)
    results = await asyncio.gather(*map(batched, (1, 99, 2)), return_exceptions=True)
    assert [repr(result) for result in results] == ["2", "DatabaseUnavailable('away')", "4"]
    assert pool.taken == 2


async def test_every_caller_gets_an_error_when_there_is_no_connection() -> None:
    pool = Pool()
    pool.empty = True
    batched = Batcher(pool.connect, Doubler(), at_once=2, max_weight=2)
    async with asyncio.timeout(10):
        results = await asyncio.gather(*map(batched, range(7)), return_exceptions=True)
    assert [type(result) for result in results] == [DatabaseUnavailable] * 7
    pool.empty = False
    assert await batched(4) == 8


async def test_a_batch_does_not_log_under_the_id_of_a_request() -> None:
    contexts = []

    async def record_context(_connection: None, items: Sequence[int]) -> Sequence[int]:
        contexts.append(structlog.contextvars.get_contextvars())
        return items

    with structlog.contextvars.bound_contextvars(request_id="mine"):
        await Batcher(nullcontext, record_context)(1)
    assert contexts == [{}]
