"""The coroutines of one poller: at most one worker a key, and the pieces of work that they start."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from contextlib import suppress
from typing import Any

import structlog

from app.errors import DatabaseUnavailable

log = structlog.get_logger()

Work = Coroutine[Any, Any, None]


class Crew:
    """Starts work, counts it, and waits for its end. A failure is logged and never stops other work.

    What fails here is one turn of a worker or one task's step: its lease runs out, and another turn takes it up.
    """

    def __init__(self) -> None:
        self._workers: dict[Hashable, asyncio.Task[None]] = {}
        self._pieces: set[asyncio.Task[None]] = set()

    def ensure(self, key: Hashable, worker: Callable[[], Work]) -> None:
        """Start the worker unless one of that key is at work."""
        if key not in self._workers:
            task = asyncio.create_task(_guarded(worker(), name=str(key)))
            self._workers[key] = task
            task.add_done_callback(lambda _: self._workers.pop(key, None))

    def start(self, piece: Work, *, name: str) -> asyncio.Task[None]:
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

    def _under_way(self) -> set[asyncio.Task[None]]:
        return {*self._workers.values(), *self._pieces}


async def _guarded(work: Work, *, name: str) -> None:
    try:
        await work
    except DatabaseUnavailable:
        log.warning("database away", work=name)
    except Exception:
        # The lease of what it held runs out, and another turn takes it up.
        log.exception("work failed", work=name)
