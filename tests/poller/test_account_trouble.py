"""A refused key, an unpaid bill, a missing grant: no file fails for it, and all go on once it is over."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from app.dashscope.circuits import read_circuits, take_probe
from app.db import transaction
from app.sandbox import RunningSandbox
from app.sandbox.faults import Faults, RefusedKey
from tests.poller.conftest import Desk, StartPoller

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


async def probe_now(services: Desk) -> None:
    await services.rows("UPDATE circuits SET probe_at = now(), refused_probes = 0 RETURNING account")


async def all_succeed(services: Desk, job: UUID, *, attempts: int = 1) -> None:
    """Probes are due at once, so that no test waits for the time between two."""
    async with asyncio.timeout(30):
        while True:
            await probe_now(services)
            if await services.rows("SELECT 1 FROM jobs WHERE id = :id AND finished_at IS NOT NULL", id=job):
                break
            await asyncio.sleep(0.1)
    files = await services.files(job)
    assert {(file.status, file.attempts) for file in files} == {("succeeded", attempts)}


async def assert_all_wait(services: Desk, job: UUID) -> None:
    found = {(file.status, file.attempts, file.error_code) for file in await services.files(job)}
    assert found <= {("queued", 0, None), ("submitting", 0, None)}


async def test_a_wrong_key_fails_no_file_and_all_go_on_with_the_right_one(
    services: Desk, start_poller: StartPoller
) -> None:
    job = await services.post(*urls(300), region="beijing")
    async with start_poller(dashscope_beijing_api_key="sk-wrong"):
        # Claims that were made before the first refusal are refused as well, and the probe is refused twice.
        await services.until("SELECT 1 FROM circuits WHERE account = 'beijing/default' AND model = ''")
        await probe_now(services)
        await services.until("SELECT 1 FROM circuits WHERE refused_probes = 1")
        await probe_now(services)
        await services.until("SELECT 1 FROM circuits WHERE refused_probes = 1 AND probe_at > now() + interval '8 s'")
        await assert_all_wait(services, job)
    (circuit,) = await services.rows("SELECT code, upstream_code FROM circuits")
    assert tuple(circuit) == ("account_key_refused", "InvalidApiKey")
    # The new start probes at once, although the next probe was due in 10 s.
    async with start_poller():
        assert await services.final(job) == ["succeeded"]
    assert {file.attempts for file in await services.files(job)} == {1}
    assert not await services.rows("SELECT account FROM circuits")


async def test_probing_a_refused_key_makes_no_submit(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    refuse(sandbox, {"key": KEY_OF_BEIJING, "code": "InvalidApiKey"})
    job = await services.post(*urls(3), region="beijing")
    async with start_poller():
        await services.until("SELECT 1 FROM circuits")
        await services.until("SELECT 1 FROM files WHERE status = 'queued' HAVING count(*) = 3")
        refused = sandbox.state.injected["refused"]
        await probe_now(services)
        await services.until("SELECT 1 FROM circuits WHERE refused_probes = 1")
        assert sandbox.state.injected["refused"] == refused + 1
        assert await services.rows("SELECT 1 FROM budgets WHERE account = 'beijing/default' AND kind = 'query'")
        refuse(sandbox)
        await all_succeed(services, job)


async def test_an_unpaid_bill_costs_a_probe_one_file_that_waits_again(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    """A query is answered all the same: the bill is looked at by a submit alone."""
    refuse(sandbox, {"key": KEY_OF_BEIJING, "code": "Arrearage", "kinds": ("submit",)})
    job = await services.post(*urls(50), region="beijing")
    async with start_poller():
        await services.until("SELECT 1 FROM circuits WHERE code = 'account_unpaid'")
        for number in range(1, 4):
            await services.rows("UPDATE circuits SET probe_at = now() RETURNING account")
            await services.until("SELECT 1 FROM circuits WHERE refused_probes >= :number", number=number)
        await assert_all_wait(services, job)
        refuse(sandbox)
        await all_succeed(services, job)


async def test_the_time_between_probes_grows_up_to_a_minute(services: Desk, start_poller: StartPoller) -> None:
    await services.rows(
        "INSERT INTO circuits (account, code, message, probe_at, refused_probes)"
        " VALUES ('beijing/default', 'account_key_refused', '', now(), 0) RETURNING account"
    )
    async with start_poller(dashscope_beijing_api_key="sk-wrong"):
        for number, wait_s in enumerate([10, 20, 40, 60, 60], start=1):
            await services.until("SELECT 1 FROM circuits WHERE refused_probes = :number", number=number)
            (circuit,) = await services.rows(
                "SELECT extract(epoch FROM probe_at - now())::float8 AS wait_s, probe_lease_until FROM circuits"
            )
            assert wait_s - 3 < circuit.wait_s <= wait_s
            assert circuit.probe_lease_until is None
            await services.rows("UPDATE circuits SET probe_at = now() RETURNING account")


async def test_a_circuit_without_a_file_to_try_is_closed_by_the_query_alone(
    services: Desk, start_poller: StartPoller
) -> None:
    await services.rows(
        "INSERT INTO circuits (account, code, message, probe_at) VALUES"
        " ('beijing/default', 'account_key_refused', '', now()), ('singapore/default', 'account_unpaid', '', now())"
        " RETURNING account"
    )
    async with start_poller():
        await services.until("SELECT 1 FROM circuits HAVING count(*) = 1")
    # Whether a bill is paid, no query tells.
    (circuit,) = await services.rows("SELECT account, refused_probes FROM circuits")
    assert tuple(circuit) == ("singapore/default", 0)


async def test_one_poller_at_a_time_probes(services: Desk) -> None:
    await services.rows(
        "INSERT INTO circuits (account, code, message, probe_at)"
        " VALUES ('beijing/default', 'account_unpaid', '', now()) RETURNING account"
    )

    async def take() -> bool:
        async with transaction(services.sessions) as session:
            (circuit,) = await read_circuits(session)
            return await take_probe(session, circuit)

    assert sorted(await asyncio.gather(*(take() for _ in range(5)))) == [False] * 4 + [True]
    await services.rows("UPDATE circuits SET probe_lease_until = now() - interval '1 s' RETURNING account")
    assert await take()


async def test_a_probe_whose_file_is_to_blame_goes_on_with_the_next_file(
    services: Desk, start_poller: StartPoller
) -> None:
    await services.rows(
        "INSERT INTO circuits (account, code, message, probe_at)"
        " VALUES ('beijing/default', 'account_unpaid', '', now()) RETURNING account"
    )
    bad = await services.post("https://example.com/x.wav?sandbox=refuse", region="beijing")
    good = await services.post(*urls(2), region="beijing")
    async with start_poller():
        assert await services.final(bad) == ["failed"]
        await all_succeed(services, good)
    assert not await services.rows("SELECT account FROM circuits")


@pytest.mark.parametrize(
    ("code", "shown"),
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
async def test_files_that_one_account_may_not_submit_go_out_with_the_other(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox, code: str, shown: str
) -> None:
    refuse(sandbox, {"key": KEY_OF_BEIJING, "code": code, "model": "fun-asr"})
    jobs = [await services.post(*urls(2), region="beijing", parameters={"channel_id": [0, n]}) for n in range(1, 5)]
    other = await services.post(*urls(2), region="beijing", model="paraformer-v2")
    async with start_poller(dashscope_beijing_api_key=TWO_KEYS):
        assert await services.final(*jobs, other) == ["succeeded"] * 5
    assert {submit.key for submit in sandbox.state.submits if submit.model == "fun-asr"} == {"sk-second"}
    circuits = await services.rows("SELECT account, code FROM circuits")
    assert {tuple(circuit) for circuit in circuits} <= {("beijing/first", shown)}


@pytest.mark.parametrize("code", ["Model.AccessDenied", "AccessDenied.Unpurchased", "ModelNotFound", "Arrearage"])
async def test_files_that_no_account_of_the_region_may_submit_go_to_the_other_region(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox, code: str
) -> None:
    refuse(sandbox, {"key": KEY_OF_BEIJING, "code": code, "model": "fun-asr"})
    job = await services.post(*urls(20), region="auto")
    async with start_poller():
        assert await services.final(job) == ["succeeded"]
    (moved,) = await services.rows("SELECT region FROM jobs WHERE id = :id", id=job)
    assert moved.region == "singapore"


async def test_a_model_that_is_not_granted_blocks_no_other_model(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    refuse(sandbox, {"code": "Model.AccessDenied", "model": "fun-asr"})
    job = await services.post(*urls(5), region="beijing")
    other = await services.post(*urls(5), region="beijing", model="paraformer-v2")
    async with start_poller():
        assert await services.final(other) == ["succeeded"]
        await services.until("SELECT 1 FROM circuits WHERE model = 'fun-asr' AND code = 'model_not_granted'")
        await assert_all_wait(services, job)
        refuse(sandbox)
        await all_succeed(services, job)
    assert not await services.rows("SELECT account FROM circuits")


@pytest.mark.usefixtures("second_account")
async def test_a_model_that_no_account_finds_fails_its_files_with_upstreams_code(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    refuse(sandbox, {"code": "ModelNotFound", "model": "fun-asr"})
    bound = await services.post(*urls(50), region="beijing")
    movable = await services.post(*urls(3), region="auto")
    async with start_poller(dashscope_beijing_api_key=TWO_KEYS):
        assert await services.final(bound, movable) == ["failed", "failed"]
        (file, *_) = await services.files(bound)
        assert (file.error_code, file.error_upstream_code) == ("model_unavailable", "ModelNotFound")
        assert (file.attempts, file.error_retryable) == (0, True)
        # Found again, it is submitted again: a probe that is due holds the files.
        refuse(sandbox)
        await probe_now(services)
        later = await services.post(*urls(3), region="beijing")
        assert await services.final(later) == ["succeeded"]


@pytest.mark.usefixtures("second_account")
async def test_a_model_that_one_account_does_not_find_and_another_may_not_use_fails_no_file(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    unknown = {"key": KEY_OF_BEIJING, "code": "ModelNotFound", "model": "fun-asr"}
    refuse(sandbox, unknown, {"key": "sk-second", "code": "Model.AccessDenied", "model": "fun-asr"})
    job = await services.post(*urls(20), region="beijing")
    async with start_poller(dashscope_beijing_api_key=TWO_KEYS):
        await services.until("SELECT 1 FROM blockages WHERE region = 'beijing' AND model = 'fun-asr'")
        await services.until("SELECT 1 FROM circuits HAVING count(*) = 2")
        await assert_all_wait(services, job)
        refuse(sandbox, unknown)
        await all_succeed(services, job)


async def test_a_model_that_is_not_found_here_and_not_granted_there_fails_bound_files_only(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    refuse(
        sandbox,
        {"key": KEY_OF_BEIJING, "code": "ModelNotFound", "model": "fun-asr"},
        {"key": KEY_OF_SINGAPORE, "code": "Model.AccessDenied", "model": "fun-asr"},
    )
    bound = await services.post(*urls(3), region="beijing")
    movable = await services.post(*urls(3), region="auto")
    async with start_poller():
        assert await services.final(bound) == ["failed"]
        await services.until("SELECT 1 FROM circuits WHERE account = 'singapore/default' AND model = 'fun-asr'")
        await assert_all_wait(services, movable)


async def test_trouble_of_the_account_that_shows_when_the_task_runs_fails_no_file(
    services: Desk, start_poller: StartPoller
) -> None:
    job = await services.post("https://example.com/a.wav?sandbox=fail_once:Arrearage", region="beijing")
    async with start_poller():
        await services.until("SELECT 1 FROM circuits WHERE code = 'account_unpaid'")
        await all_succeed(services, job, attempts=2)


@pytest.mark.parametrize("kind", ["query", "list"])
async def test_a_key_that_is_refused_while_tasks_run_fails_no_file(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox, kind: str
) -> None:
    running = await services.post("https://example.com/a.wav?sandbox=run:1", region="beijing")
    async with start_poller(dashscope_beijing_query_rps=1 if kind == "list" else 20):
        await services.until("SELECT 1 FROM tasks WHERE state = 'running'")
        refuse(sandbox, {"key": KEY_OF_BEIJING, "code": "InvalidApiKey"})
        await services.until("SELECT 1 FROM circuits WHERE account = 'beijing/default'")
        assert [file.status for file in await services.files(running)] == ["running"]
        refuse(sandbox)
        await all_succeed(services, running)
        await services.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM circuits)")


async def test_a_lost_submit_is_not_given_up_while_the_list_is_refused_for_the_key(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    sandbox.state.faults = Faults(drop_submit_rate=1)
    job = await services.post(*urls(1), region="beijing")
    async with start_poller():
        await services.until("SELECT 1 FROM tasks WHERE state = 'unsure'")
        refuse(sandbox, {"key": KEY_OF_BEIJING, "code": "InvalidApiKey"})
        await services.until("SELECT 1 FROM circuits")
        refuse(sandbox)
        assert await services.final(job) == ["succeeded"]
    assert sandbox.state.submitted_files()["https://example.com/0.wav"] == 1


async def test_a_cancel_that_is_refused_for_the_key_is_tried_again(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    await services.post("https://example.com/a.wav?sandbox=queue:60", region="beijing")
    async with start_poller():
        await services.until("SELECT 1 FROM tasks WHERE state = 'running'")
        refuse(sandbox, {"key": KEY_OF_BEIJING, "code": "InvalidApiKey", "kinds": ("cancel",)})
        await services.rows("UPDATE tasks SET cancel_wanted_at = now(), next_poll_at = NULL RETURNING id")
        async with asyncio.timeout(30):
            while not sandbox.state.injected["refused"]:  # noqa: ASYNC110 - the sandbox has no event for it
                await asyncio.sleep(0.02)
        refuse(sandbox)
        await services.until("SELECT 1 FROM tasks WHERE state = 'done' AND upstream_status = 'CANCELED'")


async def test_the_log_has_one_line_for_a_circuit_that_opens_and_one_for_its_end(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    refuse(sandbox, {"key": KEY_OF_BEIJING, "code": "InvalidApiKey"})
    job = await services.post(*urls(300), region="beijing")
    with capture_logs() as lines:
        async with start_poller():
            await services.until("SELECT 1 FROM circuits")
            await services.until("SELECT 1 FROM files WHERE status = 'queued' HAVING count(*) = 300")
            refuse(sandbox)
            await all_succeed(services, job)
    told = [(line["log_level"], line["event"]) for line in lines if line["log_level"] != "debug"]
    assert told == [("error", "circuit opened"), ("info", "circuit closed")]


async def test_another_account_of_the_region_takes_over(services: Desk, start_poller: StartPoller) -> None:
    job = await services.post(*urls(30), region="beijing")
    async with start_poller(dashscope_beijing_api_key="bad=sk-wrong,good=sk-sandbox-beijing"):
        assert await services.final(job) == ["succeeded"]


async def test_a_circuit_of_an_account_that_was_removed_blocks_nothing(
    services: Desk, start_poller: StartPoller
) -> None:
    job = await services.post(*urls(3), region="beijing")
    async with start_poller(dashscope_beijing_api_key="old=sk-wrong"):
        await services.until("SELECT 1 FROM blockages WHERE account = 'beijing/old'")
    async with start_poller(dashscope_beijing_api_key="new=sk-sandbox-beijing"):
        assert await services.final(job) == ["succeeded"]
        await services.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM blockages)")


async def test_files_whose_region_is_open_go_to_the_other_region(services: Desk, start_poller: StartPoller) -> None:
    job = await services.post(*urls(3), region="auto")
    bound = await services.post(*urls(1), region="beijing")
    only_beijing = await services.post(*urls(1), region="auto", model="paraformer-v2")
    async with start_poller(dashscope_beijing_api_key="sk-wrong"):
        assert await services.final(job) == ["succeeded"]
    (moved,) = await services.rows("SELECT region FROM jobs WHERE id = :id", id=job)
    assert moved.region == "singapore"
    waiting = [*await services.files(bound), *await services.files(only_beijing)]
    assert [(file.status, file.region) for file in waiting] == [("queued", "beijing")] * 2


async def test_files_of_a_region_whose_key_was_taken_away_go_to_the_other_region(
    services: Desk, start_poller: StartPoller
) -> None:
    job = await services.post(*urls(5), region="auto")
    async with start_poller(dashscope_beijing_api_key=None):
        assert await services.final(job) == ["succeeded"]


async def test_uploads_and_hot_words_stay_in_the_region_that_they_belong_to(
    services: Desk, start_poller: StartPoller
) -> None:
    upload = await services.post("oss://dashscope-instant/a/b.wav", region="auto")
    hot_words = await services.post(*urls(1), region="auto", parameters={"vocabulary_id": "vocab-x-1"})
    moved = await services.post(*urls(1), region="auto")
    async with start_poller(dashscope_beijing_api_key=None):
        assert await services.final(moved) == ["succeeded"]
    waiting = [*await services.files(upload), *await services.files(hot_words)]
    assert [(file.status, file.region) for file in waiting] == [("queued", "beijing")] * 2


async def test_a_circuit_closes_again_although_all_files_may_go_elsewhere(
    services: Desk, start_poller: StartPoller
) -> None:
    """A probe of a bill needs a file: while one is due, files are not moved away."""
    await services.rows(
        "INSERT INTO circuits (account, code, message, probe_at)"
        " VALUES ('beijing/default', 'account_unpaid', '', now()) RETURNING account"
    )
    job = await services.post(*urls(3), region="auto")
    async with start_poller():
        assert await services.final(job) == ["succeeded"]
        await services.until("SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM circuits)")
