"""Files that an account may not submit: another account of the region submits them, or another region."""

from typing import Any

import pytest

from app.sandbox import RunningSandbox
from tests.poller.circuit_case import (
    KEY_OF_BEIJING,
    KEY_OF_SINGAPORE,
    TWO_KEYS,
    all_succeed,
    assert_all_wait,
    probe_now,
    refuse,
    urls,
)
from tests.poller.conftest import QueueClient, StartPoller


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


async def test_uploads_and_hot_words_stay_in_their_region(queue: QueueClient, start_poller: StartPoller) -> None:
    upload = await queue.post("oss://dashscope-instant/a/b.wav", region="auto")
    hot_words = await queue.post(*urls(1), region="auto", parameters={"vocabulary_id": "vocab-x-1"})
    moved = await queue.post(*urls(1), region="auto")
    async with start_poller(dashscope_beijing_api_key=None):
        assert await queue.final(moved) == ["succeeded"]
    waiting = [*await queue.files(upload), *await queue.files(hot_words)]
    assert [(file.status, file.region) for file in waiting] == [("queued", "beijing")] * 2


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


@pytest.mark.usefixtures("second_account")
async def test_files_of_a_model_that_is_unknown_fail_although_another_account_has_a_wrong_key(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    refuse(sandbox, {"key": KEY_OF_BEIJING, "code": "ModelNotFound", "model": "fun-asr"})
    job = await queue.post(*urls(3), region="beijing")
    async with start_poller(dashscope_beijing_api_key="first=sk-sandbox-beijing,second=sk-wrong"):
        assert await queue.final(job) == ["failed"]
    assert {file.error_code for file in await queue.files(job)} == {"model_unavailable"}
