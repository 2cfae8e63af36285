"""What arrives at the same moment shares a statement, so that 32 callers cost one round trip and not 32.

There is no timer: an item alone goes out at once, and what arrives while a batch is under way goes into the next one.
So batches grow with the load, and an idle gateway is as fast as one without them.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import Context
from typing import Generic, TypeVar

from app.errors import DatabaseUnavailable

C = TypeVar("C")
A = TypeVar("A")
R = TypeVar("R")

MOST = 500


class Batcher(Generic[C, A, R]):
    """Calls `run` with up to `most` items, in the order in which they came.

    One batch is under way at a time, and up to `at_once` of them while there is more to do than one may hold: two
    batches of ten cost twice what one of twenty costs, but nobody shall wait for somebody's ten thousand files.

    Each time over what `connect` gives. It is kept from batch to batch while something waits: getting a connection out
    of a pool takes as long as a short statement.

    `run` returns one result for each item; an exception among the results is raised for its item alone. When `run`
    itself raises, the items are tried one by one, unless the database is away. A caller who is gone does not stop
    the batch.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractAsyncContextManager[C]],
        run: Callable[[C, Sequence[A]], Awaitable[Sequence[R | Exception]]],
        *,
        at_once: int = 1,
        most: int = MOST,
        weight: Callable[[A], int] = lambda _: 1,
    ) -> None:
        self._connect = connect
        self._run = run
        self._at_once = at_once
        self._most = most
        self._weight = weight
        self._waiting: deque[tuple[A, asyncio.Future[R]]] = deque()
        self._workers: set[asyncio.Task[None] | None] = set()
        # What waits or is under way.
        self._load = 0

    async def __call__(self, item: A) -> R:
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._load += self._weight(item)
        if len(self._workers) < min(self._at_once, 1 + self._load // self._most):
            # In a context of its own: a batch is the work of many requests, and logs under none of their ids.
            self._workers.add(asyncio.create_task(self._work(), context=Context()))
        return await future

    async def _work(self) -> None:
        """Until nothing waits. It signs off itself, at once: who comes after that starts another one."""
        try:
            while self._waiting:
                await self._run_batches()
        finally:
            self._workers.discard(asyncio.current_task())

    async def _run_batches(self) -> None:
        """Over one connection, until nothing waits or the connection is lost; that is told to those it happened to."""
        batch: _Batch[A, R] = []
        connected = False
        try:
            async with self._connect() as connection:
                connected = True
                while self._waiting:
                    batch = self._next_batch()
                    self._settle(batch, await self._results(connection, [item for item, _ in batch]))
                    batch = []
        except Exception as error:  # noqa: BLE001 - not swallowed: it is raised where the items came from
            if self._waiting and not connected:
                batch = self._next_batch()
            self._settle(batch, [error] * len(batch))

    async def _results(self, connection: C, items: Sequence[A]) -> Sequence[R | Exception]:
        try:
            return await self._run(connection, items)
        except DatabaseUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - not swallowed: it is raised where the items came from
            if len(items) == 1:
                return [error]
        return await self._one_by_one(connection, items)

    async def _one_by_one(self, connection: C, items: Sequence[A]) -> Sequence[R | Exception]:
        """One of them is to blame, and only that one shall fail. An outage takes back nothing that is decided."""
        results: list[R | Exception] = []
        for item in items:
            try:
                results += await self._results(connection, [item])
            except DatabaseUnavailable as error:
                return results + [error] * (len(items) - len(results))
        return results

    def _next_batch(self) -> "_Batch[A, R]":
        batch = [self._waiting.popleft()]
        weight = self._weight(batch[0][0])
        while self._waiting:
            weight += self._weight(self._waiting[0][0])
            if weight > self._most:
                break
            batch.append(self._waiting.popleft())
        return batch

    def _settle(self, batch: "_Batch[A, R]", results: Sequence[R | Exception]) -> None:
        for (item, future), result in zip(batch, results, strict=True):
            self._load -= self._weight(item)
            if future.done():  # who waited for it is gone
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)


_Batch = list[tuple[A, "asyncio.Future[R]"]]
