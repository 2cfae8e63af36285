"""Waiting for jobs: one loop per process asks PostgreSQL for all who wait, so a waiter holds no connection."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import structlog
from sqlalchemy import ARRAY, BigInteger, Text, Uuid, bindparam, text

from app.db import CompiledQuery, Sessions, raw_connection
from app.queue.queries import WAITING_REASON, JobRow, Version, find_jobs, job_not_found

POLL_INTERVAL_S = 0.1
# Higher than any version: who waits with it is woken by nothing but the end of the job.
FINAL = 2**31 - 1
# Bounds what is held at once when all jobs move together: 100 jobs show up to 10,000 files.
READ_AT_ONCE = 100

_log = structlog.get_logger(__name__)

# A primary key look-up per job waited for; 2,000 of them take 5 ms.
_MOVED = CompiledQuery(
    text(f"""
        SELECT waits.id, waits.version, waits.reason
        FROM unnest(CAST(:ids AS uuid[]), CAST(:versions AS bigint[]), CAST(:reasons AS text[]))
            AS waits (id, version, reason)
        LEFT JOIN jobs ON jobs.id = waits.id
        LEFT JOIN clients ON clients.id = jobs.client_id
        WHERE jobs.id IS NULL OR clients.revoked_at IS NOT NULL
          OR jobs.finished_at IS NOT NULL OR jobs.version > waits.version
          OR waits.version < {FINAL} AND waits.reason IS DISTINCT FROM ({WAITING_REASON})
    """).bindparams(  # noqa: S608 - constants
        bindparam("ids", type_=ARRAY(Uuid)),
        bindparam("versions", type_=ARRAY(BigInteger)),
        bindparam("reasons", type_=ARRAY(Text)),
    )
)


class JobWaiters:
    """Everyone in this process who waits for a job. The loop runs only while somebody waits.

    Call `close` as soon as the server shall stop: all waits end at once, and none begins any more.
    """

    def __init__(self, sessions: Sessions, *, interval_s: float = POLL_INTERVAL_S) -> None:
        self._sessions = sessions
        self._interval_s = interval_s
        self._waits: dict[Version, _Wait] = {}
        self._loop: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return sum(wait.people for wait in self._waits.values())

    @property
    def closed(self) -> bool:
        return self._closed

    async def until_final(self, job_id: UUID, timeout_s: float) -> JobRow | None:
        """The job once it is final; None when `timeout_s` is over or the process stops before that.

        Raises NotFound as soon as the job is deleted or its client is revoked.
        """
        return await self.until_changed(Version(job_id, FINAL, None), timeout_s)

    async def until_changed(self, seen: Version, timeout_s: float) -> JobRow | None:
        """As `until_final`, and also when the job has a later version, or another reason to wait, than `seen`.

        An outage counts as no change.
        """
        if self._closed:
            return None
        wait = self._waits.setdefault(seen, _Wait())
        wait.people += 1
        self._start()
        try:
            async with asyncio.timeout(timeout_s):
                await wait.over.wait()
        except TimeoutError:
            return None
        finally:
            wait.people -= 1
            if not wait.people and self._waits.get(seen) is wait:
                del self._waits[seen]
        if wait.gone:
            raise job_not_found(seen.job_id)
        return wait.job

    def close(self) -> None:
        """End all waits. May be called more than once."""
        self._closed = True
        if self._loop:
            self._loop.cancel()
        for key in list(self._waits):
            self._wake(key)

    def _start(self) -> None:
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._look_until_nobody_waits(), name="jobs-waiting")

    async def _look_until_nobody_waits(self) -> None:
        failing = False
        while self._waits:
            await asyncio.sleep(self._interval_s)
            try:
                await self._look()
            except Exception as error:  # noqa: BLE001 - waiting goes on; the read at its end says what is wrong
                if not failing:
                    _log.warning("waiting_look_failed", error=type(error).__name__)
                failing = True
                continue
            failing = False

    async def _look(self) -> None:
        moved = await self._moved()
        for start in range(0, len(moved), READ_AT_ONCE):
            await self._tell(moved[start : start + READ_AT_ONCE])

    async def _moved(self) -> list[Version]:
        if not self._waits:
            return []
        ids, versions, reasons = zip(*self._waits, strict=True)
        async with raw_connection(self._sessions) as connection:
            rows = await _MOVED.fetch(connection, ids=ids, versions=versions, reasons=reasons)
            return [Version(*row) for row in rows]

    async def _tell(self, moved: Sequence[Version]) -> None:
        """Read for all at once: a read for each of 2,000 who wake together would take seconds."""
        async with raw_connection(self._sessions) as connection:
            jobs = {job.id: job for job in await find_jobs(connection, [version.job_id for version in moved])}
        for key in moved:
            self._wake(key, jobs.get(key.job_id), gone=key.job_id not in jobs)

    def _wake(self, key: Version, job: JobRow | None = None, *, gone: bool = False) -> None:
        # Taken out before its people wake: who comes now is a new wait, not an old one that is over already.
        if wait := self._waits.pop(key, None):
            wait.job, wait.gone = job, gone
            wait.over.set()


class _Wait:
    __slots__ = ("gone", "job", "over", "people")

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.people = 0
        self.job: JobRow | None = None
        self.gone = False
