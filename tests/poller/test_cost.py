"""The statements that a poller sends: for a file with a task of its own, and while nothing is due.

The limits are numbers of statements, not times. Statements that a poller repeats by the clock are counted apart: their
number for a file depends on how long the test takes.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.catalogue import MODELS, TaskUsage
from app.db import Sessions, transaction
from app.identifiers import new_id
from app.poller.maintenance import periodic_work
from app.poller.poller import Poller, poller_context
from app.queue.billing import TaskBill
from app.queue.claiming import claim_tasks
from app.queue.polling import NextPoll, claim_polls, schedule_polls
from app.queue.results import TaskResults, store_results
from app.queue.submissions import AcceptedTask, mark_all_running
from app.queue.submit_queues import SubmitQueue
from app.queue.wakeup import WakeUp
from app.sandbox import RunningSandbox, SandboxConfig
from tests.poller.conftest import QueueClient, StartPoller, settings_for
from tests.queue.results import result_of

pytestmark = pytest.mark.new_connections

ACCOUNTS = {name: f"sk-{name}" for name in ("one", "two", "three")}
ONE_FILE = {"dashscope_beijing_max_files_per_task": 1, "dashscope_beijing_submit_rps": 50}
# Parts of the statements that are repeated by the clock: rounds, sweeps of task lists, the search index, leases.
BY_THE_CLOCK = ("AS waiting_for_account", "list_leases", "transcript_segments AS segments", "AS turn (id, at_s)",
                "clock_timestamp() + make_interval", "array_agg(DISTINCT CASE")  # fmt: skip
# asyncpg asks for the types of parameters when it uses them on a connection for the first time.
OF_THE_DRIVER = ("typeinfo_tree", "current_setting('jit')")
FILES = 50


def own(statements: Sequence[str]) -> list[str]:
    """The statements of the gateway."""
    return [each for each in statements if not any(part in each for part in OF_THE_DRIVER)]


@pytest.mark.parametrize("count", [1, 7])
async def test_tasks_that_are_recorded_together_take_the_statements_of_one(
    queue: QueueClient, sessions: Sessions, statements: list[str], count: int
) -> None:
    for number in range(count):
        await queue.post(f"https://example.com/{number}.wav")
    one_file = SubmitQueue("beijing/default", "beijing", "fun-asr", max_files=1, submits_per_s=10)
    used: dict[str, list[str]] = {}

    def note(name: str) -> None:
        used[name] = own(statements)
        statements.clear()

    statements.clear()
    async with transaction(sessions) as session:
        claims = await claim_tasks(session, one_file, tokens=[new_id() for _ in range(count)])
        note("claim")
        await mark_all_running(session, [AcceptedTask(claim.task_id, str(claim.task_id), 0.0) for claim in claims])
        note("mark as running")
    async with transaction(sessions) as session:
        polled = await claim_polls(session, "beijing/default", late_s=0, limit=100)
        note("poll")
        await schedule_polls(session, [NextPoll(task.task_id, task.token, 0.0) for task in polled])
        note("poll again")
    async with transaction(sessions) as session:
        ended = await claim_polls(session, "beijing/default", late_s=0, limit=100)
        statements.clear()
        price = MODELS["fun-asr"].regions["beijing"]
        results = [
            TaskResults(
                task.task_id,
                task.token,
                "SUCCEEDED",
                results=[result_of(file, "succeeded", None) for file in task.files],  # type: ignore[arg-type]
                bill=TaskBill(TaskUsage(seconds=1), price, 1),
            )
            for task in ended
        ]
        assert await store_results(session, results) == [True] * count
        note("store")
    counts = {name: len(each) for name, each in used.items()}
    assert counts == {"claim": 3, "mark as running": 1, "poll": 1, "poll again": 1, "store": 5}, used


@pytest.mark.parametrize(
    "sandbox", [SandboxConfig(keys={"beijing": {key: name for name, key in ACCOUNTS.items()}, "singapore": {}},
                              queue_s=0.05, run_s=0.2, submit_rps=1000, query_rps=20)], indirect=True
)  # fmt: skip
async def test_a_file_with_a_task_of_its_own_takes_few_statements(
    queue: QueueClient, start_poller: StartPoller, statements: list[str], sandbox: RunningSandbox
) -> None:
    jobs = [await queue.post(f"https://example.com/{number}.wav") for number in range(FILES)]
    keys = ",".join(f"{name}={key}" for name, key in ACCOUNTS.items())
    statements.clear()
    async with start_poller(**ONE_FILE, dashscope_beijing_api_key=keys):
        await queue.final(*jobs)
    of_the_test = "SELECT id, status, finished_at FROM jobs"
    counts = Counter(each for each in own(statements) if of_the_test not in each)
    for_files = sum(count for text, count in counts.items() if not any(part in text for part in BY_THE_CLOCK))
    assert for_files / FILES <= 15, counts.most_common(12)
    assert not sandbox.state.throttled


async def test_an_idle_poller_sends_few_statements(
    engine: AsyncEngine, sandbox: RunningSandbox, statements: list[str]
) -> None:
    async with poller_context(settings_for(sandbox), engine, asyncio.Event()) as context:
        poller = Poller(context, WakeUp())
        await poller.round()
        await context.supervisor.drain(10)
        statements.clear()
        await poller.round()
        each_round = len(own(statements))
        by_work: dict[str, float] = {}
        for work in periodic_work(context):
            statements.clear()
            await work.run()
            await asyncio.sleep(0)  # the log of raw connections is an iteration behind
            by_work[work.name] = len(own(statements)) / work.every_s
    assert each_round == 1
    assert each_round / context.pace.round_s + sum(by_work.values()) <= 8, by_work
