"""How long until it is worth looking at a job again (`Retry-After`), learned from the jobs that finished lately."""

import math
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic

from sqlalchemy import text

from app.db import Sessions, transaction
from app.errors import DatabaseUnavailable
from app.queue.queries import JobRow

LEARN_EVERY_S = 10.0
MIN_S, MAX_S = 1, 60
# While no job of the kind has finished: as often as it is worth looking at the shortest recordings.
UNKNOWN_S = 2.0
# An overdue job is looked at less and less often: after 100 s each 25 s.
OVERDUE_SHARE = 0.25

# Of the newest 1,000 jobs, whatever became of them: a short range of the primary key, 1 ms. The median forgives the
# jobs that were retried days later.
_TYPICAL = text("""
    SELECT now() AS now, region, model, typical_s
    FROM (SELECT 1) AS one LEFT JOIN (
        SELECT region, model,
               percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - created_at)) AS typical_s
        FROM (SELECT * FROM jobs ORDER BY id DESC LIMIT 1000) AS newest
        WHERE finished_at IS NOT NULL AND files_succeeded > 0
        GROUP BY region, model
    ) AS typical ON true
""")


class RetryAfterEstimator:
    """What one process knows of it: one statement each 10 s while somebody asks, none otherwise."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._typical_s: Mapping[tuple[str, str], float] = {}
        # What the database's clock is ahead of ours: instants are never compared with this machine's clock.
        self._ahead_s: float | None = None
        self._learn_at = 0.0

    async def learn(self) -> None:
        """Look again if that is due; who asks meanwhile goes on with what is known. An outage changes nothing."""
        if monotonic() < self._learn_at:
            return
        self._learn_at = monotonic() + LEARN_EVERY_S
        with suppress(DatabaseUnavailable):
            async with transaction(self._sessions) as session:
                rows = (await session.execute(_TYPICAL)).all()
            self._ahead_s = rows[0].now.timestamp() - monotonic()
            self._typical_s = {(row.region, row.model): row.typical_s for row in rows if row.region}

    def retry_after_s(self, job: JobRow) -> int:
        """Whole seconds, 1 to 60, for a job that is not final."""
        if self._ahead_s is None:
            return math.ceil(UNKNOWN_S)
        left_s = seconds_left(
            age_s=max(monotonic() + self._ahead_s - job.created_at.timestamp(), 0),
            left=job.files_queued + job.files_running,
            total=job.files_total,
            typical_s=self._typical_s.get((job.region, job.model)),
        )
        return max(MIN_S, min(math.ceil(left_s), MAX_S))


def seconds_left(*, age_s: float, left: int, total: int, typical_s: float | None) -> float:
    """An estimate. Once a file is done the job's own pace counts; before that, what is typical for its kind."""
    if done := total - left:
        return age_s * left / done
    if typical_s is None:
        return UNKNOWN_S
    return typical_s - age_s if age_s < typical_s else age_s * OVERDUE_SHARE
