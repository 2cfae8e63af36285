"""Waiting for jobs: one loop per process asks PostgreSQL for all who wait, so a waiter holds no connection."""

import asyncio
from collections.abc import Mapping
from uuid import UUID

import structlog
from sqlalchemy import ARRAY, BigInteger, Uuid, bindparam, text

from app.db import Sessions, transaction

LOOK_INTERVAL_S = 0.2
# Higher than any version: who waits with it is woken by nothing but the end of the job.
FINAL = 2**31 - 1

_log = structlog.get_logger(__name__)

# A primary key look-up per job waited for; 2,000 of them take 5 ms.
_MOVED = text(
    "SELECT waits.id, waits.version"
    " FROM unnest(CAST(:ids AS uuid[]), CAST(:versions AS bigint[])) AS waits (id, version)"
    " JOIN jobs ON jobs.id = waits.id"
    " WHERE jobs.finished_at IS NOT NULL OR jobs.version > waits.version"
).bindparams(bindparam("ids", type_=ARRAY(Uuid)), bindparam("versions", type_=ARRAY(BigInteger)))


class Waiters:
    """Everyone in this process who waits for a job. The loop runs only while somebody waits.

    Call `close` as soon as the server shall stop: all waits end at once, and none begins any more.
    """

    def __init__(self, sessions: Sessions, *, interval_s: float = LOOK_INTERVAL_S) -> None:
        self._sessions = sessions
        self._interval_s = interval_s
        self._waits: dict[tuple[UUID, int], _Wait] = {}
        self._loop: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return sum(wait.people for wait in self._waits.values())

    async def until_final(self, job_id: UUID, timeout_s: float) -> None:
        """Return when the job is final, `timeout_s` is over or the process stops; the caller reads the job then."""
        await self.until_changed(job_id, FINAL, timeout_s)

    async def until_changed(self, job_id: UUID, version: int, timeout_s: float) -> None:
        """As `until_final`, and also when the job's version exceeds `version`. An outage counts as no change."""
        if self._closed:
            return
        key = (job_id, version)
        wait = self._waits.setdefault(key, _Wait())
        wait.people += 1
        self._start()
        try:
            async with asyncio.timeout(timeout_s):
                await wait.over.wait()
        except TimeoutError:
            pass
        finally:
            wait.people -= 1
            if not wait.people and self._waits.get(key) is wait:
                del self._waits[key]

    def close(self) -> None:
        """End all waits. May be called more than once."""
        self._closed = True
        if self._loop:
            self._loop.cancel()
        self._wake(dict(self._waits))

    def _start(self) -> None:
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._look_until_nobody_waits(), name="jobs-waiting")

    async def _look_until_nobody_waits(self) -> None:
        failing = False
        while self._waits:
            await asyncio.sleep(self._interval_s)
            try:
                moved = await self._look()
            except Exception as error:  # noqa: BLE001 - waiting goes on; the read at its end says what is wrong
                if not failing:
                    _log.warning("waiting_look_failed", error=type(error).__name__)
                failing = True
                continue
            failing = False
            self._wake({key: self._waits[key] for key in moved if key in self._waits})

    async def _look(self) -> list[tuple[UUID, int]]:
        if not self._waits:
            return []
        ids, versions = zip(*self._waits, strict=True)
        async with transaction(self._sessions) as session:
            rows = await session.execute(_MOVED, {"ids": list(ids), "versions": list(versions)})
            return [(row.id, row.version) for row in rows]

    def _wake(self, waits: Mapping[tuple[UUID, int], "_Wait"]) -> None:
        for key, wait in waits.items():
            # Taken out before its people wake: who comes now is a new wait, not an old one that is over already.
            del self._waits[key]
            wait.over.set()


class _Wait:
    __slots__ = ("over", "people")

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.people = 0
