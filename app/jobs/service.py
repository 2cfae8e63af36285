"""Creating jobs. Works in the caller's transaction; nothing here talks to upstream."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalogue import ValidatedJob
from app.errors import Fault, IdempotencyKeyReused
from app.identifiers import new_id
from app.jobs.lifecycle import FileStatus, JobStatus, lane
from app.jobs.reading import FILES_SHOWN, FileRow, JobRow, find_by_keys
from app.jobs.room import no_room, room_left


@dataclass(frozen=True, slots=True)
class NewJob:
    """`request_sha256` names what was asked for: the same idempotency key must come with the same."""

    client_id: UUID
    asked: ValidatedJob
    region_asked: str
    urls: Sequence[str]
    metadata: Mapping[str, str]
    webhook_url: str | None
    idempotency_key: str | None
    request_sha256: bytes


@dataclass(frozen=True, slots=True)
class Created:
    """`replayed`: the job was there already under the same idempotency key."""

    job: JobRow
    replayed: bool = False


async def create_jobs(
    connection: AsyncConnection, jobs: Sequence[NewJob], *, waiting_limit: int | None = None
) -> list[Created | Exception]:
    """For each new job what became of it. One statement for all of them, another one when there are replays, and
    another one when there is a limit to the files that wait.

    Of any number of equal requests at once one inserts; the others wait for its commit. The errors are
    IdempotencyKeyReused, TooManyWaitingFiles, or InvalidRequest when so many can never wait.
    """
    outcomes: dict[int, Created | Exception] = {**await _refusals(connection, jobs, waiting_limit)}
    outcomes |= await _replays(connection, {number: jobs[number] for number in outcomes})
    while left := {number: new for number, new in enumerate(jobs) if number not in outcomes}:
        outcomes |= await _insert(connection, left)
        # The others are replays. Or the job that had the key was deleted in between: then the key is free again.
        outcomes |= await _replays(connection, {number: new for number, new in left.items() if number not in outcomes})
    return [outcomes[number] for number in range(len(jobs))]


async def _refusals(
    connection: AsyncConnection, jobs: Sequence[NewJob], waiting_limit: int | None
) -> dict[int, Exception]:
    """Those whose files may not wait beside what waits already and what comes with them."""
    if waiting_limit is None:
        return {}
    room = await room_left(connection, {new.client_id for new in jobs}, waiting_limit)
    refusals: dict[int, Exception] = {}
    for number, new in enumerate(jobs):
        if len(new.urls) <= room[new.client_id]:
            room[new.client_id] -= len(new.urls)
        else:
            refusals[number] = no_room(len(new.urls), waiting_limit)
    return refusals


async def _insert(connection: AsyncConnection, jobs: Mapping[int, NewJob]) -> dict[int, Created | Exception]:
    """Those whose idempotency key was free. In order of the keys, as every process does it: no two of them wait for
    each other.
    """
    ordered = sorted(jobs.items(), key=lambda item: (item[1].client_id, item[1].idempotency_key or ""))
    ids = [new_id() for _ in ordered]
    given = zip(ids, (new for _, new in ordered), strict=True)
    rows = await connection.execute(_INSERT, _columns(list(given)))
    created_at = {row.id: row.created_at for row in rows}
    return {
        number: Created(_fresh(job_id, created_at[job_id], new))
        for job_id, (number, new) in zip(ids, ordered, strict=True)
        if job_id in created_at
    }


async def _replays(connection: AsyncConnection, jobs: Mapping[int, NewJob]) -> dict[int, Created | Exception]:
    """Those whose idempotency key has a job."""
    keyed = {number: (new.client_id, new.idempotency_key) for number, new in jobs.items() if new.idempotency_key}
    if not keyed:
        return {}
    found = await find_by_keys(connection, list(keyed.values()))
    return {
        number: _replay(*found[key], request_sha256=jobs[number].request_sha256)
        for number, key in keyed.items()
        if key in found
    }


def _replay(job: JobRow, stored_sha256: bytes, *, request_sha256: bytes) -> Created | Exception:
    if stored_sha256 == request_sha256:
        return Created(job, replayed=True)
    detail = "was used for another request; use a new key for each request, and the same one only to repeat it"
    return IdempotencyKeyReused(f"The Idempotency-Key {detail}.", faults=[Fault("/header/Idempotency-Key", detail)])


def _columns(given: Sequence[tuple[UUID, NewJob]]) -> dict[str, list[Any]]:
    """The jobs' columns as arrays, and those of their files."""
    files = [(job_id, index, url) for job_id, new in given for index, url in enumerate(new.urls)]
    jobs = zip(*(_job_columns(job_id, new) for job_id, new in given), strict=True)
    return {
        name: list(values)
        for name, values in zip((*_JOB_COLUMNS, *_FILE_COLUMNS), (*jobs, *zip(*files, strict=True)), strict=True)
    }


