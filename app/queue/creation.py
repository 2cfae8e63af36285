"""Creating jobs, on the caller's connection; nothing here talks to upstream."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text

from app.catalogue import ValidatedJob
from app.db import CompiledQuery, RawConnection
from app.errors import Fault, IdempotencyKeyReused
from app.identifiers import new_id
from app.outages import as_outage
from app.queue.lifecycle import FileStatus, JobStatus, group_key
from app.queue.queries import FILES_SHOWN, WAITING_REASON, FileRow, JobRow, find_by_keys
from app.queue.quota import quota_exceeded, remaining_quota


@dataclass(frozen=True, slots=True)
class NewJob:
    """`request_sha256` names what was asked for: the same idempotency key must come with the same. None: no key."""

    client_id: UUID
    asked: ValidatedJob
    requested_region: str
    urls: Sequence[str]
    metadata: Mapping[str, str]
    webhook_url: str | None
    idempotency_key: str | None
    request_sha256: bytes | None


@dataclass(frozen=True, slots=True)
class CreatedJob:
    """`replayed`: the job was there already under the same idempotency key."""

    job: JobRow
    replayed: bool = False


async def create_jobs(
    connection: RawConnection, jobs: Sequence[NewJob], *, waiting_limit: int | None = None
) -> list[CreatedJob | Exception]:
    """For each new job what became of it. One statement for all of them, another one when there are replays, and
    another one when there is a limit to the files that wait.

    Of any number of equal requests at once one inserts; the others wait for its commit. The errors are
    IdempotencyKeyReused, TooManyWaitingFiles, or InvalidRequest when so many can never wait.
    """
    outcomes: dict[int, CreatedJob | Exception] = {**await _refusals(connection, jobs, waiting_limit)}
    outcomes |= await _replays(connection, {number: jobs[number] for number in outcomes})
    inserted = False
    while left := {number: new for number, new in enumerate(jobs) if number not in outcomes}:
        try:
            outcomes |= (created := await _insert(connection, left))
            inserted = inserted or bool(created)
            # The others are replays. Or the job that had the key was deleted in between: then the key is free again.
            outcomes |= await _replays(
                connection, {number: new for number, new in left.items() if number not in outcomes}
            )
        except Exception as error:
            if not inserted:
                raise
            # What is inserted is durable: its callers must not be told to try again, nor anybody do it for them.
            outcomes |= {number: as_outage(error) for number in left if number not in outcomes}
    return [outcomes[number] for number in range(len(jobs))]


async def _refusals(
    connection: RawConnection, jobs: Sequence[NewJob], waiting_limit: int | None
) -> dict[int, Exception]:
    """Those whose files may not wait beside what waits already and what comes with them."""
    if waiting_limit is None:
        return {}
    room = await remaining_quota(connection, {new.client_id for new in jobs}, waiting_limit)
    refusals: dict[int, Exception] = {}
    for number, new in enumerate(jobs):
        if len(new.urls) <= room[new.client_id]:
            room[new.client_id] -= len(new.urls)
        else:
            refusals[number] = quota_exceeded(len(new.urls), waiting_limit)
    return refusals


async def _insert(connection: RawConnection, jobs: Mapping[int, NewJob]) -> dict[int, CreatedJob | Exception]:
    """Those whose idempotency key was free. In order of the keys, as every process does it: no two of them wait for
    each other.
    """
    ordered = sorted(jobs.items(), key=lambda item: (item[1].client_id, item[1].idempotency_key or ""))
    ids = [new_id() for _ in ordered]
    given = [_row(job_id, new) for job_id, (_, new) in zip(ids, ordered, strict=True)]
    rows = await _INSERT.fetch(connection, jobs=orjson.dumps(given).decode())
    inserted = {row["id"]: row for row in rows}
    return {
        number: CreatedJob(_fresh(job_id, row["created_at"], row["waiting_reason"], new))
        for job_id, (number, new) in zip(ids, ordered, strict=True)
        if (row := inserted.get(job_id))
    }


async def _replays(connection: RawConnection, jobs: Mapping[int, NewJob]) -> dict[int, CreatedJob | Exception]:
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


def _replay(job: JobRow, stored_sha256: bytes, *, request_sha256: bytes | None) -> CreatedJob | Exception:
    if stored_sha256 == request_sha256:
        return CreatedJob(job, replayed=True)
    detail = "was used for another request; use a new key for each request, and the same one only to repeat it"
    return IdempotencyKeyReused(f"The Idempotency-Key {detail}.", faults=[Fault("/header/Idempotency-Key", detail)])


def _row(job_id: UUID, new: NewJob) -> dict[str, Any]:
    asked = new.asked
    return {
        "id": job_id,
        "client_id": str(new.client_id),  # the driver makes it a subclass, which orjson does not write
        "model": asked.model.id,
        "region": asked.region,
        "requested_region": new.requested_region,
        "parameters": asked.parameters,
        "metadata": new.metadata,
        "webhook_url": new.webhook_url,
        "idempotency_key": new.idempotency_key,
        "request_sha256": rf"\x{new.request_sha256.hex()}" if new.request_sha256 else None,
        "group_key": group_key(asked.parameters),
        "urls": new.urls,
    }


def _fresh(job_id: UUID, created_at: datetime, waiting_reason: str | None, new: NewJob) -> JobRow:
    files = [FileRow(index, url, FileStatus.QUEUED) for index, url in enumerate(new.urls[:FILES_SHOWN])]
    asked, total = new.asked, len(new.urls)
    return JobRow(
        job_id, JobStatus.QUEUED, asked.model.id, asked.region, asked.parameters, new.metadata, created_at, None, None,
        total, total, 0, 0, 0, 0, 0, Decimal(0), 1, waiting_reason, files,
    )  # fmt: skip


# One parameter instead of an array for each column: writing it takes a tenth of the time.
_INSERT = CompiledQuery(
    text(f"""
        WITH given AS (
            SELECT *
            FROM json_to_recordset(CAST(:jobs AS json)) AS given (
                id uuid, client_id uuid, model text, region text, requested_region text, parameters jsonb,
                metadata jsonb, webhook_url text, idempotency_key text, request_sha256 bytea,
                group_key uuid, urls text[]
            )
        ), job AS (
            INSERT INTO jobs (id, client_id, model, region, requested_region, parameters, metadata, webhook_url,
                              idempotency_key, request_sha256, files_total, files_queued)
            SELECT id, client_id, model, region, requested_region, parameters, metadata, webhook_url,
                   idempotency_key, request_sha256, cardinality(urls), cardinality(urls)
            FROM given
            ON CONFLICT (client_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
            RETURNING id, created_at, {WAITING_REASON} AS waiting_reason
        ), inserted AS (
            INSERT INTO files (job_id, index, client_id, region, model, group_key, url)
            SELECT given.id, file.number - 1, given.client_id, given.region, given.model, given.group_key, file.url
            FROM given JOIN job USING (id), unnest(given.urls) WITH ORDINALITY AS file (url, number)
        )
        SELECT id, created_at, waiting_reason FROM job
    """)  # noqa: S608 - a constant
)
