"""Claims that fail, and submits that fail before their call: neither stops the submits of other files."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.dashscope.client import Accepted
from app.db import transaction
from app.errors import DatabaseUnavailable
from app.poller.collector import Collector
from app.poller.list_watcher import Watcher
from app.poller.poller import poller_context
from app.poller.submitter import MAX_IN_FLIGHT, Submitter
from app.queue.submit_queues import SubmitQueue
from app.sandbox import RunningSandbox
from tests.poller.conftest import TIMEOUT_S, QueueClient, StartPoller, settings_for

ACCOUNT = "beijing/default"


@asynccontextmanager
async def failing(queue: QueueClient, trigger: str, sqlstate: str) -> AsyncIterator[None]:
    """Statements, or commits if the trigger is deferred, fail in the block."""
    body = f"BEGIN RAISE EXCEPTION 'of the test' USING ERRCODE = '{sqlstate}'; END"
    await run(
        queue,
        f"CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$",
        f"{trigger} EXECUTE FUNCTION fail()",
    )
    try:
        yield
    finally:
        await run(queue, "DROP FUNCTION fail() CASCADE")


async def run(queue: QueueClient, *statements: str) -> None:
    async with transaction(queue.sessions) as session:
        connection = await session.connection()
        for statement in statements:
            await connection.exec_driver_sql(statement)


async def test_claims_that_are_not_committed_keep_no_slot(
    queue: QueueClient, engine: AsyncEngine, sandbox: RunningSandbox
) -> None:
    await queue.post("https://example.com/a.wav")
    async with poller_context(settings_for(sandbox), engine, asyncio.Event()) as context, asyncio.timeout(TIMEOUT_S):
        upstream = context.upstreams[ACCOUNT]
        collector = Collector(context, upstream, Watcher(context, upstream, on_ended=lambda: None))
        submitter = Submitter(context, upstream, SubmitQueue(ACCOUNT, "beijing", "fun-asr", 100, 10), collector)
        deferred = "CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON tasks DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
        async with failing(queue, deferred, "40001"):
            for _ in range(MAX_IN_FLIGHT):
                for submit in (submitter.run, submitter.submit_one):
                    with pytest.raises(DatabaseUnavailable):
                        await submit()
        assert isinstance(await submitter.submit_one(), Accepted)


async def test_submit_that_fails_before_its_call_does_not_stop_others(
    queue: QueueClient, start_poller: StartPoller
) -> None:
    bad = "upload://00000000-0000-7000-8000-000000000000"
    trigger = "CREATE TRIGGER fail BEFORE UPDATE ON files FOR EACH ROW WHEN (NEW.status = 'failed')"
    async with failing(queue, trigger, "P0001"), start_poller():
        await queue.post(bad)
        await queue.until("SELECT 1 FROM tasks")
        assert await queue.final(await queue.post("https://example.com/a.wav")) == ["succeeded"]
