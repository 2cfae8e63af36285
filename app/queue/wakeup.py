"""Wakes a loop of the same process before its time: the poller when files are queued, long polls when jobs end."""

import asyncio


class WakeUp:
    """Latched: a `notify()` before `wait()` makes that `wait()` return at once.

    A latency hint. Correctness does not depend on it.
    """

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        self._event.set()

    async def wait(self, timeout_s: float) -> bool:
        """Whether there was a `notify()` since the last wait, or within `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True
