"""What a poller that is told to stop leaves behind: nothing half done that could be finished, no lease."""

import asyncio

from sqlalchemy.ext.asyncio import AsyncEngine

from app.poller.poller import run_poller
from app.poller.supervisor import Supervisor
from app.sandbox import Faults, RunningSandbox
from tests.poller.conftest import Desk, settings_for


async def test_what_is_cut_off_gives_its_lease_back(
    services: Desk, engine: AsyncEngine, sandbox: RunningSandbox
) -> None:
    """The answer to a submit comes later than the poller may wait for it. Nobody has to wait for its lease."""
    sandbox.state.faults = Faults(slow_s=30)
    await services.post("https://example.com/a.wav")
    stop = asyncio.Event()
    poller = asyncio.create_task(run_poller(settings_for(sandbox), engine, stop=stop, grace_s=0.1))
    await services.until("SELECT 1 FROM tasks WHERE state = 'submitting'")
    stop.set()
    await poller
    (task,) = await services.rows("SELECT lease_until <= now() AS over FROM tasks")
    assert task.over


async def test_draining_waits_for_what_is_started_meanwhile() -> None:
    supervisor, claimed, done = Supervisor(), asyncio.Event(), asyncio.Event()

    async def piece() -> None:
        for _ in range(10):  # some turns of the event loop
            await asyncio.sleep(0)
        done.set()

    async def worker() -> None:
        await claimed.wait()
        supervisor.spawn(piece(), name="piece")

    supervisor.ensure_running("worker", worker)
    draining = asyncio.create_task(supervisor.drain(10))
    await asyncio.sleep(0)
    claimed.set()
    await draining
    assert done.is_set()
