"""Estimates when a job will be final (`Retry-After`), from its own progress or from jobs that finished recently."""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import monotonic

from app.db import Sessions, transaction
from app.errors import DatabaseUnavailable
from app.queue.codes import WaitingCode
from app.queue.job_json import Job
from app.queue.queries import typical_durations

REFRESH_INTERVAL_S = 10.0
MIN_S, MAX_S = 1, 60
# While no job of the region and model has finished: about as long as the shortest recordings take.
UNKNOWN_S = 2.0
# Past the typical duration, wait a quarter of the job's age.
OVERDUE_SHARE = 0.25


class RetryAfterEstimator:
    """The estimates of one process. Refreshing them takes one statement every 10 s, and none without requests."""

    def __init__(self, sessions: Sessions, *, clock: Callable[[], float] = monotonic) -> None:
        self._sessions = sessions
        self._clock = clock
        self._typical_s: Mapping[tuple[str, str], float] = {}
        # The database's time minus that of `clock`: ages are measured with the clock that wrote `created_at`.
        self._clock_offset_s: float | None = None
        self._refresh_at = -math.inf

    @property
    def is_due(self) -> bool:
        """Whether it is time for a refresh."""
        return self._clock() >= self._refresh_at

    async def refresh(self) -> None:
        """Read the typical durations. Concurrent callers use the old ones; an outage keeps them."""
        self._refresh_at = self._clock() + REFRESH_INTERVAL_S
        with suppress(DatabaseUnavailable):
            async with transaction(self._sessions) as session:
                now, durations = await typical_durations(session)
            self._clock_offset_s = now.timestamp() - self._clock()
            self._typical_s = {(each.region, each.model): each.seconds for each in durations}

    def retry_after_s(self, job: Job) -> int:
        """Whole seconds, 1 to 60, for a job that is not final.

        60 if no file runs because of the client's budget: the next period may be days away.
        """
        reason, counts = job.waiting_reason, job.file_counts
        if reason is not None and reason.code is WaitingCode.BUDGET_EXCEEDED and not counts.running:
            return MAX_S
        if self._clock_offset_s is None:
            return math.ceil(UNKNOWN_S)
        remaining = remaining_s(
            age_s=max(self._clock() + self._clock_offset_s - job.created_at.timestamp(), 0),
            open_files=counts.queued + counts.running,
            total_files=counts.total,
            typical_s=self._typical_s.get((job.region, job.model)),
        )
        return max(MIN_S, min(math.ceil(remaining), MAX_S))


def remaining_s(*, age_s: float, open_files: int, total_files: int, typical_s: float | None) -> float:
    """From the job's own progress once a file has ended, before that from the typical duration."""
    if ended := total_files - open_files:
        return age_s * open_files / ended
    if typical_s is None:
        return UNKNOWN_S
    return typical_s - age_s if age_s < typical_s else age_s * OVERDUE_SHARE
