"""Workers that fail do not run in a hot loop."""

import asyncio

import pytest

from app.errors import DatabaseUnavailable
from app.poller import supervisor
from app.poller.supervisor import Supervisor


class Work:
    """A worker that fails until it is repaired, and the number of its runs."""

    def __init__(self, error: Exception) -> None:
        self.error: Exception | None = error
        self.runs = 0

    async def run(self) -> None:
        self.runs += 1
        if self.error:
            raise self.error


async def offered(own: Supervisor, work: Work, times: int) -> int:
    """How often the worker ran when it was to be started so many times."""
    before = work.runs
    for _ in range(times):
        own.ensure_running("key", work.run)
        await own.drain(1)
        await asyncio.sleep(0)
    return work.runs - before


@pytest.mark.parametrize("error", [RuntimeError("broken"), DatabaseUnavailable("away")])
async def test_a_worker_that_failed_is_not_started_again_at_once(error: Exception) -> None:
    work, own = Work(error), Supervisor()
    assert await offered(own, work, 50) == 1


async def test_a_worker_that_works_again_has_no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 0.0)
    work, own = Work(RuntimeError("broken")), Supervisor()
    assert await offered(own, work, 3) == 3
    work.error = None
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 1.0)
    assert await offered(own, work, 3) == 3
