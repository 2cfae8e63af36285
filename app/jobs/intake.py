"""The way in: jobs of one moment are inserted by one statement, and each is answered once that is committed."""

from collections.abc import Sequence
from functools import partial

from app.batching import Batcher
from app.db import RawConnection, Sessions, raw_connection
from app.outages import translate_outages
from app.queue.creation import CreatedJob, NewJob, create_jobs

# Two cores gain nothing from a third.
AT_ONCE = 2
# Jobs of 10,000 files go alone: what comes with them would wait for them.
MAX_FILES = 1000


class Intake:
    """One per process."""

    def __init__(self, sessions: Sessions, *, waiting_limit: int | None = None) -> None:
        self._waiting_limit = waiting_limit
        connect = partial(raw_connection, sessions)
        self._jobs = Batcher(connect, self._create, at_once=AT_ONCE, most=MAX_FILES, weight=lambda new: len(new.urls))

    async def create(self, new: NewJob) -> CreatedJob:
        """The job, durable. Raises what `create_jobs` returns, or DatabaseUnavailable."""
        return await self._jobs(new)

    async def _create(self, connection: RawConnection, jobs: Sequence[NewJob]) -> Sequence[CreatedJob | Exception]:
        with translate_outages():
            return await create_jobs(connection, jobs, waiting_limit=self._waiting_limit)
