"""Finding jobs and files of one client: a job and its first files in one statement, so as of one moment."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Select,
    Text,
    Uuid,
    any_,
    bindparam,
    cast,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import TypeEngine

from app.clients.models import Client
from app.db import CompiledQuery, RawConnection
from app.errors import NotFound
from app.identifiers import lowest_id_at
from app.queue.lifecycle import FileStatus, JobStatus
from app.queue.models import File, Job

FILES_SHOWN = 100
# Ids have the time of the API's clock, `created_at` is the database's: more than a wrong time zone makes them differ.
CLOCKS_DIFFER_S = 24 * 3600


@dataclass(slots=True)
class FileRow:
    """What is shown of a file; ids and times may be strings, as they come out of JSON."""

    index: int
    url: str
    status: str
    transcript_id: UUID | str | None = None
    error_code: str | None = None
    error_message: str | None = None
    error_retryable: bool | None = None
    error_upstream_code: str | None = None
    audio_duration_ms: int | None = None
    attempts: int = 0


@dataclass(slots=True)
class JobRow:
    """What is shown of a job, with its first files, all as of one moment."""

    id: UUID
    status: str
    model: str
    region: str
    parameters: Mapping[str, Any]
    labels: Mapping[str, str]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    files_total: int
    files_queued: int
    files_running: int
    files_succeeded: int
    files_failed: int
    files_canceled: int
    audio_duration_ms: int
    cost: Decimal
    version: int
    # JSON text of code, account, region and since. It may change while the version stays.
    waiting_reason: str | None
    files: Sequence[FileRow]

    @property
    def final(self) -> bool:
        return self.finished_at is not None

    @property
    def shown_version(self) -> "Version":
        return Version(self.id, self.version, self.waiting_reason)


@dataclass(frozen=True, slots=True)
class JobFilters:
    """None or empty: any. `before_id` is the last id of the page before."""

    statuses: Sequence[JobStatus] = ()
    model: str | None = None
    region: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    before_id: UUID | None = None


class Version(NamedTuple):
    """All that what is shown of a job depends on."""

    job_id: UUID
    version: int
    waiting_reason: str | None


class UnfilteredList(NamedTuple):
    """A list without filters: of so many jobs of a client, older than `before_id`."""

    client_id: UUID
    before_id: UUID
    limit: int


async def find_job(session: AsyncSession, client_id: UUID, job_id: UUID) -> JobRow:
    """One statement. Raises NotFound, also for the job of another client."""
    found = (await session.execute(_FIND, {"job_id": job_id, "client_id": client_id})).one_or_none()
    if found is None:
        raise job_not_found(job_id)
    return job_row(found)


async def find_jobs(connection: RawConnection, job_ids: Sequence[UUID]) -> list[JobRow]:
    """Those that are there and whose clients are not revoked, in any order: one statement."""
    return [job_row(tuple(row)) for row in await _FIND_MANY.fetch(connection, job_ids=job_ids)]


async def find_own_jobs(
    connection: RawConnection, keys: Sequence[tuple[UUID, UUID]]
) -> dict[tuple[UUID, UUID], JobRow]:
    """Those that are there, by client's and job's id. One statement."""
    client_ids, job_ids = zip(*set(keys), strict=True)
    rows = await _FIND_OWN.fetch(connection, client_ids=client_ids, values=job_ids)
    return {(row[0], row[1]): job_row(row[1:]) for row in rows}


async def find_by_keys(
    connection: RawConnection, keys: Sequence[tuple[UUID, str]]
) -> dict[tuple[UUID, str], tuple[JobRow, bytes]]:
    """The jobs with these clients' ids and idempotency keys, each with the hash of its request. One statement."""
    client_ids, idempotency_keys = zip(*set(keys), strict=True)
    rows = await _FIND_BY_KEYS.fetch(connection, client_ids=client_ids, values=idempotency_keys)
    return {(row[0], row[1]): (job_row(row[3:]), row[2]) for row in rows}


async def list_versions(connection: RawConnection, client_id: UUID, filters: JobFilters, limit: int) -> list[Version]:
    """Newest first, in one statement. Filters by metadata take a transaction and two."""
    values = _values(filters)
    statement = _list_statement(frozenset(values), limit)
    values["client_id"] = client_id
    if not filters.metadata:
        return [Version(*row) for row in await statement.fetch(connection, **values)]
    async with connection.transaction():
        # Whether the pair is rare decides between two plans, so the pair has to be known when the plan is made.
        # Among 300,000 jobs a plan for any pair takes 70 ms for a rare one, this one 0.05 ms.
        await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
        return [Version(*row) for row in await statement.fetch(connection, **values)]


