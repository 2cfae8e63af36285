"""What tests of circuits share: refused accounts, probes that are due at once, and files that wait."""

import asyncio
from typing import Any
from uuid import UUID

from app.sandbox import RunningSandbox
from app.sandbox.faults import Faults, RefusedKey
from tests.poller.conftest import QueueClient

TWO_KEYS = "first=sk-sandbox-beijing,second=sk-second"
KEY_OF_BEIJING = "sk-sandbox-beijing"
KEY_OF_SINGAPORE = "sk-sandbox-singapore"


def urls(count: int) -> list[str]:
    return [f"https://example.com/{number}.wav" for number in range(count)]


def refuse(sandbox: RunningSandbox, *refused: dict[str, Any]) -> None:
    sandbox.state.faults = Faults(refused=tuple(RefusedKey(**each) for each in refused))


async def probe_now(queue: QueueClient) -> None:
    await queue.rows("UPDATE circuits SET probe_at = now(), refused_probes = 0 RETURNING account")


async def all_succeed(queue: QueueClient, job: UUID, *, attempts: int = 1) -> None:
    """Wait until all files succeed. Probes are made due at once, so that the test does not wait between two."""
    async with asyncio.timeout(30):
        while True:
            await probe_now(queue)
            if await queue.rows("SELECT 1 FROM jobs WHERE id = :id AND finished_at IS NOT NULL", id=job):
                break
            await asyncio.sleep(0.1)
    files = await queue.files(job)
    assert {(file.status, file.attempts) for file in files} == {("succeeded", attempts)}


async def assert_all_wait(queue: QueueClient, job: UUID) -> None:
    found = {(file.status, file.attempts, file.error_code) for file in await queue.files(job)}
    assert found <= {("queued", 0, None), ("submitting", 0, None)}
