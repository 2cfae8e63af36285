"""Waits for changes of jobs. One loop per process polls PostgreSQL for all waits, so a wait holds no connection."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import structlog
from prometheus_client import Gauge

from app.db import Sessions, raw_connection
from app.queue.job_json import JobSnapshot, JobVersion
from app.queue.queries import FINAL_VERSION, find_changed, find_jobs, job_not_found
from app.queue.wakeup import WakeUp

POLL_INTERVAL_S = 0.1
# The shortest time between two polls, however many results a poller of this process stores.
MIN_POLL_INTERVAL_S = 0.05
# Bounds memory when all jobs change at once: 100 jobs show up to 10,000 files.
JOBS_PER_READ = 100

LONG_POLLS = Gauge("asr_gateway_long_polls", "Requests that wait for the end of a job")

_log = structlog.get_logger(__name__)


class JobWaiters:
    """All waits for jobs in this process. The loop runs only while there are waits.

    Call `close` when the server begins to stop: it ends all waits, and later ones end at once.
    """

    def __init__(
        self, sessions: Sessions, *, interval_s: float = POLL_INTERVAL_S, stored: WakeUp | None = None
    ) -> None:
        """`stored` tells that a poller in this process has stored results."""
        self._sessions = sessions
        self._stored = stored or WakeUp()
        self._interval_s = interval_s
        self._waits: dict[JobVersion, _Wait] = {}
        self._loop: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        """The number of callers that wait now."""
        return sum(wait.callers for wait in self._waits.values())

    @property
    def running(self) -> bool:
        """Whether the loop runs."""
        return self._loop is not None and not self._loop.done()

    @property
    def closed(self) -> bool:
        return self._closed

    async def until_final(self, job_id: UUID, timeout_s: float) -> JobSnapshot | None:
        """The job once it is final; None on timeout or when the process stops.

        Raises NotFound as soon as the job is deleted or its client is revoked.
        """
        with LONG_POLLS.track_inprogress():
            return await self.until_changed(JobVersion(job_id, FINAL_VERSION, None), timeout_s)

    async def until_changed(self, seen: JobVersion, timeout_s: float) -> JobSnapshot | None:
        """As `until_final`, and also when the version or the waiting reason of the job differs from `seen`.

        An outage counts as no change.
        """
        if self._closed:
            return None
        wait = self._waits.setdefault(seen, _Wait())
        wait.callers += 1
        if not self.running:
            self._loop = asyncio.create_task(self._poll_while_waiting(), name="jobs-waiting")
        try:
            async with asyncio.timeout(timeout_s):
                await wait.over.wait()
        except TimeoutError:
            return None
        finally:
            wait.callers -= 1
            if not wait.callers and self._waits.get(seen) is wait:
                del self._waits[seen]
        if wait.deleted:
            raise job_not_found(seen.job_id)
        return wait.snapshot

    def close(self) -> None:
        """End all waits. May be called more than once."""
        self._closed = True
        if self._loop:
            self._loop.cancel()
        for version in list(self._waits):
            self._wake(version)

    async def _poll_while_waiting(self) -> None:
        failing = False
        while self._waits:
            shortest_s = min(self._interval_s, MIN_POLL_INTERVAL_S)
            await asyncio.sleep(shortest_s)
            await self._stored.wait(self._interval_s - shortest_s)
            try:
                await self._poll()
            except Exception as error:  # noqa: BLE001 - the waits go on; the read at their end reports the error
                if not failing:
                    _log.warning("long poll failed", error=type(error).__name__)
                failing = True
                continue
            failing = False

    async def _poll(self) -> None:
        if not self._waits:
            return
        async with raw_connection(self._sessions) as connection:
            changed = await find_changed(connection, self._waits)
        for start in range(0, len(changed), JOBS_PER_READ):
            await self._wake_changed(changed[start : start + JOBS_PER_READ])

    async def _wake_changed(self, changed: Sequence[JobVersion]) -> None:
        """Reads the jobs in one statement: 2,000 separate reads at the same moment would take seconds."""
        async with raw_connection(self._sessions) as connection:
            found = await find_jobs(connection, [version.job_id for version in changed])
        snapshots = {snapshot.job.id: snapshot for snapshot in found}
        for version in changed:
            self._wake(version, snapshots.get(version.job_id), deleted=version.job_id not in snapshots)

    def _wake(self, version: JobVersion, snapshot: JobSnapshot | None = None, *, deleted: bool = False) -> None:
        # Remove the entry before waking its callers, so that a caller that arrives now starts a new wait.
        if wait := self._waits.pop(version, None):
            wait.snapshot, wait.deleted = snapshot, deleted
            wait.over.set()


class _Wait:
    __slots__ = ("callers", "deleted", "over", "snapshot")

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.callers = 0
        self.snapshot: JobSnapshot | None = None
        self.deleted = False