async def list_newest_versions(
    connection: RawConnection, lists: Collection[UnfilteredList]
) -> dict[UnfilteredList, list[Version]]:
    """As `list_versions` for lists without filters: one statement for all that are of one length."""
    found: dict[UnfilteredList, list[Version]] = {each: [] for each in lists}
    for limit in {each.limit for each in found}:
        asked = [each for each in found if each.limit == limit]
        rows = await _newest_statement(limit).fetch(
            connection, client_ids=[each.client_id for each in asked], before_ids=[each.before_id for each in asked]
        )
        for number, *version in rows:
            found[asked[number - 1]].append(Version(*version))
    return found


async def list_files(
    session: AsyncSession,
    client_id: UUID,
    job_id: UUID,
    *,
    statuses: Sequence[FileStatus] = (),
    after_index: int = -1,
    limit: int,
) -> list[FileRow]:
    """In order. One statement; two when there is nothing to show. Raises NotFound as `find_job`."""
    query = select(*_FILE_COLUMNS).where(
        File.job_id == job_id, File.client_id == client_id, File.index > after_index
    )  # fmt: skip
    if statuses:
        query = query.where(File.status.in_(_stored(statuses)))
    rows = (await session.execute(query.order_by(File.index).limit(limit))).all()
    if not rows and not await session.scalar(_EXISTS, {"job_id": job_id, "client_id": client_id}):
        raise job_not_found(job_id)
    return [_file_row(row) for row in rows]


def job_not_found(job_id: UUID | str) -> NotFound:
    return NotFound(f"There is no job {job_id} of this client.")


def job_row(columns: Sequence[Any]) -> JobRow:
    """A row of `JOB_COLUMNS`, whose JSON is text."""
    values = list(columns)
    for position in (_PARAMETERS, _LABELS, _FILES):
        values[position] = orjson.loads(values[position])
    values[_FILES] = [_file_row(file) for file in values[_FILES]]
    return JobRow(*values)


def _file_row(columns: Sequence[Any]) -> FileRow:
    return FileRow(*columns)


def _values(filters: JobFilters) -> dict[str, Any]:
    """What the conditions of the same names are given; only of those filters that are set."""
    values: dict[str, Any] = {
        "statuses": list(filters.statuses),
        "model": filters.model,
        "region": filters.region,
        "created_after": filters.created_after,
        "created_before": filters.created_before,
        "metadata": orjson.dumps(filters.metadata).decode() if filters.metadata else None,
        "before_id": filters.before_id,
    }
    if filters.statuses and JobStatus.SUCCEEDED not in filters.statuses:
        values["unusual"] = True
    # Ids are ordered by time, and indexed: the range of ids is read, the exact condition decides.
    if filters.created_after:
        values["lowest_id_at"] = lowest_id_at(filters.created_after, shift_s=-CLOCKS_DIFFER_S)
    if filters.created_before:
        values["end_id"] = lowest_id_at(filters.created_before, shift_s=CLOCKS_DIFFER_S)
    return {name: value for name, value in values.items() if value}


@lru_cache(maxsize=256)
def _newest_statement(limit: int) -> CompiledQuery:
    # Spelt out as below. Each list is a short range of the clients' index.
    return CompiledQuery(
        text(f"""
            SELECT wanted.number, newest.id, newest.version, newest.waiting_reason
            FROM unnest(CAST(:client_ids AS uuid[]), CAST(:before_ids AS uuid[])) WITH ORDINALITY
                AS wanted (client_id, before_id, number),
            LATERAL (
                SELECT id, version, {WAITING_REASON} AS waiting_reason FROM jobs
                WHERE jobs.client_id = wanted.client_id AND jobs.id < wanted.before_id
                ORDER BY id DESC LIMIT {limit:d}
            ) AS newest
            ORDER BY wanted.number, newest.id DESC
        """)  # noqa: S608 - a number
    )


@lru_cache(maxsize=256)
def _list_statement(conditions: frozenset[str], limit: int) -> CompiledQuery:
    """Made once for each set of conditions: making it takes longer than reading 50 jobs."""
    # The limit is spelt out, not bound: a plan for any limit sorts all jobs of the client, 2 ms among 10,000.
    query = (
        select(Job.id, Job.version, _WAITING_REASON)
        .where(Job.client_id == bindparam("client_id"))
        .order_by(Job.id.desc())
        .limit(literal_column(f"{limit:d}"))
    )
    return CompiledQuery(query.where(*(_CONDITIONS[name] for name in sorted(conditions))))


