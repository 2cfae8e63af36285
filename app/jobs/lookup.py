"""Reading one job: those who ask at the same moment share a statement."""

from collections.abc import Sequence
from functools import partial
from uuid import UUID

from app.batching import Batcher
from app.db import RawConnection, Sessions, raw_connection
from app.errors import NotFound
from app.outages import translate_outages
from app.queue.queries import JobRow, find_own_jobs, job_not_found


class Lookup:
    """One per process."""

    def __init__(self, sessions: Sessions) -> None:
        # Each job shows up to 100 files.
        self._jobs = Batcher(partial(raw_connection, sessions), self._find, at_once=2, most=100)

    async def job(self, client_id: UUID, job_id: UUID) -> JobRow:
        """Raises NotFound, also for the job of another client, or DatabaseUnavailable."""
        return await self._jobs((client_id, job_id))

    async def _find(self, connection: RawConnection, keys: Sequence[tuple[UUID, UUID]]) -> Sequence[JobRow | NotFound]:
        with translate_outages():
            found = await find_own_jobs(connection, keys)
        return [found.get(key) or job_not_found(key[1]) for key in keys]
