"""Files that only one account may submit, because an upload or a hot-word list belongs to it."""

from typing import Any
from uuid import UUID

import pytest

from app.catalogue import validate_job
from app.db import transaction
from app.queue.creation import NewJob
from app.queue.queries import find_job
from app.sandbox import RunningSandbox
from tests.jobs.rows import create
from tests.poller.conftest import QueueClient, StartPoller

TWO_KEYS = "first=sk-sandbox-beijing,second=sk-second"


@pytest.fixture(autouse=True)
def second_account(sandbox: RunningSandbox) -> None:
    sandbox.state.config.keys["beijing"]["sk-second"] = "second"  # type: ignore[index]


async def post(queue: QueueClient, *accounts: str, region: Any = "auto") -> UUID:
    """A job with a file for each account; an empty string is a file for any account."""
    validated = validate_job(model="fun-asr", region=region, parameters={}, served=["beijing", "singapore"])
    urls = [f"https://example.com/{account or 'any'}/{number}.wav" for number, account in enumerate(accounts)]
    new = NewJob(queue.client_id, validated, region, urls, {}, None, None, b"", accounts)
    async with transaction(queue.sessions) as session:
        return await create(session, new)


async def accounts_of(queue: QueueClient, job: UUID) -> list[str]:
    """The account that submitted each file."""
    rows = await queue.rows(
        "SELECT tasks.account FROM files JOIN tasks ON tasks.id = files.task_id WHERE job_id = :id ORDER BY index",
        id=job,
    )
    return [row.account for row in rows]


async def test_files_are_submitted_by_their_account_only(queue: QueueClient, start_poller: StartPoller) -> None:
    bound = ["beijing/second"] * 20 + ["beijing/first"] * 20
    job = await post(queue, *bound, *[""] * 20)
    async with start_poller(dashscope_beijing_api_key=TWO_KEYS):
        assert await queue.final(job) == ["succeeded"]
    assert (await accounts_of(queue, job))[:40] == bound


async def test_files_of_a_blocked_account_wait_say_why_and_do_not_move(
    queue: QueueClient, start_poller: StartPoller
) -> None:
    """The other account and the other region work: files that belong to no account go there."""
    job = await post(queue, "beijing/second")
    free = await post(queue, "")
    async with start_poller(dashscope_beijing_api_key="first=sk-sandbox-beijing,second=sk-wrong"):
        assert await queue.final(free) == ["succeeded"]
        await queue.until("SELECT 1 FROM blockages WHERE only_account = 'beijing/second'")
        async with transaction(queue.sessions) as session:
            reason = (await find_job(session, queue.client_id, job)).job.waiting_reason
    assert reason is not None
    assert (reason.code, reason.account) == ("account_key_refused", "beijing/second")
    (file,) = await queue.files(job)
    assert (file.status, file.region, file.attempts) == ("queued", "beijing", 0)
    async with start_poller(dashscope_beijing_api_key=TWO_KEYS):
        assert await queue.final(job) == ["succeeded"]
        await queue.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM blockages)")


async def test_files_of_an_account_that_is_not_configured_wait_for_it(
    queue: QueueClient, start_poller: StartPoller
) -> None:
    job = await post(queue, "beijing/second", region="beijing")
    seen: list[Any] = []
    for _ in range(2):  # `since` survives a restart
        async with start_poller():
            await queue.until("SELECT 1 FROM blockages WHERE code = 'account_not_configured'")
            seen += await queue.rows("SELECT account, since FROM blockages")
    assert seen[0] == seen[1]
    assert seen[0].account == "beijing/second"
    async with start_poller(dashscope_beijing_api_key=TWO_KEYS):
        assert await queue.final(job) == ["succeeded"]


async def test_circuit_closes_by_a_file_of_the_account(queue: QueueClient, start_poller: StartPoller) -> None:
    """The only queued file belongs to the account, and a probe of a bill needs a file."""
    await queue.rows(
        "INSERT INTO circuits (account, code, message, probe_at)"
        " VALUES ('beijing/second', 'account_unpaid', '', now()) RETURNING account"
    )
    job = await post(queue, "beijing/second", region="beijing")
    async with start_poller(dashscope_beijing_api_key=TWO_KEYS):
        assert await queue.final(job) == ["succeeded"]
        await queue.until("SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM circuits WHERE closed_at IS NULL)")
