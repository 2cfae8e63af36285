"""Queries for the jobs and files of one client. A job and its first files are read in one statement, as of one moment.

Functions that take a raw connection run single statements on it; those that take a session join its transaction.
"""

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
    BigInteger,
    ColumnElement,
    Select,
    Text,
    Uuid,
    any_,
    bindparam,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import TypeEngine

from app.clients.models import Client
from app.db import CompiledQuery, RawConnection
from app.errors import NotFound
from app.identifiers import lowest_id_at
from app.loose_scans import newest_of_groups
from app.queue.job_json import (
    FILE_JSON,
    FILES_SHOWN,
    JOB_COLUMNS,
    SUMMARY_COLUMNS,
    WAITING_REASON,
    JobFile,
    JobSnapshot,
    JobSummary,
    JobVersion,
    read_file,
    read_job,
    read_summary,
)
from app.queue.lifecycle import FileStatus, JobStatus, stored_statuses
from app.queue.models import METADATA_OF_CLIENT, File, Job

# Ids carry the time of the API's clock, `created_at` that of the database's clock. The two may differ by this much.
MAX_CLOCK_DIFFERENCE_S = 24 * 3600
# Higher than any version: a wait with this version ends only when the job is final.
FINAL_VERSION = 2**31 - 1


@dataclass(frozen=True, slots=True)
class JobFilters:
    """None or empty: no filter. `before_id`: the last id of the page before."""

    job_id: UUID | None = None
    statuses: Sequence[JobStatus] = ()
    model: str | None = None
    region: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    before_id: UUID | None = None


class UnfilteredList(NamedTuple):
    """The newest `limit` jobs of a client that are older than `before_id`."""

    client_id: UUID
    before_id: UUID
    limit: int


class BilledUnits(NamedTuple):
    """Upstream's bill of a job, in the units of its model's price. None: nothing in this unit."""

    seconds: Decimal | None
    input_tokens: int | None
    output_tokens: int | None


class TypicalDuration(NamedTuple):
    """The median time from creation to end of recent jobs of one region and model, in seconds."""

    region: str
    model: str
    seconds: float


async def find_job(session: AsyncSession, client_id: UUID, job_id: UUID) -> JobSnapshot:
    """One statement. Raises NotFound, also for the job of another client."""
    found = (await session.execute(_FIND, {"job_id": job_id, "client_id": client_id})).mappings().one_or_none()
    if found is None:
        raise job_not_found(job_id)
    return read_job(found)


async def find_jobs(connection: RawConnection, job_ids: Sequence[UUID]) -> list[JobSnapshot]:
    """The jobs that exist and whose client is not revoked, in any order. One statement."""
    return [read_job(row) for row in await _FIND_MANY.fetch(connection, job_ids=job_ids)]


async def find_own_jobs(
    connection: RawConnection, keys: Sequence[tuple[UUID, UUID]]
) -> dict[tuple[UUID, UUID], JobSnapshot]:
    """The jobs that exist, by (client id, job id). One statement."""
    client_ids, job_ids = zip(*set(keys), strict=True)
    rows = await _FIND_OWN.fetch(connection, client_ids=client_ids, values=job_ids)
    return {(row["client_id"], row["id"]): read_job(row) for row in rows}


async def find_first_jobs(
    connection: RawConnection, client_id: UUID, job_ids: Sequence[UUID], *, read_bytes: int
) -> list[JobSnapshot]:
    """Those of the client's jobs that exist, newest first, up to about `read_bytes` of JSON. One statement.

    At least one job. The size of a job is estimated by the number of its files, with the longest possible URLs.
    """
    rows = await _FIND_FIRST.fetch(connection, client_id=client_id, job_ids=job_ids, read_bytes=read_bytes)
    return [read_job(row) for row in rows]


async def find_by_keys(
    connection: RawConnection, keys: Sequence[tuple[UUID, str]]
) -> dict[tuple[UUID, str], tuple[JobSnapshot, bytes]]:
    """The jobs with these (client id, idempotency key), each with the hash of its request. One statement."""
    client_ids, idempotency_keys = zip(*set(keys), strict=True)
    rows = await _FIND_BY_KEYS.fetch(connection, client_ids=client_ids, values=idempotency_keys)
    return {(row["client_id"], row["idempotency_key"]): (read_job(row), row["request_sha256"]) for row in rows}


