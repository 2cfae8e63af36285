"""The wake-up of a poller in the same process."""

import asyncio

from app.queue.wakeup import WakeUp


async def test_a_notification_before_the_wait_ends_one_wait() -> None:
    wakeup = WakeUp()
    wakeup.notify()
    wakeup.notify()
    assert await wakeup.wait(0)
    assert not await wakeup.wait(0)


async def test_a_notification_ends_the_wait() -> None:
    wakeup = WakeUp()
    waiting = asyncio.create_task(wakeup.wait(30))
    await asyncio.sleep(0)
    wakeup.notify()
    assert await waiting
