"""A poller that is told to stop finishes its work and leaves no lease behind."""

import asyncio

from sqlalchemy.ext.asyncio import AsyncEngine

from app.poller.poller import run_poller
from app.poller.supervisor import Supervisor
from app.sandbox import Faults, RunningSandbox
from tests.poller.conftest import QueueClient, settings_for, until


async def test_lease_of_canceled_work_is_ended(
    queue: QueueClient, engine: AsyncEngine, sandbox: RunningSandbox
) -> None:
    """The response to a submit comes later than the poller may wait, so the submit is canceled."""
    sandbox.state.faults = Faults(slow_s=30)
    await queue.post("https://example.com/a.wav")
    stop = asyncio.Event()
    poller = asyncio.create_task(run_poller(settings_for(sandbox), engine, stop=stop, grace_s=0.1))
    # A poller that is stopped before the call requeues the files and deletes the row of the task.
    await until(lambda: sandbox.state.received["submit"])
    stop.set()
    await poller
    (task,) = await queue.rows("SELECT lease_until <= now() AS ended FROM tasks")
    assert task.ended


async def test_drain_waits_for_work_that_starts_meanwhile() -> None:
    supervisor, claimed, done = Supervisor(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        for _ in range(10):  # some iterations of the event loop
            await asyncio.sleep(0)
        done.set()

    async def worker() -> None:
        await claimed.wait()
        supervisor.spawn(work(), name="work")

    supervisor.ensure_running("worker", worker)
    draining = asyncio.create_task(supervisor.drain(10))
    await asyncio.sleep(0)
    claimed.set()
    await draining
    assert done.is_set()