async def find_changed(connection: RawConnection, seen: Collection[JobVersion]) -> list[JobVersion]:
    """Those of the `seen` versions whose job has changed, is final or deleted, or whose client is revoked.

    Versions with FINAL_VERSION ignore changes. One statement with a primary key lookup per job: 2,000 take 5 ms.
    """
    ids, versions, reasons = zip(*seen, strict=True)
    return [JobVersion(*row) for row in await _CHANGED.fetch(connection, ids=ids, versions=versions, reasons=reasons)]


async def typical_durations(session: AsyncSession) -> tuple[datetime, list[TypicalDuration]]:
    """The database's time, and the durations of the 1,000 newest jobs by region and model. One statement of 1 ms."""
    rows = (await session.execute(_TYPICAL_DURATIONS)).all()
    return rows[0].now, [TypicalDuration(row.region, row.model, row.seconds) for row in rows if row.region]


async def list_versions(
    connection: RawConnection, client_id: UUID, filters: JobFilters, limit: int
) -> list[JobVersion]:
    """Newest first. One statement; with a filter by metadata, two in a transaction."""
    values = _values(filters)
    statement = _list_statement(frozenset(values), limit)
    values["client_id"] = client_id
    if filters.metadata:
        values["metadata"] = orjson.dumps({str(client_id): filters.metadata}).decode()
    return [JobVersion(*row) for row in await statement.fetch(connection, **values)]


async def list_newest_versions(
    connection: RawConnection, lists: Collection[UnfilteredList]
) -> dict[UnfilteredList, list[JobVersion]]:
    """As `list_versions` without filters. One statement for all lists of the same length."""
    found: dict[UnfilteredList, list[JobVersion]] = {each: [] for each in lists}
    for limit in {each.limit for each in found}:
        same_length = [each for each in found if each.limit == limit]
        rows = await _newest_statement(limit).fetch(
            connection,
            client_ids=[each.client_id for each in same_length],
            before_ids=[each.before_id for each in same_length],
        )
        for number, job_id, version, reason in rows:
            found[same_length[number - 1]].append(JobVersion(job_id, version, reason))
    return found


async def list_files(
    session: AsyncSession,
    client_id: UUID,
    job_id: UUID,
    *,
    statuses: Sequence[FileStatus] = (),
    after_index: int = -1,
    limit: int,
) -> list[JobFile]:
    """In order. One statement; two if the list is empty. Raises NotFound as `find_job`."""
    query = select(literal_column(f"CAST({FILE_JSON} AS text)", Text)).select_from(File)
    query = query.where(File.job_id == job_id, File.client_id == client_id, File.index > after_index)
    if statuses:
        query = query.where(File.status.in_(stored_statuses(statuses)))
    files = (await session.scalars(query.order_by(File.index).limit(limit))).all()
    if not files and not await session.scalar(_EXISTS, {"job_id": job_id, "client_id": client_id}):
        raise job_not_found(job_id)
    return [read_file(file) for file in files]


async def list_summaries(
    session: AsyncSession, client_id: UUID, filters: JobFilters, *, offset: int, limit: int
) -> tuple[list[JobSummary], int]:
    """A page by its number, newest first, and the number of all jobs that match. Two statements.

    For protocols whose pages have numbers. Filters by metadata are not supported.
    """
    values = _values(filters) | {"client_id": client_id}
    conditions = [Job.client_id == bindparam("client_id")]
    conditions += [_CONDITIONS[name] for name in sorted(values) if name in _CONDITIONS]
    total = await session.scalar(select(func.count()).select_from(Job).where(*conditions), values)
    page = _SUMMARIES.where(*conditions).order_by(Job.id.desc()).offset(offset).limit(limit)
    rows = (await session.execute(page, values)).mappings()
    return [read_summary(row) for row in rows], total or 0


