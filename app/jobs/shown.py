"""Jobs as clients see them, written once for each version and reason to wait.

What is asked of the database each time is which jobs there are and in which version. A job whose version is known
already is neither read nor written again: a list of 50 takes a quarter of the time.
"""

from collections.abc import Collection, Sequence
from functools import partial
from uuid import UUID

from app.batching import Batcher
from app.db import RawConnection, Sessions, raw_connection
from app.identifiers import UUID_MAX
from app.kept import Kept
from app.outages import translate_outages
from app.queue.job_json import job_bytes
from app.queue.queries import (
    JobFilters,
    JobRow,
    UnfilteredList,
    Version,
    find_own_jobs,
    list_newest_versions,
    list_versions,
)

CACHE_BYTES = 16 * 1024 * 1024


class JobListCache:
    """One per process. A version never changes, so neither does what is kept of it."""

    def __init__(self, sessions: Sessions, *, cache_bytes: int = CACHE_BYTES) -> None:
        self._sessions = sessions
        self._kept: Kept[Version] = Kept(cache_bytes)
        self._newest = Batcher(partial(raw_connection, sessions), self._list_newest, at_once=2, most=100)

    async def page(self, client_id: UUID, filters: JobFilters, limit: int) -> list[tuple[UUID, bytes]]:
        """Newest first. One statement; another one when there are jobs that are not known in their version.

        Jobs that are deleted between the two are left out; those that go on between them are shown as they are then.
        """
        versions = await self._versions(client_id, filters, limit)
        shown = {version.job_id: self._kept.get(version) for version in versions}
        if unknown := [job_id for job_id, body in shown.items() if body is None]:
            shown |= await self._read(client_id, unknown)
        return [(job_id, body) for job_id, body in shown.items() if body is not None]

    async def _versions(self, client_id: UUID, filters: JobFilters, limit: int) -> Sequence[Version]:
        """Lists without filters share a statement with those of the same moment; others have plans of their own."""
        if filters == JobFilters(before_id=filters.before_id):
            return await self._newest(UnfilteredList(client_id, filters.before_id or UUID_MAX, limit))
        async with raw_connection(self._sessions) as connection:
            return await list_versions(connection, client_id, filters, limit)

    async def _list_newest(
        self, connection: RawConnection, lists: Sequence[UnfilteredList]
    ) -> Sequence[Sequence[Version]]:
        with translate_outages():
            found = await list_newest_versions(connection, set(lists))
        return [found[each] for each in lists]

    async def _read(self, client_id: UUID, job_ids: Collection[UUID]) -> dict[UUID, bytes]:
        async with raw_connection(self._sessions) as connection:
            jobs = await find_own_jobs(connection, [(client_id, job_id) for job_id in job_ids])
        return {job.id: self._keep(job) for job in jobs.values()}

    def _keep(self, job: JobRow) -> bytes:
        body = job_bytes(job)
        self._kept.keep(job.shown_version, body)
        return body