def _stored(statuses: Sequence[FileStatus]) -> list[str]:
    """A file that was claimed and is on its way upstream still counts as queued."""
    return [*statuses, *(["submitting"] if FileStatus.QUEUED in statuses else [])]


_FILE_COLUMNS = (
    File.index,
    File.url,
    File.status,
    File.transcript_id,
    File.error_code,
    File.error_message,
    File.error_retryable,
    File.error_upstream_code,
    File.audio_duration_ms,
    File.attempts,
)

# Indexes have no gaps, so the first files are a short range of the primary key.
_FIRST_FILES = (
    select(cast(func.json_agg(aggregate_order_by(func.json_build_array(*_FILE_COLUMNS), File.index)), Text))
    .where(File.job_id == Job.id, File.index < FILES_SHOWN)
    .correlate(Job)
    .scalar_subquery()
)

# Jobs whose files stay in their region: it was asked for, or a hot-word list belongs to it. A foreign list is silently
# ignored upstream.
KEEPS_REGION = "(jobs.requested_region <> 'auto' OR jobs.parameters ?| ARRAY['vocabulary_id', 'phrase_id'])"

# Why queued files cannot go out, by the blockages that pollers publish. The table is mostly empty, which a statement
# finds out once; the rest is in a function, because planning it each time would cost as much as reading the job.
WAITING_REASON = f"""
    CASE WHEN jobs.files_queued > 0 AND EXISTS (SELECT FROM blockages)
    THEN job_waiting_reason(jobs.id, jobs.region, jobs.model, {KEEPS_REGION}) END
"""
_WAITING_REASON = literal_column(WAITING_REASON, Text).label("waiting_reason")

JOB_COLUMNS = (
    Job.id,
    Job.status,
    Job.model,
    Job.region,
    cast(Job.parameters, Text).label("parameters"),
    cast(Job.labels, Text).label("metadata"),
    Job.created_at,
    Job.started_at,
    Job.finished_at,
    Job.files_total,
    Job.files_queued,
    Job.files_running,
    Job.files_succeeded,
    Job.files_failed,
    Job.files_canceled,
    Job.audio_duration_ms,
    Job.cost,
    Job.version,
    _WAITING_REASON,
    _FIRST_FILES.label("files"),
)
_PARAMETERS, _LABELS, _FILES = 4, 5, -1

_JOBS = select(*JOB_COLUMNS)
_CONDITIONS: Mapping[str, ColumnElement[bool]] = {
    "statuses": Job.status == any_(bindparam("statuses", type_=ARRAY(Text))),
    # Spelt out, not bound: the partial index is used when the plan is made for any statuses, too.
    "unusual": Job.status != literal_column("'succeeded'"),
    "model": Job.model == bindparam("model"),
    "region": Job.region == bindparam("region"),
    "created_after": Job.created_at > bindparam("created_after"),
    "lowest_id_at": Job.id >= bindparam("lowest_id_at"),
    "created_before": Job.created_at < bindparam("created_before"),
    "end_id": Job.id < bindparam("end_id"),
    "metadata": Job.labels.contains(bindparam("metadata", type_=JSONB)),
    "before_id": Job.id < bindparam("before_id"),
}
_FIND = _JOBS.where(Job.id == bindparam("job_id"), Job.client_id == bindparam("client_id"))


def _wanted(kind: TypeEngine[Any]) -> Any:
    """Pairs of a client's id and what it asks for."""
    arrays = bindparam("client_ids", type_=ARRAY(Uuid)), bindparam("values", type_=ARRAY(kind))
    return func.unnest(*arrays).table_valued("client_id", "value", name="wanted").render_derived()


def _of_clients(wanted: Any, column: Any, *more: Any) -> Select[Any]:
    matches = (Job.client_id == wanted.c.client_id) & (column == wanted.c.value)
    return select(Job.client_id, *more, *JOB_COLUMNS).join(wanted, matches)


_FIND_OWN = CompiledQuery(_of_clients(_wanted(Uuid()), Job.id))
_FIND_BY_KEYS = CompiledQuery(
    _of_clients(_wanted(Text()), Job.idempotency_key, Job.idempotency_key, Job.request_sha256)
)
_FIND_MANY = CompiledQuery(
    _JOBS.join(Client, Client.id == Job.client_id).where(
        Job.id == any_(bindparam("job_ids", type_=ARRAY(Uuid))), Client.revoked_at.is_(None)
    )
)
_EXISTS = select(Job.id).where(Job.id == bindparam("job_id"), Job.client_id == bindparam("client_id"))
