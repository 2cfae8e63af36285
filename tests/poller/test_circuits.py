"""Circuits: a refused key, an unpaid bill or a missing grant fails no file, and files continue once it is over."""

import pytest
from structlog.testing import capture_logs

from app.dashscope.circuits import open_circuit, read_circuits
from app.dashscope.failures import Failure, FailureKind
from app.db import transaction
from app.sandbox import RunningSandbox
from app.sandbox.faults import Faults
from tests.poller.circuit_case import KEY_OF_BEIJING, all_succeed, assert_all_wait, probe_now, refuse, urls
from tests.poller.conftest import QueueClient, StartPoller, until


async def test_wrong_key_fails_no_file_and_the_right_key_submits_all(
    queue: QueueClient, start_poller: StartPoller
) -> None:
    job = await queue.post(*urls(120), region="beijing")
    async with start_poller(dashscope_beijing_api_key="sk-wrong"):
        # Claims made before the first refusal are refused as well, and the probe is refused twice.
        await queue.until("SELECT 1 FROM circuits WHERE account = 'beijing/default' AND model = ''")
        await probe_now(queue)
        await queue.until("SELECT 1 FROM circuits WHERE refused_probes = 1")
        await probe_now(queue)
        await queue.until("SELECT 1 FROM circuits WHERE refused_probes = 1 AND probe_at > now() + interval '8 s'")
        await assert_all_wait(queue, job)
    (circuit,) = await queue.rows("SELECT code, upstream_code FROM circuits")
    assert tuple(circuit) == ("account_key_refused", "InvalidApiKey")
    # The new poller probes at once, although the next probe was due in 10 s.
    async with start_poller():
        assert await queue.final(job) == ["succeeded"]
    assert {file.attempts for file in await queue.files(job)} == {1}
    assert not await queue.rows("SELECT account FROM circuits WHERE closed_at IS NULL")


async def test_model_that_is_not_granted_blocks_no_other_model(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    refuse(sandbox, {"code": "Model.AccessDenied", "model": "fun-asr"})
    job = await queue.post(*urls(5), region="beijing")
    other = await queue.post(*urls(5), region="beijing", model="paraformer-v2")
    async with start_poller():
        assert await queue.final(other) == ["succeeded"]
        await queue.until("SELECT 1 FROM circuits WHERE model = 'fun-asr' AND code = 'model_not_granted'")
        await assert_all_wait(queue, job)
        refuse(sandbox)
        await all_succeed(queue, job)
    assert not await queue.rows("SELECT account FROM circuits WHERE closed_at IS NULL")


async def test_account_failure_of_a_running_task_fails_no_file(queue: QueueClient, start_poller: StartPoller) -> None:
    job = await queue.post("https://example.com/a.wav?sandbox=fail_once:Arrearage", region="beijing")
    async with start_poller():
        await queue.until("SELECT 1 FROM circuits WHERE code = 'account_unpaid'")
        await all_succeed(queue, job, attempts=2)


async def test_file_whose_results_always_name_the_account_waits_longer_each_time(
    queue: QueueClient, start_poller: StartPoller
) -> None:
    job = await queue.post("https://example.com/a.wav?sandbox=fail:Arrearage", region="beijing")
    async with start_poller():
        for attempts in range(1, 5):
            await queue.until("SELECT 1 FROM files WHERE attempts = :attempts AND status = 'queued'", attempts=attempts)
            (file,) = await queue.rows("SELECT extract(epoch FROM not_before - queued_at)::float8 AS wait_s FROM files")
            assert file.wait_s == 2**attempts
            opened = await queue.rows("SELECT 1 FROM circuits WHERE closed_at IS NULL AND code = 'account_unpaid'")
            assert bool(opened) is (attempts <= 3)
            await queue.rows("UPDATE files SET not_before = NULL RETURNING index")
            await probe_now(queue)
    assert [file.status for file in await queue.files(job)] != ["failed"]


@pytest.mark.parametrize("kind", ["query", "list"])
async def test_key_refused_while_tasks_run_fails_no_file(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox, kind: str
) -> None:
    running = await queue.post("https://example.com/a.wav?sandbox=run:1", region="beijing")
    async with start_poller(dashscope_beijing_query_rps=1 if kind == "list" else 20):
        await queue.until("SELECT 1 FROM tasks WHERE state = 'running'")
        refuse(sandbox, {"key": KEY_OF_BEIJING, "code": "InvalidApiKey"})
        await queue.until("SELECT 1 FROM circuits WHERE account = 'beijing/default'")
        assert [file.status for file in await queue.files(running)] == ["running"]
        refuse(sandbox)
        await all_succeed(queue, running)
        await queue.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM circuits WHERE closed_at IS NULL)")


