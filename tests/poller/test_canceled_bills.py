"""Files that are canceled while DashScope transcribes them are billed, and nothing of them is stored."""

from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from app.db import transaction
from app.queue.commands import cancel_job, delete_job, retry_job
from app.queue.revocation import revoke_client
from app.sandbox import Faults, RunningSandbox, SandboxConfig
from tests.poller.conftest import PACE, QueueClient, StartPoller

# Tasks run at once, and until a test advances the clock of the sandbox.
RUNS = SandboxConfig(queue_s=0, run_s=3600)
FILE = "https://example.com/{}.wav?sandbox=seconds:{},billed:{}"
# With one submit a second all queued files are submitted in one task.
TOGETHER: dict[str, Any] = {"dashscope_beijing_submit_rps": 1}

pytestmark = pytest.mark.parametrize("sandbox", [RUNS], indirect=True)


async def cancel(queue: QueueClient, job: UUID, *, client_id: UUID | None = None, delete: bool = False) -> None:
    await cancel_job(queue.sessions, client_id or queue.client_id, job)
    if delete:
        async with transaction(queue.sessions) as session:
            await delete_job(session, client_id or queue.client_id, job)


async def ended(queue: QueueClient, sandbox: RunningSandbox) -> None:
    """Let all tasks end, and wait until the gateway has seen that."""
    sandbox.state.advanced_s += 2 * 3600
    await queue.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM tasks WHERE state <> 'done')")


async def bills(queue: QueueClient) -> list[tuple[Any, ...]]:
    """Client, files, seconds and cost of each job in the usage."""
    rows = await queue.rows("""
        SELECT client_id, sum(files) AS files, sum(billed_s) AS billed_s, sum(cost) AS cost FROM usage
        GROUP BY client_id, job_id ORDER BY min(id)
    """)
    return [(row.client_id, row.files, row.billed_s, row.cost) for row in rows]


@pytest.mark.parametrize("delete", [False, True])
async def test_a_file_that_is_canceled_while_it_runs_is_billed_once(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox, *, delete: bool
) -> None:
    job = await queue.post(FILE.format("a", 40, 30))
    await queue.rows("""UPDATE jobs SET metadata = '{"team": "a"}' RETURNING id""")
    async with start_poller():
        await queue.until("SELECT 1 FROM jobs WHERE files_running = 1")
        await cancel(queue, job, delete=delete)
        await ended(queue, sandbox)
    (row,) = await queue.rows("SELECT * FROM usage")
    assert (row.client_id, row.client, row.job_id, row.file_index) == (queue.client_id, "tester", job, 0)
    assert (row.account, row.metadata) == ("beijing/default", {"team": "a"})
    assert (row.files, row.audio_ms, row.billed_s, row.cost) == (1, 40_000, 30, Decimal("0.0066"))
    assert not await queue.rows("SELECT id FROM transcripts")
    jobs = await queue.rows("SELECT status, cost FROM jobs")
    assert [(each.status, each.cost) for each in jobs] == ([] if delete else [("canceled", Decimal("0.0066"))])


async def test_the_files_of_a_shared_task_have_their_shares(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    """A third of the speech is that of the canceled file of another client."""
    other = await queue.client("other")
    canceled = await queue.post(FILE.format("a", 30, 20), client_id=other)
    kept = await queue.post(FILE.format("b", 60, 40))
    async with start_poller(**TOGETHER):
        await queue.until("SELECT 1 FROM tasks WHERE state = 'running' AND file_count = 2")
        await cancel(queue, canceled, client_id=other, delete=True)
        await ended(queue, sandbox)
        assert await queue.final(kept) == ["succeeded"]
    found = {client: rest for client, *rest in await bills(queue)}
    assert found == {other: [1, 20, Decimal("0.0044")], queue.client_id: [1, 40, Decimal("0.0088")]}


async def test_all_files_of_a_canceled_job_are_billed(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    """Except the one that fails."""
    job = await queue.post(
        FILE.format("a", 30, 20), FILE.format("b", 30, 25), "https://example.com/c.wav?sandbox=fail:DECODE_ERROR"
    )
    async with start_poller():
        await queue.until("SELECT 1 FROM jobs WHERE files_running = 3")
        await cancel(queue, job)
        await ended(queue, sandbox)
    assert await bills(queue) == [(queue.client_id, 2, 45, Decimal("0.0099"))]


async def test_a_retry_after_the_cancel_is_billed_again(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    job = await queue.post(FILE.format("a", 40, 30))
    async with start_poller():
        await queue.until("SELECT 1 FROM jobs WHERE files_running = 1")
        await cancel(queue, job)
        async with transaction(queue.sessions) as session:
            await retry_job(session, queue.client_id, job)
        await queue.until("SELECT 1 FROM jobs WHERE files_running = 1")
        await ended(queue, sandbox)
        assert await queue.final(job) == ["succeeded"]
    assert await bills(queue) == [(queue.client_id, 2, 60, Decimal("0.0132"))]
    (row,) = await queue.rows("SELECT cost FROM jobs")
    assert row.cost == Decimal("0.0132")


async def test_files_of_a_revoked_client_are_billed(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    await queue.post(FILE.format("a", 40, 30))
    async with start_poller():
        await queue.until("SELECT 1 FROM jobs WHERE files_running = 1")
        assert await revoke_client(queue.sessions, queue.client_id, cancel_jobs=True) == 1
        await ended(queue, sandbox)
    assert await bills(queue) == [(queue.client_id, 1, 30, Decimal("0.0066"))]


async def test_a_file_of_a_lost_submit_that_is_canceled_meanwhile_is_billed(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    sandbox.state.faults = Faults(drop_submit_rate=1.0, list_refused=True)
    job = await queue.post(FILE.format("a", 40, 30))
    async with start_poller():
        await queue.until("SELECT 1 FROM tasks WHERE state = 'unsure'")
        await cancel(queue, job, delete=True)
        sandbox.state.faults = Faults()
        await ended(queue, sandbox)
    assert await bills(queue) == [(queue.client_id, 1, 30, Decimal("0.0066"))]
    assert sum(sandbox.state.transcribed_files().values()) == 1


async def test_a_task_that_cannot_be_canceled_in_an_outage_is_billed(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    job = await queue.post(FILE.format("a", 40, 30))
    async with start_poller(replace(PACE, cancel_retries_s=())):
        await queue.until("SELECT 1 FROM jobs WHERE files_running = 1")
        sandbox.state.faults = Faults(down=True)
        await cancel(queue, job)
        await queue.until("SELECT 1 FROM tasks WHERE cancel_wanted_at IS NULL")
        sandbox.state.faults = Faults()
        await ended(queue, sandbox)
    assert await bills(queue) == [(queue.client_id, 1, 30, Decimal("0.0066"))]
