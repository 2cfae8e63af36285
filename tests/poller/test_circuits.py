"""Circuits: a refused key, an unpaid bill or a missing grant fails no file, and files continue once it is over."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from app.dashscope.circuits import close_circuit, open_circuit, read_circuits, take_probe
from app.dashscope.failures import Failure, FailureKind
from app.db import transaction
from app.sandbox import RunningSandbox
from app.sandbox.faults import Faults, RefusedKey
from tests.poller.conftest import QueueClient, StartPoller

TWO_KEYS = "first=sk-sandbox-beijing,second=sk-second"
KEY_OF_BEIJING = "sk-sandbox-beijing"
KEY_OF_SINGAPORE = "sk-sandbox-singapore"


def urls(count: int) -> list[str]:
    return [f"https://example.com/{number}.wav" for number in range(count)]


def refuse(sandbox: RunningSandbox, *refused: dict[str, Any]) -> None:
    sandbox.state.faults = Faults(refused=tuple(RefusedKey(**each) for each in refused))


@pytest.fixture
def second_account(sandbox: RunningSandbox) -> None:
    sandbox.state.config.keys["beijing"]["sk-second"] = "second"  # type: ignore[index]


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


async def test_wrong_key_fails_no_file_and_the_right_key_submits_all(
    queue: QueueClient, start_poller: StartPoller
) -> None:
    job = await queue.post(*urls(300), region="beijing")
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


@pytest.mark.parametrize(
    ("code", "circuit_code"),
    [
        ("InvalidApiKey", "account_key_refused"),
        ("Arrearage", "account_unpaid"),
        ("AccessDenied", "model_not_granted"),
        ("AccessDenied.Unpurchased", "model_not_granted"),
        ("AllocationQuota.FreeTierOnly", "account_quota"),
        ("Model.AccessDenied", "model_not_granted"),
        ("ModelNotFound", "model_unavailable"),
        ("Workspace.AccessDenied", "model_not_granted"),
    ],
)
@pytest.mark.usefixtures("second_account")
async def test_files_that_one_account_may_not_submit_are_submitted_by_another(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox, code: str, circuit_code: str
) -> None:
    refuse(sandbox, {"key": KEY_OF_BEIJING, "code": code, "model": "fun-asr"})
    jobs = [await queue.post(*urls(2), region="beijing", parameters={"channel_id": [0, n]}) for n in range(1, 5)]
    other = await queue.post(*urls(2), region="beijing", model="paraformer-v2")
    async with start_poller(dashscope_beijing_api_key=TWO_KEYS):
        assert await queue.final(*jobs, other) == ["succeeded"] * 5
    assert {submit.key for submit in sandbox.state.submits if submit.model == "fun-asr"} == {"sk-second"}
    circuits = await queue.rows("SELECT account, code FROM circuits WHERE closed_at IS NULL")
    assert {tuple(circuit) for circuit in circuits} <= {("beijing/first", circuit_code)}


@pytest.mark.parametrize("code", ["Model.AccessDenied", "AccessDenied.Unpurchased", "ModelNotFound", "Arrearage"])
async def test_files_that_no_account_of_the_region_may_submit_move_to_another_region(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox, code: str
) -> None:
    refuse(sandbox, {"key": KEY_OF_BEIJING, "code": code, "model": "fun-asr"})
    job = await queue.post(*urls(20), region="auto")
    async with start_poller():
        assert await queue.final(job) == ["succeeded"]
    (moved,) = await queue.rows("SELECT region FROM jobs WHERE id = :id", id=job)
    assert moved.region == "singapore"


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


@pytest.mark.usefixtures("second_account")
async def test_files_of_a_model_that_no_account_knows_fail_with_the_code_of_upstream(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    refuse(sandbox, {"code": "ModelNotFound", "model": "fun-asr"})
    bound = await queue.post(*urls(50), region="beijing")
    movable = await queue.post(*urls(3), region="auto")
    async with start_poller(dashscope_beijing_api_key=TWO_KEYS):
        assert await queue.final(bound, movable) == ["failed", "failed"]
        (file, *_) = await queue.files(bound)
        assert (file.error_code, file.error_upstream_code) == ("model_unavailable", "ModelNotFound")
        assert (file.attempts, file.error_retryable) == (0, True)
        # Once upstream knows the model again, files are submitted: a probe that is due holds them.
        refuse(sandbox)
        await probe_now(queue)
        later = await queue.post(*urls(3), region="beijing")
        assert await queue.final(later) == ["succeeded"]


@pytest.mark.usefixtures("second_account")
async def test_model_unknown_to_one_account_and_not_granted_to_another_fails_no_file(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    unknown = {"key": KEY_OF_BEIJING, "code": "ModelNotFound", "model": "fun-asr"}
    refuse(sandbox, unknown, {"key": "sk-second", "code": "Model.AccessDenied", "model": "fun-asr"})
    job = await queue.post(*urls(20), region="beijing")
    async with start_poller(dashscope_beijing_api_key=TWO_KEYS):
        await queue.until("SELECT 1 FROM blockages WHERE region = 'beijing' AND model = 'fun-asr'")
        await queue.until("SELECT 1 FROM circuits WHERE closed_at IS NULL HAVING count(*) = 2")
        await assert_all_wait(queue, job)
        refuse(sandbox, unknown)
        await all_succeed(queue, job)


async def test_model_unknown_in_one_region_and_not_granted_in_another_fails_bound_files(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    refuse(
        sandbox,
        {"key": KEY_OF_BEIJING, "code": "ModelNotFound", "model": "fun-asr"},
        {"key": KEY_OF_SINGAPORE, "code": "Model.AccessDenied", "model": "fun-asr"},
    )
    bound = await queue.post(*urls(3), region="beijing")
    movable = await queue.post(*urls(3), region="auto")
    async with start_poller():
        assert await queue.final(bound) == ["failed"]
        await queue.until("SELECT 1 FROM circuits WHERE account = 'singapore/default' AND model = 'fun-asr'")
        await assert_all_wait(queue, movable)


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
        async with asyncio.timeout(30):
            while not sandbox.state.injected["refused"]:  # noqa: ASYNC110 - the sandbox has no event for it
                await asyncio.sleep(0.02)
        refuse(sandbox)
        await queue.until("SELECT 1 FROM tasks WHERE state = 'done' AND upstream_status = 'CANCELED'")


async def test_circuit_is_logged_once_when_it_opens_and_once_when_it_closes(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    refuse(sandbox, {"key": KEY_OF_BEIJING, "code": "InvalidApiKey"})
    job = await queue.post(*urls(300), region="beijing")
    with capture_logs() as lines:
        async with start_poller():
            await queue.until("SELECT 1 FROM circuits")
            await queue.until("SELECT 1 FROM files WHERE status = 'queued' HAVING count(*) = 300")
            refuse(sandbox)
            await all_succeed(queue, job)
    logged = [(line["log_level"], line["event"]) for line in lines if line["log_level"] != "debug"]
    assert logged == [("error", "circuit opened"), ("info", "circuit closed")]


async def test_another_account_of_the_region_submits_all_files(queue: QueueClient, start_poller: StartPoller) -> None:
    job = await queue.post(*urls(30), region="beijing")
    async with start_poller(dashscope_beijing_api_key="bad=sk-wrong,good=sk-sandbox-beijing"):
        assert await queue.final(job) == ["succeeded"]


async def test_circuit_of_a_removed_account_blocks_nothing(queue: QueueClient, start_poller: StartPoller) -> None:
    job = await queue.post(*urls(3), region="beijing")
    async with start_poller(dashscope_beijing_api_key="old=sk-wrong"):
        await queue.until("SELECT 1 FROM blockages WHERE account = 'beijing/old'")
    async with start_poller(dashscope_beijing_api_key="new=sk-sandbox-beijing"):
        assert await queue.final(job) == ["succeeded"]
        await queue.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM blockages)")


async def test_files_of_a_blocked_region_move_if_their_job_allows_it(
    queue: QueueClient, start_poller: StartPoller
) -> None:
    job = await queue.post(*urls(3), region="auto")
    bound = await queue.post(*urls(1), region="beijing")
    only_beijing = await queue.post(*urls(1), region="auto", model="paraformer-v2")
    async with start_poller(dashscope_beijing_api_key="sk-wrong"):
        assert await queue.final(job) == ["succeeded"]
    (moved,) = await queue.rows("SELECT region FROM jobs WHERE id = :id", id=job)
    assert moved.region == "singapore"
    waiting = [*await queue.files(bound), *await queue.files(only_beijing)]
    assert [(file.status, file.region) for file in waiting] == [("queued", "beijing")] * 2


async def test_files_of_a_region_without_a_key_move_to_another_region(
    queue: QueueClient, start_poller: StartPoller
) -> None:
    job = await queue.post(*urls(5), region="auto")
    async with start_poller(dashscope_beijing_api_key=None):
        assert await queue.final(job) == ["succeeded"]


async def test_files_of_a_region_that_is_no_longer_served_say_so_and_continue_once_it_is(
    queue: QueueClient, start_poller: StartPoller
) -> None:
    bound = await queue.post(*urls(2), region="beijing")
    published = (
        "SELECT account, everywhere, since FROM blockages WHERE region = 'beijing' AND code = 'region_not_served'"
    )
    seen: list[Any] = []
    for _ in range(2):  # `since` survives a restart
        async with start_poller(dashscope_beijing_api_key=None):
            await queue.until(published)
            seen += await queue.rows(published)
    assert seen[0] == seen[1]
    assert tuple(seen[0])[:2] == (None, False)
    async with start_poller():
        assert await queue.final(bound) == ["succeeded"]
        await queue.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM blockages)")


@pytest.mark.usefixtures("second_account")
async def test_files_of_a_model_that_is_unknown_fail_although_another_account_has_a_wrong_key(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    refuse(sandbox, {"key": KEY_OF_BEIJING, "code": "ModelNotFound", "model": "fun-asr"})
    job = await queue.post(*urls(3), region="beijing")
    async with start_poller(dashscope_beijing_api_key="first=sk-sandbox-beijing,second=sk-wrong"):
        assert await queue.final(job) == ["failed"]
    assert {file.error_code for file in await queue.files(job)} == {"model_unavailable"}


async def test_uploads_and_hot_words_stay_in_their_region(queue: QueueClient, start_poller: StartPoller) -> None:
    upload = await queue.post("oss://dashscope-instant/a/b.wav", region="auto")
    hot_words = await queue.post(*urls(1), region="auto", parameters={"vocabulary_id": "vocab-x-1"})
    moved = await queue.post(*urls(1), region="auto")
    async with start_poller(dashscope_beijing_api_key=None):
        assert await queue.final(moved) == ["succeeded"]
    waiting = [*await queue.files(upload), *await queue.files(hot_words)]
    assert [(file.status, file.region) for file in waiting] == [("queued", "beijing")] * 2


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


async def test_file_that_upstream_refuses_for_the_account_holds_up_no_other(
    queue: QueueClient, start_poller: StartPoller
) -> None:
    """Upstream responds 403 to each submit with the oldest file, and accepts all others."""
    poison = await queue.post("https://example.com/poison.wav?sandbox=deny", region="beijing")
    good = await queue.post(*urls(300), region="beijing")
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


async def test_circuit_whose_code_changes_is_open_since_the_change(queue: QueueClient) -> None:
    opened = []
    for code in ("account_key_refused", "account_key_refused", "account_unpaid"):
        failure = Failure(FailureKind.ACCOUNT_BLOCKED, code, "no")
        async with transaction(queue.sessions) as session:
            await open_circuit(session, "beijing/default", "", failure)
            (circuit,) = await read_circuits(session)
            opened.append(circuit.opened_at)
    assert opened[0] == opened[1] < opened[2]
