"""The coroutines of one poller: at most one worker a key, and the pieces of work that they start."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable
from contextlib import suppress
from functools import partial
from typing import Any

import structlog

from app.errors import DatabaseUnavailable

# After failures in a row a worker is not started again for 1, 2, 4, … seconds.
FIRST_PAUSE_S = 1.0
MAX_PAUSE_S = 30.0
AWAY_PAUSE_S = 1.0

log = structlog.get_logger()

Work = Coroutine[Any, Any, None]


class Supervisor:
    """Starts work, counts it, and waits for its end. A failure is logged and never stops other work.

    What fails here is one turn of a worker or one task's step: its lease runs out, and another turn takes it up.
    """

    def __init__(self) -> None:
        self._workers: dict[Hashable, asyncio.Task[Exception | None]] = {}
        self._pieces: set[asyncio.Task[Exception | None]] = set()
        self._resume_at: dict[Hashable, float] = {}
        self._failures: dict[Hashable, int] = {}

    def ensure(self, key: Hashable, worker: Callable[[], Work]) -> None:
        """Start the worker unless one of that key is at work, or failed a moment ago."""
        if key not in self._workers and self._resume_at.get(key, 0.0) <= time.monotonic():
            task = asyncio.create_task(_guarded(worker(), name=str(key)))
            self._workers[key] = task
            task.add_done_callback(partial(self._ended, key))

    def start(self, piece: Work, *, name: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(_guarded(piece, name=name))
        self._pieces.add(task)
        task.add_done_callback(self._pieces.discard)
        return task

    async def drain(self, grace_s: float) -> None:
        """Wait for what is under way and for what that still starts, but no longer than so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                while under_way := self._under_way():
                    await asyncio.wait(under_way)

    async def cancel(self) -> None:
        """Cut off what is left."""
        late = self._under_way()
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    def _ended(self, key: Hashable, task: "asyncio.Task[Exception | None]") -> None:
        self._workers.pop(key, None)
        error = None if task.cancelled() else task.result()
        if error is None:
            self._failures.pop(key, None)
            self._resume_at.pop(key, None)
        elif isinstance(error, DatabaseUnavailable):
            self._resume_at[key] = time.monotonic() + AWAY_PAUSE_S
        else:
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            self._resume_at[key] = time.monotonic() + min(FIRST_PAUSE_S * 2 ** min(failures - 1, 10), MAX_PAUSE_S)

    def _under_way(self) -> set[asyncio.Task[Exception | None]]:
        return {*self._workers.values(), *self._pieces}


async def _guarded(work: Work, *, name: str) -> Exception | None:
    """The error that ended the work, after it was logged."""
    try:
        await work
    except DatabaseUnavailable as error:
        log.debug("database away", work=name, reason=error.reason)
        return error
    except Exception as error:
        # The lease of what it held runs out, and another turn takes it up.
        log.exception("work failed", work=name)
        return error
    return None
