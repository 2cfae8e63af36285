"""Probes: one call at a time finds out whether an account that was refused is accepted again."""

import asyncio

from app.dashscope.circuits import close_circuit, open_circuit, read_circuits, take_probe
from app.dashscope.failures import Failure, FailureKind
from app.db import transaction
from app.sandbox import RunningSandbox
from tests.poller.circuit_case import KEY_OF_BEIJING, all_succeed, assert_all_wait, probe_now, refuse, urls
from tests.poller.conftest import QueueClient, StartPoller

SUBMIT_BUDGETS = "SELECT kind, next_at FROM budgets WHERE kind LIKE 'submit%' ORDER BY kind"


async def test_probe_of_a_refused_key_submits_nothing(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    refuse(sandbox, {"key": KEY_OF_BEIJING, "code": "InvalidApiKey"})
    job = await queue.post(*urls(3), region="beijing")
    async with start_poller():
        await queue.until("SELECT 1 FROM circuits")
        await queue.until("SELECT 1 FROM files WHERE status = 'queued' HAVING count(*) = 3")
        spent = await queue.rows(SUBMIT_BUDGETS)
        await probe_now(queue)
        await queue.until("SELECT 1 FROM circuits WHERE refused_probes >= 1")
        assert await queue.rows(SUBMIT_BUDGETS) == spent
        assert await queue.rows("SELECT 1 FROM budgets WHERE account = 'beijing/default' AND kind = 'query'")
        refuse(sandbox)
        await all_succeed(queue, job)


async def test_probe_of_an_unpaid_account_submits_one_file_which_is_queued_again(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    """Upstream responds to queries all the same. It checks the bill only at a submit."""
    refuse(sandbox, {"key": KEY_OF_BEIJING, "code": "Arrearage", "kinds": ("submit",)})
    job = await queue.post(*urls(50), region="beijing")
    async with start_poller():
        await queue.until("SELECT 1 FROM circuits WHERE code = 'account_unpaid'")
        for number in range(1, 4):
            await queue.rows("UPDATE circuits SET probe_at = now() RETURNING account")
            await queue.until("SELECT 1 FROM circuits WHERE refused_probes >= :number", number=number)
        await assert_all_wait(queue, job)
        refuse(sandbox)
        await all_succeed(queue, job)


async def test_time_between_probes_grows_up_to_a_minute(queue: QueueClient, start_poller: StartPoller) -> None:
    await queue.rows(
        "INSERT INTO circuits (account, code, message, probe_at, refused_probes)"
        " VALUES ('beijing/default', 'account_key_refused', '', now(), 0) RETURNING account"
    )
    async with start_poller(dashscope_beijing_api_key="sk-wrong"):
        for number, wait_s in enumerate([10, 20, 40, 60, 60], start=1):
            await queue.until("SELECT 1 FROM circuits WHERE refused_probes = :number", number=number)
            (circuit,) = await queue.rows(
                "SELECT extract(epoch FROM probe_at - now())::float8 AS wait_s, probe_lease_until FROM circuits"
            )
            assert wait_s - 3 < circuit.wait_s <= wait_s
            assert circuit.probe_lease_until is None
            await queue.rows("UPDATE circuits SET probe_at = now() RETURNING account")


async def test_query_alone_closes_a_circuit_without_queued_files(queue: QueueClient, start_poller: StartPoller) -> None:
    await queue.rows(
        "INSERT INTO circuits (account, code, message, probe_at) VALUES"
        " ('beijing/default', 'account_key_refused', '', now()), ('singapore/default', 'account_unpaid', '', now())"
        " RETURNING account"
    )
    async with start_poller():
        await queue.until("SELECT 1 FROM circuits WHERE closed_at IS NULL HAVING count(*) = 1")
    # No query shows whether a bill is paid.
    (circuit,) = await queue.rows("SELECT account, refused_probes FROM circuits WHERE closed_at IS NULL")
    assert tuple(circuit) == ("singapore/default", 0)


async def test_one_poller_probes_at_a_time(queue: QueueClient) -> None:
    await queue.rows(
        "INSERT INTO circuits (account, code, message, probe_at)"
        " VALUES ('beijing/default', 'account_unpaid', '', now()) RETURNING account"
    )

    async def take() -> bool:
        async with transaction(queue.sessions) as session:
            (circuit,) = await read_circuits(session)
            return await take_probe(session, circuit)

    assert sorted(await asyncio.gather(*(take() for _ in range(5)))) == [False] * 4 + [True]
    await queue.rows("UPDATE circuits SET probe_lease_until = now() - interval '1 s' RETURNING account")
    assert await take()


async def test_probe_continues_with_the_next_file_after_a_bad_one(
    queue: QueueClient, start_poller: StartPoller
) -> None:
    await queue.rows(
        "INSERT INTO circuits (account, code, message, probe_at)"
        " VALUES ('beijing/default', 'account_unpaid', '', now()) RETURNING account"
    )
    bad = await queue.post("https://example.com/x.wav?sandbox=refuse", region="beijing")
    good = await queue.post(*urls(2), region="beijing")
    async with start_poller():
        assert await queue.final(bad) == ["failed"]
        await all_succeed(queue, good)
    assert not await queue.rows("SELECT account FROM circuits WHERE closed_at IS NULL")


async def test_circuit_closes_although_all_files_may_move(queue: QueueClient, start_poller: StartPoller) -> None:
    """A probe of a bill needs a file, so files stay while such a probe is due."""
    await queue.rows(
        "INSERT INTO circuits (account, code, message, probe_at)"
        " VALUES ('beijing/default', 'account_unpaid', '', now()) RETURNING account"
    )
    job = await queue.post(*urls(3), region="auto")
    async with start_poller():
        assert await queue.final(job) == ["succeeded"]
        await queue.until("SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM circuits WHERE closed_at IS NULL)")


async def test_circuit_that_opens_again_soon_continues_its_delay(queue: QueueClient) -> None:
    failure = Failure(FailureKind.GRANT, "model_not_granted", "no")

    async def reopen() -> float:
        async with transaction(queue.sessions) as session:
            await close_circuit(session, "beijing/default", "fun-asr")
        async with transaction(queue.sessions) as session:
            assert await open_circuit(session, "beijing/default", "fun-asr", failure)
        (row,) = await queue.rows("SELECT extract(epoch FROM probe_at - opened_at)::float8 AS delay_s FROM circuits")
        return float(row.delay_s)

    assert [await reopen() for _ in range(6)] == [5, 10, 20, 40, 60, 60]
    await queue.rows("UPDATE circuits SET closed_at = now() - interval '11 min' RETURNING account")
    assert await reopen() == 5
