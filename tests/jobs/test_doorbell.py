"""The hint to a poller in the same process."""

import asyncio

from app.queue.wakeup import WakeUp


async def test_a_ring_from_the_past_counts_once() -> None:
    wakeup = WakeUp()
    wakeup.ring()
    wakeup.ring()
    assert await wakeup.wait(0)
    assert not await wakeup.wait(0)


async def test_a_ring_wakes_who_waits() -> None:
    wakeup = WakeUp()
    waiting = asyncio.create_task(wakeup.wait(30))
    await asyncio.sleep(0)
    wakeup.ring()
    assert await waiting
