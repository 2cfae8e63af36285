"""Upstream counts as unreachable after several failed calls; queued files wait or move meanwhile."""

from dataclasses import replace

import pytest

from app.poller.circuits import Reachability
from app.sandbox import RunningSandbox
from app.sandbox.faults import Faults
from tests.poller.conftest import PACE, QueueClient, StartPoller


def test_upstream_is_unreachable_after_several_failed_calls_over_some_seconds() -> None:
    now = 100.0
    upstream = Reachability(10.0, clock=lambda: now)
    assert not any(upstream.failed() for _ in range(64))  # calls in flight that fail together
    now += 9.9
    assert not upstream.failed()
    now += 0.1
    assert upstream.failed()
    upstream.succeeded()
    assert not upstream.failed()
    now += 60
    assert not upstream.failed()
    assert upstream.failed()


def test_queries_of_one_task_count_once() -> None:
    now = 100.0
    upstream = Reachability(10.0, clock=lambda: now)
    upstream.failed("task-1")
    now += 60
    assert not any(upstream.failed("task-1") for _ in range(64))
    assert not upstream.failed("task-2")
    assert upstream.failed()
    upstream.succeeded()
    upstream.failed("task-1")
    now += 60
    assert not upstream.failed("task-1")


async def test_task_that_upstream_cannot_show_stops_no_other_job(queue: QueueClient, start_poller: StartPoller) -> None:
    stuck = await queue.post("https://example.com/stuck.wav?sandbox=unqueryable")
    async with start_poller(pace=IMPATIENT):
        await queue.until("SELECT 1 FROM tasks WHERE state = 'running' AND last_error IS NOT NULL AND polls >= 3")
        assert not await queue.rows("SELECT account FROM circuits")
        other = await queue.post("https://example.com/other.wav")
        assert await queue.final(other) == ["succeeded"]
        assert not await queue.rows("SELECT account FROM circuits")
    assert [file.status for file in await queue.files(stuck)] == ["running"]


IMPATIENT = replace(PACE, unreachable_after_s=0.0)


@pytest.mark.parametrize("region", ["beijing", "auto"])
async def test_files_wait_with_a_reason_while_upstream_is_unreachable(
    queue: QueueClient, start_poller: StartPoller, sandbox: RunningSandbox, region: str
) -> None:
    """Upstream responds 503 to every submit, so each file is reconciled before it is submitted again."""
    sandbox.state.faults = Faults(down=True)
    job = await queue.post("https://example.com/a.wav", region=region)
    async with start_poller(pace=IMPATIENT):
        await queue.until("SELECT 1 FROM blockages WHERE region = 'beijing' AND code = 'upstream_unavailable'")
        assert [(file.status in {"queued", "submitting"}, file.attempts) for file in await queue.files(job)] == [
            (True, 0)
        ]
        sandbox.state.faults = Faults()
        assert await queue.final(job) == ["succeeded"]
        await queue.rows("UPDATE circuits SET probe_at = now() RETURNING account")
        await queue.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM circuits WHERE closed_at IS NULL)")
        await queue.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM blockages)")
    assert set(sandbox.state.submitted_files().values()) == {1}


async def test_files_of_an_unreachable_region_move_to_another_region(
    queue: QueueClient, start_poller: StartPoller
) -> None:
    job = await queue.post("https://example.com/a.wav", region="auto")
    bound = await queue.post("https://example.com/b.wav", region="beijing")
    async with start_poller(pace=IMPATIENT, dashscope_beijing_base_url="http://127.0.0.1:9/api/v1"):
        assert await queue.final(job) == ["succeeded"]
        await queue.until("SELECT 1 FROM blockages WHERE code = 'upstream_unavailable' AND NOT everywhere")
    assert [(file.status, file.attempts) for file in await queue.files(bound)] == [("queued", 0)]
