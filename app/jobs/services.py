"""What the routes of jobs share in one process."""

from app.db import Sessions
from app.jobs.intake import Intake
from app.jobs.long_poll import JobWaiters
from app.jobs.lookup import Lookup
from app.jobs.retry_after import RetryAfterEstimator
from app.jobs.shown import JobListCache
from app.queue.queries import JobRow
from app.queue.wakeup import WakeUp
from app.settings import Settings


class JobServices:
    """Without a poller in this process nobody hears the wakeup, and nobody has to."""

    def __init__(
        self,
        settings: Settings,
        sessions: Sessions,
        *,
        waiters: JobWaiters | None = None,
        wakeup: WakeUp | None = None,
    ) -> None:
        self.sessions = sessions
        self.served = tuple(settings.served_regions)
        self.waiting_limit = settings.client_waiting_files
        self.intake = Intake(sessions, waiting_limit=self.waiting_limit)
        self.lookup = Lookup(sessions)
        self.shown = JobListCache(sessions)
        self.waiters = waiters or JobWaiters(sessions)
        self.wakeup = wakeup or WakeUp()
        self.pace = RetryAfterEstimator(sessions)

    async def retry_after(self, job: JobRow) -> dict[str, str]:
        """The header for a job that is not final. At most each 10 s this costs a statement."""
        if job.final:
            return {}
        await self.pace.learn()
        return {"Retry-After": str(self.pace.retry_after_s(job))}
