"""Database calls that concurrent requests share: creating a job, reading a job, and listing jobs."""

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple
from uuid import UUID

from app.batching import Batcher
from app.db import RawConnection, Sessions, raw_connection
from app.errors import NotFound
from app.identifiers import UUID_MAX
from app.queue.creation import CreatedJob, NewJob, create_jobs, create_jobs_within_budgets
from app.queue.job_json import JobSnapshot, JobVersion, job_bytes
from app.queue.queries import (
    JobFilters,
    UnfilteredList,
    find_first_jobs,
    find_own_jobs,
    job_not_found,
    list_newest_versions,
    list_versions,
)

# More than two batches at once gain nothing on two cores.
BATCHES_AT_ONCE = 2
# A job of 10,000 files is a batch of its own: jobs in the same batch would wait for it.
FILES_PER_BATCH = 1000
# Each job shows up to 100 files.
JOBS_PER_BATCH = 100
LISTS_PER_BATCH = 100
LIST_CACHE_BYTES = 16 * 1024 * 1024
# A page ends at the job that reaches this size: 200 jobs of 100 URLs of 4,096 characters would be 84 MB.
PAGE_BYTES = 8 * 1024 * 1024
# Upper bound of the JSON that one statement reads for a page, beyond its first job.
READ_BYTES = 2 * PAGE_BYTES

JobCreator = Batcher[RawConnection, NewJob, CreatedJob]
BudgetedJobCreator = Batcher[Sessions, NewJob, CreatedJob]
JobFinder = Batcher[RawConnection, tuple[UUID, UUID], JobSnapshot]


def job_creator(sessions: Sessions, *, waiting_limit: int | None = None) -> JobCreator:
    """Calls return the durable job. They raise the errors of `create_jobs`, or DatabaseUnavailable."""
    return Batcher(
        partial(raw_connection, sessions),
        partial(create_jobs, waiting_limit=waiting_limit),
        at_once=BATCHES_AT_ONCE,
        max_weight=FILES_PER_BATCH,
        weight=lambda new: len(new.urls),
    )


def budgeted_job_creator(
    sessions: Sessions, *, assumed_s: int, waiting_limit: int | None = None
) -> BudgetedJobCreator:  # fmt: skip
    """As `job_creator`, for clients with a budget. A batch is one transaction. Calls also raise BudgetExceeded."""
    return Batcher(
        lambda: nullcontext(sessions),
        partial(create_jobs_within_budgets, assumed_s=assumed_s, waiting_limit=waiting_limit),
        at_once=BATCHES_AT_ONCE,
        max_weight=FILES_PER_BATCH,
        weight=lambda new: len(new.urls),
    )


def job_finder(sessions: Sessions) -> JobFinder:
    """Calls take a client's id and a job's id. They raise NotFound, also for other clients, or DatabaseUnavailable."""
    return Batcher(partial(raw_connection, sessions), _find, at_once=BATCHES_AT_ONCE, max_weight=JOBS_PER_BATCH)


async def _find(connection: RawConnection, keys: Sequence[tuple[UUID, UUID]]) -> Sequence[JobSnapshot | NotFound]:
    found = await find_own_jobs(connection, keys)
    return [found.get(key) or job_not_found(key[1]) for key in keys]


class ListedJobs(NamedTuple):
    """The ids and the JSON of a page. The next page has the jobs before the job `next_before`; None: there are no more.

    Jobs that are deleted while the page is read are not in it. The page may be empty, and `next_before` may be one of
    these jobs.
    """

    jobs: list[tuple[UUID, bytes]]
    next_before: UUID | None


class JobListCache:
    """Lists jobs as JSON, and keeps the JSON by version.

    A list reads the versions of its jobs, and then only the jobs whose version is not in the cache: a list of 50
    takes a quarter of the time. The versions that were read first leave the cache first: an order by use would have
    to be kept at each of the 50 look-ups, and was a tenth of a list's time.
    """

    def __init__(self, sessions: Sessions, *, cache_bytes: int = LIST_CACHE_BYTES) -> None:
        self._sessions = sessions
        self._max_bytes = cache_bytes
        self._cached_bytes = 0
        self._cache: OrderedDict[JobVersion, bytes] = OrderedDict()
        connect = partial(raw_connection, sessions)
        self._newest = Batcher(connect, _list_newest, at_once=BATCHES_AT_ONCE, max_weight=LISTS_PER_BATCH)

    async def page(
        self, client_id: UUID, filters: JobFilters, limit: int, *, page_bytes: int = PAGE_BYTES
    ) -> ListedJobs:
        """Newest first, one job, then up to `page_bytes`.

        One statement, and one more for each READ_BYTES of jobs that are not in the cache. Jobs that are deleted
        meanwhile are left out. Jobs that change are as of the later statement.
        """
        versions = await self._versions(client_id, filters, limit + 1)
        bodies = {version.job_id: self._cache.get(version) for version in versions[:limit]}
        next_before = versions[limit - 1].job_id if len(versions) > limit else None
        if all(bodies.values()) and sum(map(len, bodies.values())) < page_bytes:  # type: ignore[arg-type]
            return ListedJobs(list(bodies.items()), next_before)  # type: ignore[arg-type]
        page: list[tuple[UUID, bytes]] = []
        size = 0
        for job_id in list(bodies):
            if size >= page_bytes:
                return ListedJobs(page, next_before=page[-1][0])
            if bodies[job_id] is None:
                missing = [each for each in bodies if each <= job_id and bodies[each] is None]
                bodies |= await self._read(client_id, missing)
            if body := bodies[job_id]:
                page.append((job_id, body))
                size += len(body)
        return ListedJobs(page, next_before)

    def body(self, snapshot: JobSnapshot) -> bytes:
        """The job as JSON. Calls with the same version share the bytes while these are in the cache."""
        body = self._cache.get(snapshot.version)
        if body is None:
            body = job_bytes(snapshot)
            self._put(snapshot.version, body)
        return body

    async def _versions(self, client_id: UUID, filters: JobFilters, limit: int) -> Sequence[JobVersion]:
        """Lists without filters are batched; each set of filters has a plan of its own."""
        if filters == JobFilters(before_id=filters.before_id):
            return await self._newest(UnfilteredList(client_id, filters.before_id or UUID_MAX, limit))
        async with raw_connection(self._sessions) as connection:
            return await list_versions(connection, client_id, filters, limit)

    async def _read(self, client_id: UUID, job_ids: Sequence[UUID]) -> dict[UUID, bytes]:
        """The first of the jobs, newest first, up to READ_BYTES. Deleted jobs before the last of them are empty."""
        async with raw_connection(self._sessions) as connection:
            snapshots = await find_first_jobs(connection, client_id, job_ids, read_bytes=READ_BYTES)
        found = {snapshot.job.id: self.body(snapshot) for snapshot in snapshots}
        last = min(found, default=job_ids[-1])
        return {job_id: found.get(job_id, b"") for job_id in job_ids if job_id >= last}

    def _put(self, version: JobVersion, body: bytes) -> None:
        # Concurrent lists may read the same version.
        self._cached_bytes += len(body) - len(self._cache.pop(version, b""))
        self._cache[version] = body
        while self._cached_bytes > self._max_bytes:
            _, dropped = self._cache.popitem(last=False)
            self._cached_bytes -= len(dropped)


async def _list_newest(connection: RawConnection, lists: Sequence[UnfilteredList]) -> Sequence[Sequence[JobVersion]]:
    found = await list_newest_versions(connection, set(lists))
    return [found[each] for each in lists]
