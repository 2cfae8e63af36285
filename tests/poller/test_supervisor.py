"""Workers that fail are not started again in a hot loop."""

import asyncio

import pytest

from app.errors import DatabaseUnavailable
from app.poller import supervisor
from app.poller.supervisor import Supervisor


class Work:
    """A worker that fails while `error` is set, and the number of its runs."""

    def __init__(self, error: Exception) -> None:
        self.error: Exception | None = error
        self.runs = 0

    async def run(self) -> None:
        self.runs += 1
        if self.error:
            raise self.error


async def runs_of(supervised: Supervisor, work: Work, times: int) -> int:
    """How often the worker runs if its start is requested `times` times."""
    before = work.runs
    for _ in range(times):
        supervised.ensure_running("key", work.run)
        await supervised.drain(1)
        await asyncio.sleep(0)
    return work.runs - before


@pytest.mark.parametrize("error", [RuntimeError("broken"), DatabaseUnavailable("away")])
async def test_failed_worker_is_not_started_again_at_once(error: Exception) -> None:
    work, supervised = Work(error), Supervisor()
    assert await runs_of(supervised, work, 50) == 1


async def test_worker_has_no_pauses_after_a_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 0.0)
    work, supervised = Work(RuntimeError("broken")), Supervisor()
    assert await runs_of(supervised, work, 3) == 3
    work.error = None
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 1.0)
    assert await runs_of(supervised, work, 3) == 3