async def test_lost_submit_is_kept_while_the_key_is_refused_for_the_list(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    sandbox.state.faults = Faults(drop_submit_rate=1)
    job = await queue.post(*urls(1), region="beijing")
    async with start_poller():
        await queue.until("SELECT 1 FROM tasks WHERE state = 'unsure'")
        refuse(sandbox, {"key": KEY_OF_BEIJING, "code": "InvalidApiKey"})
        await queue.until("SELECT 1 FROM circuits")
        refuse(sandbox)
        assert await queue.final(job) == ["succeeded"]
    assert sandbox.state.submitted_files()["https://example.com/0.wav"] == 1


async def test_cancel_is_retried_while_the_key_is_refused(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    await queue.post("https://example.com/a.wav?sandbox=queue:60", region="beijing")
    async with start_poller():
        await queue.until("SELECT 1 FROM tasks WHERE state = 'running'")
        refuse(sandbox, {"key": KEY_OF_BEIJING, "code": "InvalidApiKey", "kinds": ("cancel",)})
        await queue.rows("UPDATE tasks SET cancel_wanted_at = now(), next_poll_at = NULL RETURNING id")
        await until(lambda: sandbox.state.injected["refused"])
        refuse(sandbox)
        await queue.until("SELECT 1 FROM tasks WHERE state = 'done' AND upstream_status = 'CANCELED'")


async def test_circuit_is_logged_once_when_it_opens_and_once_when_it_closes(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    refuse(sandbox, {"key": KEY_OF_BEIJING, "code": "InvalidApiKey"})
    job = await queue.post(*urls(120), region="beijing")
    with capture_logs() as lines:
        async with start_poller():
            await queue.until("SELECT 1 FROM circuits")
            await queue.until("SELECT 1 FROM files WHERE status = 'queued' HAVING count(*) = 120")
            refuse(sandbox)
            await all_succeed(queue, job)
    logged = [(line["log_level"], line["event"]) for line in lines if line["event"].startswith("circuit")]
    assert logged == [("error", "circuit opened"), ("info", "circuit closed")]


async def test_file_that_upstream_refuses_for_the_account_holds_up_no_other(
    queue: QueueClient, start_poller: StartPoller
) -> None:
    """Upstream responds 403 to each submit with the oldest file, and accepts all others."""
    poison = await queue.post("https://example.com/poison.wav?sandbox=deny", region="beijing")
    good = await queue.post(*urls(120), region="beijing")
    async with start_poller():
        assert await queue.final(good) == ["succeeded"]
        await queue.until("SELECT 1 FROM files WHERE job_id = :id AND refusals >= 3", id=poison)
        await queue.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM circuits WHERE closed_at IS NULL)")
        later = await queue.post(*urls(20), region="beijing")
        await queue.rows("UPDATE files SET not_before = now() WHERE job_id = :id RETURNING index", id=poison)
        assert await queue.final(later) == ["succeeded"]
        await queue.until("SELECT 1 FROM files WHERE job_id = :id AND refusals >= 4", id=poison)
    (file,) = await queue.files(poison)
    assert (file.status, file.attempts, file.group_limit) == ("queued", 0, 1)
    assert not await queue.rows("SELECT account FROM circuits WHERE closed_at IS NULL")


async def test_account_that_is_refused_after_it_was_accepted_opens_its_circuit(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    first = await queue.post(*urls(3), region="beijing")
    async with start_poller():
        assert await queue.final(first) == ["succeeded"]
        refuse(sandbox, {"key": KEY_OF_BEIJING, "code": "AccessDenied", "model": "fun-asr"})
        job = await queue.post(*urls(1), region="beijing")
        await queue.until("SELECT 1 FROM blockages WHERE code = 'model_not_granted' AND region = 'beijing'")
        await assert_all_wait(queue, job)
        refuse(sandbox)
        await queue.rows("UPDATE files SET not_before = NULL RETURNING index")
        await all_succeed(queue, job)


async def test_file_that_several_pollers_found_refused_opens_the_circuit(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    first = await queue.post(*urls(1), region="beijing")
    async with start_poller():
        assert await queue.final(first) == ["succeeded"]
        await queue.rows("UPDATE tasks SET submitted_at = now() - interval '1 minute' RETURNING id")
        refuse(sandbox, {"key": KEY_OF_BEIJING, "code": "AccessDenied", "model": "fun-asr"})
        job = await queue.post("https://example.com/b.wav", region="beijing")
        await queue.until("SELECT 1 FROM files WHERE job_id = :id AND refusals >= 1", id=job)
        # Another poller found the file refused in between.
        await queue.rows("UPDATE files SET refusals = 2, not_before = NULL WHERE job_id = :id RETURNING index", id=job)
        await queue.until("SELECT 1 FROM blockages WHERE code = 'model_not_granted' AND region = 'beijing'")
        await assert_all_wait(queue, job)
        refuse(sandbox)
        await all_succeed(queue, job)


async def test_refused_file_opens_no_circuit_while_another_poller_is_accepted(
    queue: QueueClient, start_poller: StartPoller
) -> None:
    first = await queue.post(*urls(1), region="beijing")
    async with start_poller():
        assert await queue.final(first) == ["succeeded"]
    await queue.post("https://example.com/poison.wav?sandbox=deny", region="beijing")
    with capture_logs() as lines:
        async with start_poller():
            await until(lambda: [line for line in lines if line["event"] == "submit refused"])
    # A refusal that is taken for one of the account is logged at the level debug.
    assert next(line["log_level"] for line in lines if line["event"] == "submit refused") == "warning"


async def test_circuit_whose_code_changes_is_open_since_the_change(queue: QueueClient) -> None:
    opened = []
    for code in ("account_key_refused", "account_key_refused", "account_unpaid"):
        failure = Failure(FailureKind.ACCOUNT_BLOCKED, code, "no")
        async with transaction(queue.sessions) as session:
            await open_circuit(session, "beijing/default", "", failure)
            (circuit,) = await read_circuits(session)
            opened.append(circuit.opened_at)
    assert opened[0] == opened[1] < opened[2]
