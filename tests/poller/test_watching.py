"""Many tasks in flight are watched by the task list; only what ended is queried."""

import pytest

from app.sandbox import Faults, RunningSandbox, SandboxConfig
from tests.poller.conftest import Desk, StartPoller

MANY = SandboxConfig(queue_s=0.5, run_s=2.5, submit_rps=1000, query_rps=30)
LIMITS = {
    "dashscope_beijing_submit_rps": 200,
    "dashscope_beijing_query_rps": 30,
    "dashscope_beijing_max_files_per_task": 1,
}


def calls(sandbox: RunningSandbox, kind: str) -> int:
    return sum(count for call, count in sandbox.state.counts.items() if call.kind == kind)


@pytest.mark.parametrize("sandbox", [MANY], indirect=True)
async def test_the_list_says_what_ended_and_nothing_is_queried_needlessly(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    job = await services.post(*(f"https://example.com/{number}.wav" for number in range(150)))
    async with start_poller(**LIMITS):
        assert await services.final(job) == ["succeeded"]
    assert calls(sandbox, "list") > 0
    assert calls(sandbox, "query") < 150 * 1.6
    assert not sandbox.state.throttled


@pytest.mark.parametrize("sandbox", [MANY], indirect=True)
async def test_where_the_list_is_refused_single_queries_serve(
    services: Desk, start_poller: StartPoller, sandbox: RunningSandbox
) -> None:
    sandbox.state.faults = Faults(list_refused=True)
    job = await services.post(*(f"https://example.com/{number}.wav" for number in range(100)))
    async with start_poller(**LIMITS):
        assert await services.final(job) == ["succeeded"]
    assert not sandbox.state.throttled
