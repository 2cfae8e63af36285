"""Two pollers that are killed at random, dropped database connections, and an upstream that loses responses.

The test is short; `make chaos` runs it for CHAOS_S seconds. The seed is printed, so that a failure can be repeated.
"""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from uuid import UUID

import pytest

from app.sandbox import Faults, RunningSandbox, SandboxConfig, running_sandbox
from tests.poller.conftest import QueueClient
from tests.processes import Running, running

CHAOS_S = float(os.environ.get("CHAOS_S", "6"))
SEED = int(os.environ.get("CHAOS_SEED", random.randrange(10**6)))
KEY = "sk-sandbox-beijing"
TIMEOUT_S = 150
FAULTS = Faults(
    drop_submit_rate=0.2,
    error_submit_rate=0.05,
    html_rate=0.02,
    throttle_rate=0.01,
    truncate_result_rate=0.1,
    html_result_rate=0.05,
    extra_fields=True,
)


@pytest.fixture
async def sandbox() -> AsyncIterator[RunningSandbox]:
    config = SandboxConfig(queue_s=0.2, run_s=0.5, submit_rps=40, query_rps=40, faults=FAULTS, seed=SEED)
    async with running_sandbox(config) as sandbox:
        yield sandbox


class Pollers:
    """Two `python -m app poller` processes, which are killed and started again."""

    def __init__(self, settings: dict[str, str], stack: AsyncExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self.all: list[Running] = []
        self.alive: list[Running] = []

    async def start(self) -> None:
        poller = await self._stack.enter_async_context(running("poller", **self._settings))
        self.all.append(poller)
        self.alive.append(poller)

    async def kill_one(self, rng: random.Random) -> None:
        victim = rng.choice(self.alive)
        self.alive.remove(victim)
        victim.process.kill()
        await victim.process.wait()
        await self.start()

    async def stop(self) -> list[int]:
        for poller in self.alive:
            poller.process.send_signal(signal.SIGTERM)
        return [await poller.ended() for poller in self.alive]


async def test_every_job_ends_and_no_file_is_transcribed_twice(
    queue: QueueClient, database_url: str, sandbox: RunningSandbox
) -> None:
    print(f"CHAOS_SEED={SEED}")  # noqa: T201 - pytest shows the output of a failed test
    rng = random.Random(SEED)
    settings = {
        "DATABASE_URL": database_url,
        "DASHSCOPE_BEIJING_API_KEY": KEY,
        "DASHSCOPE_BEIJING_BASE_URL": sandbox.base_url("beijing"),
        "DASHSCOPE_BEIJING_SUBMIT_RPS": "40",
        "DASHSCOPE_BEIJING_QUERY_RPS": "40",
    }
    async with AsyncExitStack() as stack:
        pollers = Pollers(settings, stack)
        await pollers.start()
        await pollers.start()
        jobs = await post_jobs(queue, pollers, rng)
        sandbox.state.faults = Faults()
        await all_final(queue, len(jobs))
        assert await pollers.stop() == [0, 0]
    statuses = await queue.final(*jobs)
    assert set(statuses) == {"succeeded"}
    assert set(sandbox.state.transcribed_files().values()) == {1}
    assert not sandbox.state.authorization_leaks
    assert not any(KEY in poller.stderr + poller.stdout for poller in pollers.all)
    assert await tables_with(queue, KEY) == []


async def post_jobs(queue: QueueClient, pollers: Pollers, rng: random.Random) -> list[UUID]:
    """Post jobs for CHAOS_S while pollers are killed and connections are dropped."""
    jobs: list[UUID] = []
    until = asyncio.get_running_loop().time() + CHAOS_S
    while asyncio.get_running_loop().time() < until:
        number = len(jobs)
        hints = {"language_hints": [rng.choice(["zh", "en", "ja"])]}
        names = [f"https://example.com/{number}/{index}.wav" for index in range(rng.choice([1, 1, 2, 5, 20]))]
        jobs.append(await queue.post(*names, parameters=hints))
        await asyncio.sleep(rng.uniform(0.02, 0.2))
        if rng.random() < 0.06:
            await pollers.kill_one(rng)
        if rng.random() < 0.03:
            await drop_connections(queue)
    return jobs


async def drop_connections(queue: QueueClient) -> None:
    """Terminate the pollers' connections, as a restart of the database does."""
    await queue.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'asr-gateway poller'"
    )


async def all_final(queue: QueueClient, count: int) -> None:
    open_jobs = count
    for _ in range(TIMEOUT_S * 2):
        (row,) = await queue.rows("SELECT count(*) AS open FROM jobs WHERE finished_at IS NULL")
        open_jobs = row.open
        if not open_jobs:
            return
        await asyncio.sleep(0.5)
    tasks = await queue.rows("SELECT state, last_error, count(*) FROM tasks WHERE state <> 'done' GROUP BY 1, 2")
    pytest.fail(f"{open_jobs} of {count} jobs are not final; open tasks: {tasks}")


async def tables_with(queue: QueueClient, secret: str) -> list[str]:
    """The tables with a row that contains the secret as text."""
    names = [row.relname for row in await queue.rows("SELECT relname FROM pg_stat_user_tables")]
    query = 'SELECT 1 FROM "{}" AS row WHERE row::text LIKE :needle LIMIT 1'
    return [name for name in names if await queue.rows(query.format(name), needle=f"%{secret}%")]
