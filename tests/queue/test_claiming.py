"""Claims: the order of clients, the size of groups, and group limits that upstream teaches."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import TextClause

from app.dashscope.circuits import close_circuit, open_circuit
from app.dashscope.failures import classify_call
from app.db import Sessions, transaction
from app.poller.submitter import may_be_one_file
from app.queue.claiming import COUNT, PICK, Claim, claim_any_file, claim_tasks, group_size
from app.queue.commands import cancel_job, retry_job
from app.queue.due_work import read_due_work
from app.queue.submissions import fail_files, mark_running, requeue, split_group
from app.queue.submit_queues import (
    FULL_SCAN_EVERY_S,
    WAITING,
    WAITING_BEHIND,
    FullScans,
    QueueHeads,
    SubmitQueue,
    WaitingQueues,
)
from app.sandbox import RunningSandbox, SandboxConfig
from tests.poller.conftest import QueueClient, StartPoller
from tests.queue.claims import claim_task

pytestmark = pytest.mark.new_connections

QUEUE = SubmitQueue(account="beijing/default", region="beijing", model="fun-asr", max_files=100, submits_per_s=10)


async def claim(sessions: Sessions, submit_queue: SubmitQueue = QUEUE) -> Claim | None:
    async with transaction(sessions) as session:
        return await claim_task(session, submit_queue)


def urls(name: str, count: int) -> list[str]:
    return [f"https://example.com/{name}/{number}.wav" for number in range(count)]


async def test_claim_without_queued_files_is_none(sessions: Sessions) -> None:
    assert await claim(sessions) is None


async def test_single_queued_file_is_a_task_of_its_own(queue: QueueClient) -> None:
    await queue.post("https://example.com/a.wav")
    claimed = await claim(queue.sessions)
    assert claimed is not None
    assert claimed.file_urls == ["https://example.com/a.wav"]
    assert await claim(queue.sessions) is None


@pytest.mark.parametrize("model", ["", "fun-asr"])
async def test_account_whose_circuit_has_opened_claims_no_file(queue: QueueClient, model: str) -> None:
    """A claim may begin before a refusal is stored, and find the files that the refusal has queued again."""
    await queue.post("https://example.com/a.wav")
    first = await claim(queue.sessions)
    assert first is not None
    async with transaction(queue.sessions) as session:
        await requeue(session, first.task_id)
        await open_circuit(session, QUEUE.account, model, classify_call(401, "InvalidApiKey", ""))
    assert await claim(queue.sessions) is None
    assert await claim(queue.sessions, replace(QUEUE, max_files=1)) is None
    assert await claim(queue.sessions, replace(QUEUE, account="beijing/second")) is not None


@pytest.mark.parametrize(("account", "model"), [("beijing/second", ""), ("beijing/default", "paraformer-v2")])
async def test_circuit_of_another_account_or_model_stops_no_claim(queue: QueueClient, account: str, model: str) -> None:
    await queue.post("https://example.com/a.wav")
    async with transaction(queue.sessions) as session:
        await open_circuit(session, account, model, classify_call(401, "InvalidApiKey", ""))
        await open_circuit(session, QUEUE.account, "", classify_call(401, "InvalidApiKey", ""))
        await close_circuit(session, QUEUE.account, "")
    assert await claim(queue.sessions) is not None


async def test_claim_of_single_files_takes_one_of_each_client_in_turn(queue: QueueClient) -> None:
    other = await queue.client("other")
    await queue.post(*urls("a", 3))
    await queue.post(*urls("b", 3), client_id=other)
    tokens = [uuid4() for _ in range(4)]
    async with transaction(queue.sessions) as session:
        claims = await claim_tasks(session, replace(QUEUE, max_files=1), tokens=tokens)
    assert sorted(claim.file_urls for claim in claims) == [[url] for name in "ab" for url in urls(name, 2)]
    assert [claim.token for claim in claims] == tokens
    rows = await queue.rows("SELECT files.url, lease_token FROM files JOIN tasks ON tasks.id = task_id")
    assert {row.url: row.lease_token for row in rows} == {claim.file_urls[0]: claim.token for claim in claims}


async def test_claim_of_a_group_is_one_task(queue: QueueClient) -> None:
    await queue.post(*urls("a", 5))
    async with transaction(queue.sessions) as session:
        claims = await claim_tasks(session, replace(QUEUE, submits_per_s=1), tokens=[uuid4() for _ in range(4)])
    assert [claim.file_urls for claim in claims] == [urls("a", 5)]


async def test_probe_claims_one_random_file(queue: QueueClient) -> None:
    await queue.post(*urls("a", 1), parameters={"language_hints": ["zh"]})
    await queue.post(*urls("b", 1), client_id=await queue.client("other"))
    seen = set()
    for _ in range(60):  # the probability of the same file each time is 2 to 10^18
        async with transaction(queue.sessions) as session:
            claimed = await claim_any_file(session, QUEUE, token=uuid4())
            assert claimed is not None
            assert len(claimed.file_urls) == 1
            seen |= set(claimed.file_urls)
            await requeue(session, claimed.task_id)
    assert seen == {*urls("a", 1), *urls("b", 1)}


async def test_backlog_is_claimed_in_tasks_large_enough_to_drain_it(queue: QueueClient) -> None:
    await queue.post(*urls("backlog", 500))
    claimed = await claim(queue.sessions)
    assert claimed is not None
    assert 50 <= len(claimed.file_urls) <= 100


async def test_files_with_different_parameters_never_share_a_task(queue: QueueClient) -> None:
    await queue.post(*urls("zh", 3), parameters={"language_hints": ["zh"]})
    await queue.post(*urls("en", 3), parameters={"language_hints": ["en"]})
    seen = []
    while claimed := await claim(queue.sessions):
        seen.append((claimed.parameters["language_hints"], {url.split("/")[3] for url in claimed.file_urls}))
    assert {(hints[0], *names) for hints, names in seen} == {("zh", "zh"), ("en", "en")}


async def test_task_never_has_the_same_url_twice(queue: QueueClient) -> None:
    for _ in range(3):
        await queue.post("https://example.com/same.wav", "https://example.com/other.wav")
    while claimed := await claim(queue.sessions):
        assert len(set(claimed.file_urls)) == len(claimed.file_urls)
    assert not await queue.rows("SELECT 1 FROM files WHERE status = 'queued'")


async def test_concurrent_claims_take_different_files(queue: QueueClient) -> None:
    await queue.post(*urls("race", 40))
    claims = await asyncio.gather(*(claim(queue.sessions) for _ in range(8)))
    taken = [url for claimed in claims if claimed for url in claimed.file_urls]
    assert len(taken) == len(set(taken))


async def test_backlog_of_one_client_does_not_delay_another_client(queue: QueueClient) -> None:
    """Of 3,000 queued files of A and ten of B, the next task has all of B: it takes one of each in turn."""
    other = await queue.client("other")
    await queue.post(*urls("a", 3000))
    await queue.post(*urls("b", 10), client_id=other)
    claimed = await claim(queue.sessions)
    assert claimed is not None
    assert sum("/b/" in url for url in claimed.file_urls) == 10


async def test_clients_whose_files_cannot_share_a_task_take_turns(queue: QueueClient) -> None:
    other = await queue.client("other")
    submit_queue = SubmitQueue(
        account="beijing/default", region="beijing", model="fun-asr", max_files=1, submits_per_s=10
    )
    await queue.post(*urls("a", 30))
    await queue.post(*urls("b", 5), client_id=other, parameters={"language_hints": ["zh"]})
    order = ""
    for _ in range(10):
        claimed = await claim(queue.sessions, submit_queue)
        assert claimed is not None
        order += claimed.file_urls[0].split("/")[3]
    assert order == "ab" * 5


@pytest.mark.parametrize("sandbox", [SandboxConfig(queue_s=0.02, run_s=0.05, max_files_per_task=1)], indirect=True)
async def test_smaller_group_limit_of_upstream_is_learned(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    job = await queue.post(*urls("limit", 60))
    async with start_poller():
        assert await queue.final(job) == ["succeeded"]
    (limit,) = await queue.rows("SELECT account, model, max_files FROM group_limits")
    assert tuple(limit) == ("beijing/default", "fun-asr", 1)
    assert sandbox.state.transcribed_files().total() == 60


@pytest.mark.parametrize(
    ("waiting", "age_s", "groups", "size"),
    [
        (1, 0.0, 1, 1),
        (1, 60.0, 1, 1),
        (3, 0.0, 1, 1),
        (90, 0.0, 1, 30),
        (60, 0.15, 1, 40),
        (500, 0.0, 1, 100),
        (40, 5.0, 1, 40),
        (5000, 5.0, 1, 100),
        (100, 0.0, 10, 100),
    ],
)
def test_group_size_drains_the_backlog_in_time(waiting: int, age_s: float, groups: int, size: int) -> None:
    assert group_size(waiting=waiting, oldest_age_s=age_s, submits_per_s=10, groups=groups, max_files=100) == size


async def test_message_of_a_refused_group_shows_no_url_of_another_file(queue: QueueClient) -> None:
    other = await queue.client("other")
    mine, theirs = "https://a.example/x.wav?Signature=1", "https://clinic.example/mueller-2.wav?Signature=2"
    await queue.post(mine, *urls("more", 3))
    await queue.post(theirs, client_id=other)
    claimed = await claim(queue.sessions)
    assert claimed is not None
    assert {mine, theirs} <= set(claimed.file_urls)
    refused = classify_call(403, "AccessDenied", f"cannot read {theirs} or {mine} denied")
    async with transaction(queue.sessions) as session:
        await fail_files(session, claimed.task_id, failure=refused)
    files = await queue.rows("SELECT url, error_message FROM files WHERE status = 'failed'")
    messages = {file.url: file.error_message for file in files}
    assert messages[mine] == "AccessDenied: cannot read … or https://a.example/x.wav denied"
    assert messages[theirs] == "AccessDenied: cannot read https://clinic.example/mueller-2.wav or … denied"
    assert {messages[url] for url in claimed.file_urls if "/more/" in url} <= {
        "AccessDenied: cannot read … or … denied"
    }


async def test_files_whose_urls_differ_only_in_escapes_never_share_a_task(queue: QueueClient) -> None:
    await queue.post("https://example.com/x%2Fy.wav", "https://example.com/z.wav")
    await queue.post("https://example.com/x/y.wav", client_id=await queue.client("other"))
    claimed = [await claim(queue.sessions) for _ in range(3)]
    assert sum(len(each.file_urls) for each in claimed if each) == 3
    for each in claimed:
        assert each is None or len([url for url in each.file_urls if url.endswith("y.wav")]) < 2


async def test_group_refused_because_of_a_url_teaches_no_limit(queue: QueueClient) -> None:
    """Both halves are accepted later, but the refusal was not about the size."""
    await queue.post(*urls("slow", 8))
    submit_queue = SubmitQueue(
        account="beijing/default", region="beijing", model="fun-asr", max_files=8, submits_per_s=1
    )
    claimed = await claim(queue.sessions, submit_queue)
    assert claimed is not None
    async with transaction(queue.sessions) as session:
        await split_group(session, claimed.task_id, last_error="InvalidURL.Timeout", suspect=False)
    while claimed := await claim(queue.sessions, submit_queue):
        async with transaction(queue.sessions) as session:
            assert await mark_running(session, claimed.task_id, str(claimed.task_id), poll_in_s=0) == []


@pytest.mark.slow
async def test_claim_reads_few_rows_with_many_group_keys_of_one_client(queue: QueueClient) -> None:
    """Counts the rows that PostgreSQL reads, not time."""
    for number in range(300):
        await queue.post(f"https://example.com/{number}.wav", parameters={"vocabulary_id": f"vocab-x-{number}"})
    plan = await queue.rows(f"EXPLAIN (ANALYZE, FORMAT JSON) {WAITING}", **QUEUE.key)
    assert most_rows(plan[0][0][0]["Plan"]) < 20


def pages(plan: dict[str, Any]) -> int:
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


async def pages_of(queue: QueueClient, statement: TextClause, **values: Any) -> int:
    rows = await queue.rows(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", **values)
    return pages(rows[0][0][0]["Plan"])


@pytest.fixture
async def old_snapshot(database_url: str) -> AsyncIterator[Any]:
    """A transaction that sees the database as it is now, so that no row version that ends from now on is removed."""
    connection = await asyncpg.connect(database_url)  # type: ignore[no-untyped-call]
    async with connection.transaction(isolation="repeatable_read"):
        await connection.fetchval("SELECT count(*) FROM files")
        yield connection
    await connection.close()


@pytest.mark.slow
async def test_claims_read_few_pages_while_an_old_snapshot_keeps_the_rows_of_the_past(
    queue: QueueClient, old_snapshot: Any
) -> None:
    for number in range(20):
        await queue.post(*urls(f"past-{number}", 100))
    while await claim(queue.sessions):
        pass
    await queue.post(*urls("now", 30))
    heads = QueueHeads(FullScans(clock=lambda: 0.0))
    async with transaction(queue.sessions) as session:
        (head,) = await heads.waiting(session, QUEUE)
    known = {**QUEUE.key, "clients": [head.client_id], "jobs": [head.job_id], "rooms": [100]}
    full = await pages_of(queue, WAITING, **QUEUE.key)
    behind = await pages_of(queue, WAITING_BEHIND, **known)
    pick = await pages_of(queue, PICK, **known, account=QUEUE.account, group_key=head.group_key, size=30, reach=80)
    count = await pages_of(queue, COUNT, **known, account=QUEUE.account, group_key=head.group_key, max_count=1000)
    assert full > 10 * behind
    # The rows of the 30 files and the index entries that lead to them.
    assert max(behind, pick, count) < 150


async def test_a_slow_scan_is_not_repeated_at_once_and_a_quick_one_is(queue: QueueClient) -> None:
    now = 0.0
    heads = QueueHeads(FullScans(clock=lambda: now, slow_scan_s=0.0))
    other = await queue.client("other")

    async def clients() -> set[Any]:
        async with transaction(queue.sessions) as session:
            return {row.client_id for row in await heads.waiting(session, QUEUE)}

    await queue.post(*urls("a", 3))
    assert await clients() == {queue.client_id}
    await queue.post(*urls("b", 3), client_id=other)
    assert await clients() == {queue.client_id}
    now = FULL_SCAN_EVERY_S
    assert await clients() == {queue.client_id, other}
    heads = QueueHeads(FullScans(clock=lambda: 0.0, slow_scan_s=60.0))
    await queue.rows("DELETE FROM jobs WHERE client_id = :id RETURNING id", id=other)
    assert await clients() == {queue.client_id}
    await queue.post(*urls("b", 3), client_id=other)
    assert await clients() == {queue.client_id, other}


async def test_a_claim_without_a_known_head_looks_at_the_whole_queue(queue: QueueClient) -> None:
    """A retried file is older than the known head of its client."""
    first = await queue.post(*urls("a", 1))
    await cancel_job(queue.sessions, queue.client_id, first)
    await queue.post(*urls("b", 1))
    heads = QueueHeads(FullScans(clock=lambda: 0.0, slow_scan_s=0.0))
    async with transaction(queue.sessions) as session:
        assert await claim_task(session, QUEUE, token=uuid4(), heads=heads)
    async with transaction(queue.sessions) as session:
        await retry_job(session, queue.client_id, first)
    async with transaction(queue.sessions) as session:
        claimed = await claim_task(session, QUEUE, token=uuid4(), heads=heads)
    assert claimed is not None
    assert claimed.file_urls == urls("a", 1)


async def test_a_slow_scan_of_all_queues_is_used_again(queue: QueueClient) -> None:
    now = 0.0
    queues = WaitingQueues(FullScans(clock=lambda: now, slow_scan_s=0.0))

    async def found() -> list[tuple[str, str]]:
        async with transaction(queue.sessions) as session:
            return (await read_due_work(session, {}, queues)).waiting

    assert await found() == []
    await queue.post(*urls("a", 1))
    assert await found() == []
    now = FULL_SCAN_EVERY_S
    assert await found() == [("beijing", "fun-asr")]


def most_rows(plan: dict[str, Any]) -> float:
    return max([float(plan["Actual Rows"]), *(most_rows(inner) for inner in plan.get("Plans", []))])


@pytest.mark.parametrize(
    ("status", "code", "message", "count", "split"),
    [
        (400, "InvalidParameter", "input.file_urls[0] is not valid", 2, True),
        (400, "InvalidParameter", "url error, please check url！", 2, True),  # for a model or for a URL
        (400, "DataInspectionFailed", "", 2, True),
        (400, "InvalidParameter", "anything", 1, False),
        (404, "ModelNotFound", "Model can not be found.", 2, False),
        (403, "Model.AccessDenied", "", 2, False),
    ],
)
def test_group_is_split_after_a_400(status: int, code: str, message: str, count: int, split: bool) -> None:
    assert may_be_one_file(classify_call(status, code, message), count) is split