def _job_columns(job_id: UUID, new: NewJob) -> Iterator[Any]:
    asked = new.asked
    yield from (job_id, new.client_id, asked.model.id, asked.region, new.region_asked)
    yield from (_json(asked.parameters), _json(new.metadata), new.webhook_url, new.idempotency_key)
    yield from (new.request_sha256 if new.idempotency_key else None, lane(asked.parameters), len(new.urls))


def _json(value: Mapping[str, Any]) -> str:
    return orjson.dumps(value).decode()


def _fresh(job_id: UUID, created_at: datetime, new: NewJob) -> JobRow:
    files = [FileRow(index, url, FileStatus.QUEUED) for index, url in enumerate(new.urls[:FILES_SHOWN])]
    asked, total = new.asked, len(new.urls)
    return JobRow(
        job_id, JobStatus.QUEUED, asked.model.id, asked.region, asked.parameters, new.metadata, created_at, None, None,
        total, total, 0, 0, 0, 0, 0, Decimal(0), 1, files,
    )  # fmt: skip


_JOB_COLUMNS = (
    "ids", "client_ids", "models", "regions", "regions_asked", "parameters", "labels", "webhook_urls",
    "idempotency_keys", "requests_sha256", "lanes", "totals",
)  # fmt: skip
_FILE_COLUMNS = ("file_job_ids", "file_indexes", "urls")

_INSERT = text("""
    WITH given AS (
        SELECT * FROM unnest(
            CAST(:ids AS uuid[]), CAST(:client_ids AS uuid[]), CAST(:models AS text[]), CAST(:regions AS text[]),
            CAST(:regions_asked AS text[]), CAST(:parameters AS text[]), CAST(:labels AS text[]),
            CAST(:webhook_urls AS text[]), CAST(:idempotency_keys AS text[]), CAST(:requests_sha256 AS bytea[]),
            CAST(:lanes AS uuid[]), CAST(:totals AS int[])
        ) AS given (id, client_id, model, region, region_asked, parameters, labels, webhook_url,
                    idempotency_key, request_sha256, lane, total)
    ), job AS (
        INSERT INTO jobs (id, client_id, model, region, region_asked, parameters, metadata, webhook_url,
                          idempotency_key, request_sha256, files_total, files_queued)
        SELECT id, client_id, model, region, region_asked, CAST(parameters AS jsonb), CAST(labels AS jsonb),
               webhook_url, idempotency_key, request_sha256, total, total
        FROM given
        ON CONFLICT (client_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
        RETURNING id, created_at
    ), inserted AS (
        INSERT INTO files (job_id, index, client_id, region, model, lane, url)
        SELECT given.id, file.index, given.client_id, given.region, given.model, given.lane, file.url
        FROM unnest(CAST(:file_job_ids AS uuid[]), CAST(:file_indexes AS int[]), CAST(:urls AS text[]))
            AS file (job_id, index, url)
        JOIN job ON job.id = file.job_id
        JOIN given ON given.id = file.job_id
    )
    SELECT id, created_at FROM job
""")
