"""Group commit: calls that arrive while a statement runs share the next one, so 32 callers cost one round trip.

A single item is sent at once; items that arrive while a batch runs go into the next batch. Batches therefore grow with
the load, and an idle gateway is as fast as one without batching. The only timer is that of `every_s`.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import Context
from typing import Generic, TypeVar

from app.errors import DatabaseUnavailable
from app.outages import translate_outages

ConnectionT = TypeVar("ConnectionT")
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

MAX_BATCH = 500


class Batcher(Generic[ConnectionT, ItemT, ResultT]):
    """Calls `run` with batches of items, in the order of their arrival. The weights of a batch sum up to `max_weight`.

    One batch runs at a time, and up to `at_once` of them while the items exceed one batch: two batches of ten cost
    twice as much as one of twenty, but small items must not wait for a job of ten thousand files.

    A batch runs on a connection from `connect`, which is reused while items are queued: taking a connection from the
    pool costs as much as a short statement.

    With `every_s`, a batch starts at least so many seconds after the last one. An item that arrives after a quiet time
    is sent at once all the same; under load, fewer and larger batches cost less.

    `run` returns one result for each item; an exception among the results is raised for its item alone. If `run`
    itself raises, the items are retried one by one, unless the error is an outage: outages are raised as
    DatabaseUnavailable for all items. After a conflict with another transaction, such as a deadlock, the items are
    retried too, because PostgreSQL has rolled the statement back. Cancelling a caller does not stop the batch.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractAsyncContextManager[ConnectionT]],
        run: Callable[[ConnectionT, Sequence[ItemT]], Awaitable[Sequence[ResultT | Exception]]],
        *,
        at_once: int = 1,
        max_weight: int = MAX_BATCH,
        weight: Callable[[ItemT], int] = lambda _: 1,
        every_s: float = 0.0,
    ) -> None:
        self._connect = connect
        self._run = run
        self._at_once = at_once
        self._max_weight = max_weight
        self._weight = weight
        self._every_s = every_s
        self._start_at = 0.0  # of the next batch, by time.monotonic
        self._queue: deque[_Queued[ItemT, ResultT]] = deque()
        self._workers: set[asyncio.Task[None] | None] = set()
        # The weight of all queued and running items.
        self._load = 0

    def __call__(self, item: ItemT) -> asyncio.Future[ResultT]:
        """The future result: a coroutine would be one more level that a request enters again when it has the result."""
        future: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        weight = self._weight(item)
        self._queue.append((item, weight, future))
        self._load += weight
        if len(self._workers) < min(self._at_once, 1 + self._load // self._max_weight):
            # An empty context: a batch serves many requests and must not log under the id of one of them.
            self._workers.add(asyncio.create_task(self._work(), context=Context()))
        return future

    async def _work(self) -> None:
        """Run batches until the queue is empty. A call after that starts a new worker."""
        try:
            while self._queue:
                if (wait_s := self._start_at - time.monotonic()) > 0:
                    await asyncio.sleep(wait_s)
                await self._run_batches()
        finally:
            self._workers.discard(asyncio.current_task())

    async def _run_batches(self) -> None:
        """Run batches on one connection until the queue is empty, the next must wait, or the connection is lost."""
        batch: _Batch[ItemT, ResultT] = []
        connected = False
        try:
            async with self._connect() as connection:
                connected = True
                while self._queue and time.monotonic() >= self._start_at:
                    self._start_at = time.monotonic() + self._every_s
                    batch = self._next_batch()
                    self._resolve(batch, await self._results(connection, [item for item, _, _ in batch]))
                    batch = []
        except Exception as error:  # noqa: BLE001 - raised for the items of the batch
            if self._queue and not connected:
                batch = self._next_batch()
            self._resolve(batch, [error] * len(batch))

    async def _results(
        self, connection: ConnectionT, items: Sequence[ItemT], *, retried: bool = False
    ) -> Sequence[ResultT | Exception]:
        try:
            with translate_outages():
                return await self._run(connection, items)
        except DatabaseUnavailable as error:
            if retried or error.reason != "conflict":
                raise
        except Exception as error:  # noqa: BLE001 - raised for the item
            if len(items) == 1:
                return [error]
        return await self._one_by_one(connection, items)

    async def _one_by_one(self, connection: ConnectionT, items: Sequence[ItemT]) -> Sequence[ResultT | Exception]:
        """Find the item that made the batch fail. An outage meanwhile keeps the results that are already there."""
        results: list[ResultT | Exception] = []
        for item in items:
            try:
                results += await self._results(connection, [item], retried=True)
            except DatabaseUnavailable as error:
                return results + [error] * (len(items) - len(results))
        return results

    def _next_batch(self) -> "_Batch[ItemT, ResultT]":
        batch = [self._queue.popleft()]
        weight = batch[0][1]
        while self._queue:
            weight += self._queue[0][1]
            if weight > self._max_weight:
                break
            batch.append(self._queue.popleft())
        return batch

    def _resolve(self, batch: "_Batch[ItemT, ResultT]", results: Sequence[ResultT | Exception]) -> None:
        for (_, weight, future), result in zip(batch, results, strict=True):
            self._load -= weight
            if future.done():  # its caller was cancelled
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)


# With the weight of the item.
_Queued = tuple[ItemT, int, asyncio.Future[ResultT]]
_Batch = list[_Queued[ItemT, ResultT]]
