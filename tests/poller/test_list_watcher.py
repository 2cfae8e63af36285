"""Many running tasks are watched by the task list, and only ended ones are queried."""

import pytest

from app.sandbox import Faults, RunningSandbox, SandboxConfig
from tests.poller.conftest import QueueClient, StartPoller

MANY = SandboxConfig(queue_s=0.5, run_s=2.5, submit_rps=1000, query_rps=30)
LIMITS = {
    "dashscope_beijing_submit_rps": 200,
    "dashscope_beijing_query_rps": 30,
    "dashscope_beijing_max_files_per_task": 1,
}


def calls(sandbox: RunningSandbox, kind: str) -> int:
    return sum(count for call, count in sandbox.state.counts.items() if call.kind == kind)


@pytest.mark.parametrize("sandbox", [MANY], indirect=True)
async def test_list_shows_ended_tasks_and_saves_queries(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    job = await queue.post(*(f"https://example.com/{number}.wav" for number in range(150)))
    async with start_poller(**LIMITS):
        assert await queue.final(job) == ["succeeded"]
    assert calls(sandbox, "list") > 0
    assert calls(sandbox, "query") < 150 * 1.6
    assert not sandbox.state.throttled


@pytest.mark.parametrize("sandbox", [MANY], indirect=True)
async def test_single_queries_find_ended_tasks_while_the_list_is_refused(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    sandbox.state.faults = Faults(list_refused=True)
    job = await queue.post(*(f"https://example.com/{number}.wav" for number in range(100)))
    async with start_poller(**LIMITS):
        assert await queue.final(job) == ["succeeded"]
    assert not sandbox.state.throttled
