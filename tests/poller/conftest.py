"""Fixtures: a poller against the sandbox over loopback, and a client that posts jobs straight into the queue."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Row, insert, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.catalogue import validate_job
from app.clients.models import Client
from app.db import Sessions, transaction
from app.identifiers import new_id
from app.poller.pace import Pace
from app.poller.poller import run_poller
from app.queue.creation import NewJob
from app.sandbox import RunningSandbox, SandboxConfig, running_sandbox
from app.settings import Settings, load_settings
from tests.jobs.rows import create

# Longer than any wait on a busy machine.
TIMEOUT_S = 60
# The sandbox lists a task at once, and no other gateway waits for its rate.
PACE = Pace(
    unreachable_pauses_s=(0.0, 0.0, 0.1),
    list_retry_s=0.2,
    cancel_retries_s=(0.1,) * 50,
    reconcile_after_s=0.1,
    reconcile_retry_s=0.2,
    failed_list_retry_s=0.2,
    min_lost_s=1.0,
    min_absent_s=0.2,
)


@dataclass
class QueueClient:
    """Posts jobs as a client would and waits for them, without HTTP."""

    sessions: Sessions
    client_id: UUID

    async def post(
        self,
        *urls: str,
        model: str = "fun-asr",
        region: str = "beijing",
        parameters: dict[str, Any] | None = None,
        client_id: UUID | None = None,
        webhook_url: str | None = None,
    ) -> UUID:
        request = validate_job(
            model=model,
            region=region,  # type: ignore[arg-type]
            parameters=parameters or {},
            served=["beijing", "singapore"],
        )
        new = NewJob(client_id or self.client_id, request, region, urls, {}, webhook_url, None, b"")
        async with transaction(self.sessions) as session:
            return await create(session, new)

    async def client(self, name: str) -> UUID:
        client_id = new_id()
        async with transaction(self.sessions) as session:
            await session.execute(insert(Client).values(id=client_id, name=name, token_sha256=name.encode()))
        return client_id

    async def final(self, *jobs: UUID) -> list[str]:
        """Wait until all jobs are final, and return their statuses."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                rows = await self.rows("SELECT id, status, finished_at FROM jobs WHERE id = ANY(:ids)", ids=list(jobs))
                if all(row.finished_at for row in rows):
                    found = {row.id: row.status for row in rows}
                    return [found[job] for job in jobs]
                await asyncio.sleep(0.05)

    async def files(self, job: UUID) -> Sequence[Row[Any]]:
        return await self.rows("SELECT * FROM files WHERE job_id = :job ORDER BY index", job=job)

    async def rows(self, statement: str, **values: Any) -> Sequence[Row[Any]]:
        async with transaction(self.sessions) as session:
            return (await session.execute(text(statement), values)).all()

    async def until(self, statement: str, **values: Any) -> None:
        """Wait until the statement returns a row."""
        for _ in range(TIMEOUT_S * 20):
            if await self.rows(statement, **values):
                return
            await asyncio.sleep(0.05)
        pytest.fail(f"no row within {TIMEOUT_S} s: {statement}")


async def until(is_true: Callable[[], object]) -> None:
    """Wait until the function returns a true value. For the state of a sandbox in this process."""
    async with asyncio.timeout(TIMEOUT_S):
        while not is_true():  # noqa: ASYNC110 - the sandbox sends no signal
            await asyncio.sleep(0.01)


@pytest.fixture
async def queue(sessions: Sessions) -> QueueClient:
    client = QueueClient(sessions, new_id())
    client.client_id = await client.client("tester")
    return client


@pytest.fixture
async def sandbox(request: pytest.FixtureRequest) -> AsyncIterator[RunningSandbox]:
    config: SandboxConfig = getattr(request, "param", SandboxConfig(queue_s=0.05, run_s=0.1))
    async with running_sandbox(config) as running:
        yield running


@pytest.fixture
def second_account(sandbox: RunningSandbox) -> None:
    sandbox.state.config.keys["beijing"]["sk-second"] = "second"  # type: ignore[index]


def settings_for(sandbox: RunningSandbox, **more: Any) -> Settings:
    return load_settings(
        {
            "dashscope_beijing_api_key": "sk-sandbox-beijing",
            "dashscope_singapore_api_key": "sk-sandbox-singapore",
            "dashscope_beijing_base_url": sandbox.base_url("beijing"),
            "dashscope_singapore_base_url": sandbox.base_url("singapore"),
            **more,
        }
    )


StartPoller = Callable[..., AbstractAsyncContextManager[asyncio.Event]]


@pytest.fixture
def start_poller(sandbox: RunningSandbox, engine: AsyncEngine) -> StartPoller:
    @asynccontextmanager
    async def start(pace: Pace = PACE, **more: Any) -> AsyncIterator[asyncio.Event]:
        stop = asyncio.Event()
        running = asyncio.create_task(run_poller(settings_for(sandbox, **more), engine, stop=stop, pace=pace))
        try:
            yield stop
        finally:
            stop.set()
            await running

    return start
