"""Runs the coroutines of one poller: at most one worker per key, and the tasks that workers spawn."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable
from contextlib import suppress
from functools import partial
from typing import Any

import structlog

from app.errors import DatabaseUnavailable

# After failures in a row a worker is started again after 1, 2, 4, … seconds.
FIRST_PAUSE_S = 1.0
MAX_PAUSE_S = 30.0
# Pause after DatabaseUnavailable.
DATABASE_PAUSE_S = 1.0

log = structlog.get_logger()

Work = Coroutine[Any, Any, None]


class Supervisor:
    """Starts coroutines, counts them and waits for their end.

    A failure ends one run of one worker or one spawned task; it is logged and never stops others. The leases of the
    failed one expire, and a later run retries its work.
    """

    def __init__(self) -> None:
        self._workers: dict[Hashable, asyncio.Task[Exception | None]] = {}
        self._spawned: set[asyncio.Task[Exception | None]] = set()
        self._resume_at: dict[Hashable, float] = {}
        self._failures: dict[Hashable, int] = {}

    def ensure_running(self, key: Hashable, worker: Callable[[], Work]) -> None:
        """Start the worker unless one with this key is running or has just failed."""
        if key not in self._workers and self._resume_at.get(key, 0.0) <= time.monotonic():
            task = asyncio.create_task(_guarded(worker(), name=str(key)))
            self._workers[key] = task
            task.add_done_callback(partial(self._ended, key))

    def spawn(self, work: Coroutine[Any, Any, object], *, name: str) -> asyncio.Task[Any]:
        """Start a coroutine. The task ends without an exception even if the coroutine fails."""
        task = asyncio.create_task(_guarded(work, name=name))
        self._spawned.add(task)
        task.add_done_callback(self._spawned.discard)
        return task

    async def drain(self, grace_s: float) -> None:
        """Wait until nothing runs, including work that starts meanwhile, but at most `grace_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                while running := self._running():
                    await asyncio.wait(running)

    async def cancel(self) -> None:
        """Cancel all that still runs, and wait for its end."""
        running = self._running()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _ended(self, key: Hashable, task: "asyncio.Task[Exception | None]") -> None:
        self._workers.pop(key, None)
        error = None if task.cancelled() else task.result()
        if error is None:
            self._failures.pop(key, None)
            self._resume_at.pop(key, None)
        elif isinstance(error, DatabaseUnavailable):
            self._resume_at[key] = time.monotonic() + DATABASE_PAUSE_S
        else:
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            self._resume_at[key] = time.monotonic() + min(FIRST_PAUSE_S * 2 ** min(failures - 1, 10), MAX_PAUSE_S)

    def _running(self) -> set[asyncio.Task[Exception | None]]:
        return {*self._workers.values(), *self._spawned}


async def take_slots(slots: asyncio.Semaphore, max_slots: int) -> int:
    """Wait for a slot, and take up to `max_slots` in all if more are free. Returns their number."""
    await slots.acquire()
    taken = 1
    while taken < max_slots and not slots.locked():
        await slots.acquire()
        taken += 1
    return taken


async def _guarded(work: Coroutine[Any, Any, object], *, name: str) -> Exception | None:
    """Run the coroutine and return the error that ended it, after logging it."""
    try:
        await work
    except DatabaseUnavailable as error:
        log.debug("database unavailable", worker=name, reason=error.reason)
        return error
    except Exception as error:
        log.exception("worker failed", worker=name)
        return error
    return None