async def given_urls(session: AsyncSession, client_id: UUID, job_id: UUID) -> dict[int, str]:
    """The URLs that are stored in another form than they were given in, by the index of their file. One statement."""
    query = select(File.index, File.given_url)
    own = (File.job_id == job_id, File.client_id == client_id, File.given_url.is_not(None))
    return {index: url for index, url in await session.execute(query.where(*own)) if url is not None}


async def billed_units(session: AsyncSession, client_id: UUID, job_id: UUID) -> BilledUnits:
    """The sums over the files of the job. One statement."""
    sums = (func.sum(File.billed_s), func.sum(File.input_tokens), func.sum(File.output_tokens))
    row = (await session.execute(select(*sums).where(File.job_id == job_id, File.client_id == client_id))).one()
    return BilledUnits(*row)


def job_not_found(job_id: UUID | str) -> NotFound:
    return NotFound(f"There is no job {job_id} of this client.")


def _values(filters: JobFilters) -> dict[str, Any]:
    """The parameters of the conditions that the filters need, by the names in `_CONDITIONS`."""
    values: dict[str, Any] = {
        "job_id": filters.job_id,
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
    # Ids are ordered by time and indexed: a range of ids bounds what is read, the exact condition decides.
    if filters.created_after:
        values["lowest_id_at"] = lowest_id_at(filters.created_after, shift_s=-MAX_CLOCK_DIFFERENCE_S)
    if filters.created_before:
        values["end_id"] = lowest_id_at(filters.created_before, shift_s=MAX_CLOCK_DIFFERENCE_S)
    return {name: value for name, value in values.items() if value}


@lru_cache(maxsize=256)
def _newest_statement(limit: int) -> CompiledQuery:
    # The limit is a literal as in `_list_statement`. Each list is a short range of the index by client.
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
    """Cached by conditions and limit: compiling a statement takes longer than reading 50 jobs."""
    # The limit is a literal: a plan for any limit sorts all jobs of the client, which takes 2 ms among 10,000.
    own = [Job.client_id == bindparam("client_id")]
    wanted = [_CONDITIONS[name] for name in sorted(conditions)]
    columns = select(Job.id, Job.version, _WAITING_REASON).order_by(Job.id.desc())
    if "metadata" in conditions or not conditions & {"unusual", "model", "region"}:
        # The best plan depends on how rare a pair of metadata is. Among 300,000 jobs a generic plan takes 70 ms for a
        # rare pair, a custom plan 0.05 ms.
        page = columns.where(*own, *wanted).limit(literal_column(f"{limit:d}"))
        return CompiledQuery(page, custom_plan="metadata" in conditions)
    groups, scope = [Job.model, Job.region], own
    if "unusual" in conditions:
        groups, scope = [Job.status, *groups], [*own, _CONDITIONS["unusual"]]
    newest = newest_of_groups(Job.id, groups, scope, wanted, limit).subquery("page")
    return CompiledQuery(columns.join(newest, newest.c.id == Job.id))


_WAITING_REASON = literal_column(WAITING_REASON, Text).label("waiting_reason")
_JOB_COLUMNS: list[ColumnElement[Any]] = [literal_column(sql).label(name) for name, sql in JOB_COLUMNS.items()]

# A file shows a URL of up to 4,096 characters and an error message of up to 500.
_MAX_JOB_BYTES = f"octet_length(CAST(parameters AS text)) + 5000 * least(files_total, {FILES_SHOWN})"
_SUMMARY_COLUMNS: list[ColumnElement[Any]] = [literal_column(sql).label(name) for name, sql in SUMMARY_COLUMNS.items()]
_SUMMARIES = select(*_SUMMARY_COLUMNS).select_from(Job)
_JOBS = select(*_JOB_COLUMNS).select_from(Job)
_CONDITIONS: Mapping[str, ColumnElement[bool]] = {
    "job_id": Job.id == bindparam("job_id"),
    "statuses": Job.status == any_(bindparam("statuses", type_=ARRAY(Text))),
    # A literal, so that plans for any statuses use the partial index too.
    "unusual": Job.status != literal_column("'succeeded'"),
    "model": Job.model == bindparam("model"),
    "region": Job.region == bindparam("region"),
    "created_after": Job.created_at > bindparam("created_after"),
    "lowest_id_at": Job.id >= bindparam("lowest_id_at"),
    "created_before": Job.created_at < bindparam("created_before"),
    "end_id": Job.id < bindparam("end_id"),
    "metadata": literal_column(METADATA_OF_CLIENT, JSONB).contains(bindparam("metadata", type_=JSONB)),
    "before_id": Job.id < bindparam("before_id"),
}
_FIND = _JOBS.where(Job.id == bindparam("job_id"), Job.client_id == bindparam("client_id"))


def _of_clients(column: Any, kind: TypeEngine[Any], *more: Any) -> Select[Any]:
    """Jobs by pairs of a client's id and a value of the column."""
    arrays = bindparam("client_ids", type_=ARRAY(Uuid)), bindparam("values", type_=ARRAY(kind))
    wanted = func.unnest(*arrays).table_valued("client_id", "value", name="wanted").render_derived()
    matches = (Job.client_id == wanted.c.client_id) & (column == wanted.c.value)
    return select(Job.client_id, *more, *_JOB_COLUMNS).join_from(Job, wanted, matches)


def _first_by_size() -> Select[Any]:
    """The newest of the jobs, as many as fit into `read_bytes`, and one more."""
    wanted = (Job.id == any_(bindparam("job_ids", type_=ARRAY(Uuid)))) & (Job.client_id == bindparam("client_id"))
    weighed = select(Job.id, literal_column(_MAX_JOB_BYTES, BigInteger).label("bytes")).where(wanted).subquery()
    total = func.sum(weighed.c.bytes).over(order_by=weighed.c.id.desc())
    sized = select(weighed.c.id, (total - weighed.c.bytes).label("bytes_before")).subquery()
    return (
        _JOBS.join(sized, sized.c.id == Job.id)
        .where(sized.c.bytes_before < bindparam("read_bytes", type_=BigInteger))
        .order_by(Job.id.desc())
    )


_FIND_FIRST = CompiledQuery(_first_by_size())
_FIND_OWN = CompiledQuery(_of_clients(Job.id, Uuid()))
_FIND_BY_KEYS = CompiledQuery(_of_clients(Job.idempotency_key, Text(), Job.idempotency_key, Job.request_sha256))
_FIND_MANY = CompiledQuery(
    _JOBS.join(Client, Client.id == Job.client_id).where(
        Job.id == any_(bindparam("job_ids", type_=ARRAY(Uuid))), Client.revoked_at.is_(None)
    )
)
_EXISTS = select(Job.id).where(Job.id == bindparam("job_id"), Job.client_id == bindparam("client_id"))

_CHANGED = CompiledQuery(
    text(f"""
        SELECT seen.id, seen.version, seen.reason
        FROM unnest(CAST(:ids AS uuid[]), CAST(:versions AS bigint[]), CAST(:reasons AS text[]))
            AS seen (id, version, reason)
        LEFT JOIN jobs ON jobs.id = seen.id
        LEFT JOIN clients ON clients.id = jobs.client_id
        WHERE jobs.id IS NULL OR clients.revoked_at IS NOT NULL
          OR jobs.finished_at IS NOT NULL OR jobs.version > seen.version
          OR seen.version < {FINAL_VERSION} AND seen.reason IS DISTINCT FROM ({WAITING_REASON})
    """).bindparams(  # noqa: S608 - constants
        bindparam("ids", type_=ARRAY(Uuid)),
        bindparam("versions", type_=ARRAY(BigInteger)),
        bindparam("reasons", type_=ARRAY(Text)),
    )
)

# A short range of the primary key. The median tolerates jobs that were retried days later.
_TYPICAL_DURATIONS = text("""
    SELECT now() AS now, region, model, seconds
    FROM (SELECT 1) AS one LEFT JOIN (
        SELECT region, model,
               percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - created_at)) AS seconds
        FROM (SELECT * FROM jobs ORDER BY id DESC LIMIT 1000) AS newest
        WHERE finished_at > created_at AND files_succeeded > 0 -- equal if all files of the job are reused
        GROUP BY region, model
    ) AS typical ON true
""")
