"""The hint to a poller in the same process."""

import asyncio

from app.queue.wakeup import Doorbell


async def test_a_ring_from_the_past_counts_once() -> None:
    doorbell = Doorbell()
    doorbell.ring()
    doorbell.ring()
    assert await doorbell.wait(0)
    assert not await doorbell.wait(0)


async def test_a_ring_wakes_who_waits() -> None:
    doorbell = Doorbell()
    waiting = asyncio.create_task(doorbell.wait(30))
    await asyncio.sleep(0)
    doorbell.ring()
    assert await waiting
