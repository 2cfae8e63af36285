"""Submits whose response is lost: no file is transcribed twice, and none is forgotten."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.dashscope.wire import ListedTask, TaskStatus
from app.db import transaction
from app.poller.list_matching import Candidate, LostSubmit, Rivals
from app.poller.poller import poller_context
from app.poller.reconciler import INCOMPLETE, Reconciler
from app.queue.due_work import unresolved_submits
from app.queue.submissions import mark_running, mark_unsure
from app.queue.submit_queues import SubmitQueue
from app.sandbox import Faults, RunningSandbox, SandboxConfig
from tests.poller.conftest import PACE, QueueClient, StartPoller, settings_for, until
from tests.queue.claims import claim_task

ONE_FILE_A_TASK = SandboxConfig(queue_s=0.05, run_s=0.1, max_files_per_task=1, submit_rps=1000, query_rps=1000)
FAST = {
    "dashscope_beijing_submit_rps": 50,
    "dashscope_beijing_query_rps": 100,
    "dashscope_beijing_max_files_per_task": 1,
}


SAME = "https://example.com/same.wav"
ONE_BY_ONE = SubmitQueue(account="beijing/default", region="beijing", model="fun-asr", max_files=1, submits_per_s=10)
TOKEN = UUID(int=1)


def with_faults(sandbox: RunningSandbox, **knobs: float | bool | frozenset[str]) -> None:
    sandbox.state.faults = msgspec.structs.replace(Faults(), **knobs)


def max_transcriptions(sandbox: RunningSandbox) -> int:
    return max(sandbox.state.transcribed_files().values())


@pytest.mark.parametrize("sandbox", [ONE_FILE_A_TASK], indirect=True)
@pytest.mark.parametrize(
    ("fault", "rate"),
    [("drop_submit_rate", 0.3), ("lose_submit_rate", 0.3), ("error_submit_rate", 0.3), ("html_rate", 0.1)],
)
async def test_every_file_is_transcribed_once_despite_lost_responses(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox, fault: str, rate: float
) -> None:
    with_faults(sandbox, **{fault: rate})
    job = await queue.post(*(f"https://example.com/{number}.wav" for number in range(20)))
    async with start_poller(**FAST):
        assert await queue.final(job) == ["succeeded"]
    assert len(sandbox.state.transcribed_files()) == 20
    assert max_transcriptions(sandbox) == 1


@pytest.mark.parametrize("sandbox", [ONE_FILE_A_TASK], indirect=True)
async def test_equal_lost_groups_adopt_one_task_each(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    with_faults(sandbox, drop_submit_rate=1.0)
    jobs = [await queue.post("https://example.com/same.wav") for _ in range(3)]
    async with start_poller(**FAST):
        assert await queue.final(*jobs) == ["succeeded"] * 3
    assert sandbox.state.transcribed_files() == {"https://example.com/same.wav": 3}


async def test_lost_qwen_task_is_found_by_the_url_in_its_result(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    with_faults(sandbox, drop_submit_rate=1.0)
    job = await queue.post("https://example.com/q.wav", model="qwen3-asr-flash-filetrans")
    async with start_poller():
        assert await queue.final(job) == ["succeeded"]
    assert max_transcriptions(sandbox) == 1


async def test_lost_upload_is_found_although_upstream_echoes_another_url(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    with_faults(sandbox, drop_submit_rate=1.0)
    job = await queue.post("oss://dashscope-instant/a/2026-11-23/b/hello%20world.wav")
    async with start_poller():
        assert await queue.final(job) == ["succeeded"]
    assert max_transcriptions(sandbox) == 1


async def test_lost_submit_is_not_repeated_while_its_task_shows_a_part_of_its_files(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    with_faults(sandbox, drop_submit_rate=1.0, quirks=frozenset({"first_results_only"}))
    job = await queue.post(*(f"https://example.com/{number}.wav" for number in range(40)))
    async with start_poller():
        await queue.until("SELECT 1 FROM tasks WHERE state = 'unsure' AND last_error = :reason", reason=INCOMPLETE)
        with_faults(sandbox)
        assert await queue.final(job) == ["succeeded"]
    assert max_transcriptions(sandbox) == 1


async def test_task_that_keeps_showing_a_part_of_its_files_is_adopted(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    with_faults(sandbox, drop_submit_rate=1.0, quirks=frozenset({"first_results_only"}))
    job = await queue.post(*(f"https://example.com/{number}.wav" for number in range(40)))
    async with start_poller(pace=replace(PACE, incomplete_wait_s=0.5)):
        await queue.until("SELECT 1 FROM tasks WHERE state = 'running'")
        with_faults(sandbox)
        assert await queue.final(job) == ["succeeded"]
    assert max_transcriptions(sandbox) == 1


async def test_lost_submit_is_found_although_its_results_are_repeated(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    with_faults(sandbox, drop_submit_rate=1.0, repeat_results=True)
    job = await queue.post(*(f"https://example.com/{number}.wav" for number in range(5)))
    async with start_poller():
        assert await queue.final(job) == ["succeeded"]
    assert max_transcriptions(sandbox) == 1


async def test_lost_submit_is_not_repeated_while_the_list_is_refused(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    with_faults(sandbox, drop_submit_rate=1.0, list_refused=True)
    job = await queue.post("https://example.com/a.wav")
    async with start_poller():
        await queue.until("SELECT 1 FROM tasks WHERE state = 'unsure' AND polls > 0")
        assert len(sandbox.state.submits) == 1
        with_faults(sandbox)
        assert await queue.final(job) == ["succeeded"]
    assert len(sandbox.state.submits) == 1


async def test_submit_of_a_killed_poller_is_found(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    """After kill -9 the row is `submitting` with a lease that expires. Upstream has the task."""
    job = await queue.post("https://example.com/a.wav")
    with_faults(sandbox, drop_submit_rate=1.0, list_refused=True)
    async with start_poller():
        await until(lambda: sandbox.state.submits)
    await set_back_to_submitting(queue, job)
    with_faults(sandbox)
    async with start_poller():
        assert await queue.final(job) == ["succeeded"]
    assert len(sandbox.state.submits) == 1


async def test_claim_that_was_never_sent_is_submitted(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    job = await queue.post("https://example.com/a.wav")
    with_faults(sandbox, lose_submit_rate=1.0, list_refused=True)
    async with start_poller():
        await queue.until("SELECT 1 FROM tasks WHERE state = 'unsure'")
    await set_back_to_submitting(queue, job)
    with_faults(sandbox)
    async with start_poller():
        assert await queue.final(job) == ["succeeded"]
    assert sandbox.state.transcribed_files() == {"https://example.com/a.wav": 1}


async def set_back_to_submitting(queue: QueueClient, job: UUID) -> None:
    await queue.rows(
        """UPDATE tasks SET state = 'submitting', lost_at = NULL, next_poll_at = NULL, lease_token = gen_random_uuid(),
               lease_until = now() + interval '0.2 s' RETURNING id"""
    )
    assert [file.status for file in await queue.files(job)] == ["submitting"]


async def test_submit_with_its_own_response_leaves_the_task_to_an_equal_submit(
    queue: QueueClient, engine: AsyncEngine, sandbox: RunningSandbox
) -> None:
    """Two equal groups are lost. One gets its response while the list is read, and must not adopt the other task."""
    tasks = [await lost_task(queue) for _ in range(2)]
    async with transaction(queue.sessions) as session:
        await mark_running(session, tasks[0], "first", poll_in_s=0)
    now = datetime.now(UTC)
    listed = ListedTask("second", TaskStatus.SUCCEEDED, "fun-asr", int(now.timestamp() * 1000))
    candidates = {"second": Candidate(listed, 1, (SAME,))}
    async with poller_context(settings_for(sandbox), engine, asyncio.Event()) as context:
        reconciler = Reconciler(context, context.upstreams["beijing/default"])
        submits = [LostSubmit(task, "fun-asr", now, now, 60.0, (SAME,)) for task in tasks]
        await reconciler.resolve(submits, TOKEN, candidates, Rivals({}))
    rows = await queue.rows("SELECT upstream_task_id FROM tasks WHERE state = 'running'")
    assert {row.upstream_task_id for row in rows} == {"first", "second"}


async def lost_task(queue: QueueClient, url: str = SAME) -> UUID:
    await queue.post(url)
    async with transaction(queue.sessions) as session:
        claimed = await claim_task(session, ONE_BY_ONE, token=TOKEN)
        assert claimed is not None
        await mark_unsure(session, claimed.task_id, last_error="", poll_in_s=0)
        await session.execute(text("UPDATE tasks SET lease_token = :token, lease_until = now()"), {"token": TOKEN})
    return claimed.task_id


@pytest.mark.parametrize("sandbox", [ONE_FILE_A_TASK], indirect=True)
async def test_lost_submits_whose_urls_differ_in_escapes_adopt_their_own_tasks(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    with_faults(sandbox, drop_submit_rate=1.0)
    urls = ["https://example.com/x%2Fy.wav", "https://example.com/x/y.wav"]
    jobs = [await queue.post(urls[0]), await queue.post(urls[1], client_id=await queue.client("other"))]
    async with start_poller(**FAST):
        assert await queue.final(*jobs) == ["succeeded"] * 2
    adopted = await queue.rows("SELECT url, upstream_task_id FROM files JOIN tasks ON tasks.id = task_id")
    assert {row.url: row.upstream_task_id for row in adopted} == {
        task.files[0].url: task.id for task in sandbox.state.tasks.values()
    }
    assert max_transcriptions(sandbox) == 1


@pytest.mark.parametrize("lost_s", [10.0, 60.0])
async def test_ambiguous_submits_are_neither_adopted_nor_submitted_again(
    queue: QueueClient, engine: AsyncEngine, sandbox: RunningSandbox, lost_s: float
) -> None:
    """The submits of two clients are lost, and upstream shows both tasks without escapes."""
    urls = ["https://example.com/x%2Fy.wav", "https://example.com/x/y.wav"]
    tasks = {url: await lost_task(queue, url) for url in urls}
    now = datetime.now(UTC)
    candidates = {
        name: Candidate(ListedTask(name, TaskStatus.SUCCEEDED, "fun-asr", int(now.timestamp() * 1000)), 1, (urls[1],))
        for name in ("first", "second")
    }
    async with poller_context(settings_for(sandbox), engine, asyncio.Event()) as context:
        reconciler = Reconciler(context, context.upstreams["beijing/default"])
        for url, task in tasks.items():
            async with transaction(queue.sessions) as session:
                rivals = Rivals(await unresolved_submits(session, "beijing/default", "fun-asr"))
            submit = LostSubmit(task, "fun-asr", now, now, lost_s, (url,))
            await reconciler.resolve([submit], TOKEN, candidates, rivals)
    assert not await queue.rows("SELECT 1 FROM tasks WHERE upstream_task_id IS NOT NULL")
    files = await queue.rows("SELECT status, error_code, error_retryable FROM files")
    expected = ("failed", "result_missing", True) if lost_s >= 60 else ("submitting", None, None)
    assert [tuple(file) for file in files] == [expected] * 2


async def test_late_submits_whose_urls_differ_in_escapes_adopt_their_own_tasks(
    queue: QueueClient, engine: AsyncEngine, sandbox: RunningSandbox
) -> None:
    """A poller that was away for a minute resolves both in one round."""
    urls = ["https://example.com/x%2Fy.wav", "https://example.com/x/y.wav"]
    tasks = {url: await lost_task(queue, url) for url in urls}
    now = datetime.now(UTC)
    created_ms = int(now.timestamp() * 1000)
    candidates = {
        url: Candidate(ListedTask(url, TaskStatus.SUCCEEDED, "fun-asr", created_ms), 1, (url,)) for url in urls
    }
    async with poller_context(settings_for(sandbox), engine, asyncio.Event()) as context:
        reconciler = Reconciler(context, context.upstreams["beijing/default"])
        async with transaction(queue.sessions) as session:
            rivals = Rivals(await unresolved_submits(session, "beijing/default", "fun-asr"))
        submits = [LostSubmit(task, "fun-asr", now, now, 60.0, (url,)) for url, task in tasks.items()]
        await reconciler.resolve(submits, TOKEN, candidates, rivals)
    adopted = await queue.rows("SELECT url, upstream_task_id FROM files JOIN tasks ON tasks.id = task_id")
    assert sorted(map(tuple, adopted)) == [(url, url) for url in sorted(urls)]


async def test_complete_task_is_adopted_before_one_that_shows_a_part_of_its_files(
    queue: QueueClient, engine: AsyncEngine, sandbox: RunningSandbox
) -> None:
    task, now = await lost_task(queue), datetime.now(UTC)
    created_ms = int(now.timestamp() * 1000)
    candidates = {
        name: Candidate(ListedTask(name, TaskStatus.SUCCEEDED, "fun-asr", created_ms), None, urls)
        for name, urls in {"part": (), "complete": (SAME,)}.items()
    }
    async with poller_context(settings_for(sandbox), engine, asyncio.Event()) as context:
        reconciler = Reconciler(context, context.upstreams["beijing/default"])
        submit = LostSubmit(task, "fun-asr", now, now, 60.0, (SAME,))
        await reconciler.resolve([submit], TOKEN, candidates, Rivals({task: (SAME,)}))
    assert [row.upstream_task_id for row in await queue.rows("SELECT upstream_task_id FROM tasks")] == ["complete"]
