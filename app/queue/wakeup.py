"""A hint to a poller in the same process that files wait, so that a job does not have to wait for its next round."""

import asyncio


class WakeUp:
    """Rings from the past count: who waits after a ring returns at once. Never needed for correctness."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self, timeout_s: float) -> bool:
        """Whether somebody rang since the last wait, or did within `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._rung.wait()
        except TimeoutError:
            return False
        self._rung.clear()
        return True
