"""Creates jobs, within the client's quota and budget and once per idempotency key. Runs no call to upstream."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

import orjson
import structlog
from sqlalchemy import ARRAY, Text, bindparam, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalogue import MODELS, REGIONS, ValidatedJob
from app.db import CompiledQuery, RawConnection, Sessions, after_commit, raw_connection_of, transaction
from app.errors import Fault, GatewayError, IdempotencyKeyReused, InvalidRequest, TooManyWaitingFiles
from app.identifiers import new_id
from app.outages import as_outage
from app.queue.job_json import FILES_SHOWN, NEW_JOB_COLUMNS, JobFile, JobSnapshot, read_job
from app.queue.lifecycle import group_key
from app.queue.observation import job_created
from app.queue.queries import find_by_keys
from app.queue.spending import Allowance, lock_allowances


@dataclass(frozen=True, slots=True)
class NewJob:
    """A validated request. `request_sha256`: its hash, which a replay must match; None without an idempotency key.

    `accounts`: for each URL the only account that may submit it, or an empty string; empty if there is none.
    `reuse`: files may be answered from stored transcripts, which `app.queue.reuse` does. `reusable_files`: how many
    of the files it found; they do not count as queued, and cost nothing.
    `has_budget`: the client has a budget, which the job may exceed.
    `client_name` and `request_id` are for the log. The id is that of the request in whose context the object is made.
    `given_urls`: for each URL its form in the request if that form is shown later, or None; empty if there is none.
    """

    client_id: UUID
    validated: ValidatedJob
    requested_region: str
    urls: Sequence[str]
    metadata: Mapping[str, str]
    webhook_url: str | None
    idempotency_key: str | None
    request_sha256: bytes | None
    accounts: Sequence[str] = ()
    client_name: str | None = None
    reuse: bool = False
    reusable_files: int = 0
    has_budget: bool = False
    request_id: str | None = field(
        default_factory=lambda: structlog.contextvars.get_contextvars().get("request_id"), compare=False
    )
    given_urls: Sequence[str | None] = ()


@dataclass(frozen=True, slots=True)
class CreatedJob:
    """`replayed`: the job existed under the same idempotency key."""

    snapshot: JobSnapshot
    replayed: bool = False


CreationOutcome = CreatedJob | Exception


async def create_jobs(
    connection: RawConnection, jobs: Sequence[NewJob], *, waiting_limit: int | None = None
) -> list[CreationOutcome]:
    """Create jobs of clients without a budget, outside of a transaction. They are durable and logged afterwards.

    One outcome per new job: IdempotencyKeyReused, TooManyWaitingFiles or InvalidRequest if it was not created, and
    DatabaseUnavailable if the database failed when other jobs were durable already.
    One statement for all jobs, one more if there are replays, and one more if there is a quota.
    """
    outcomes: dict[int, CreationOutcome] = {}
    try:
        async for found in _outcomes(connection, jobs, waiting_limit, {}):
            outcomes |= found
            for number, job_id in _created(found).items():
                # A log that cannot be written must not make the caller create the job again.
                with suppress(Exception):
                    _log_created(job_id, jobs[number])
    except Exception as error:
        if not _created(outcomes):
            raise
        # The inserted jobs are durable: their callers must not be told to repeat the request.
        return [outcomes.get(number) or as_outage(error) for number in range(len(jobs))]
    return [outcomes[number] for number in range(len(jobs))]


async def create_jobs_in_transaction(
    session: AsyncSession,
    jobs: Sequence[NewJob],
    *,
    waiting_limit: int | None = None,
    allowances: Mapping[UUID, Allowance] | None = None,
) -> list[CreationOutcome]:
    """Create jobs as part of the caller's transaction. They are logged when it is committed.

    The outcomes and statements of `create_jobs`. `allowances`: what clients with a budget may spend. With them also
    BudgetExceeded or BudgetCurrencyMismatch, and one statement more if a job has an idempotency key.
    """
    outcomes: dict[int, CreationOutcome] = {}
    async for found in _outcomes(await raw_connection_of(session), jobs, waiting_limit, allowances or {}):
        outcomes |= found
    for number, job_id in _created(outcomes).items():
        after_commit(session, partial(_log_created, job_id, jobs[number]))
    return [outcomes[number] for number in range(len(jobs))]


async def create_jobs_within_budgets(
    sessions: Sessions, jobs: Sequence[NewJob], *, assumed_s: int, waiting_limit: int | None = None
) -> list[CreationOutcome]:
    """Create jobs of clients with a budget in one transaction, which locks the budgets first."""
    async with transaction(sessions) as session:
        allowances = await lock_allowances(session, {new.client_id for new in jobs}, assumed_s=assumed_s)
        return await create_jobs_in_transaction(session, jobs, waiting_limit=waiting_limit, allowances=allowances)


async def remaining_quota(connection: RawConnection, client_ids: Collection[UUID], limit: int) -> dict[UUID, int]:
    """The number of files that each client may still queue, below zero if it has more than the limit. One statement.

    Not serialised: concurrent requests may exceed the limit by one batch.
    """
    values = {"client_ids": list(client_ids), "regions": list(REGIONS), "models": list(MODELS), "most": limit + 1}
    return {row["id"]: limit - row["files"] for row in await _COUNT_QUEUED.fetch(connection, **values)}


def quota_exceeded(files: int, limit: int) -> GatewayError:
    """The error for `files` that do not fit: 429 if they will fit later, 422 if there are more than the limit."""
    if files > limit:
        detail = (
            f"has {files:,} files, but a client may have at most {limit:,} queued files; split it into several jobs"
        )
        return InvalidRequest.at("/file_urls", detail)
    return TooManyWaitingFiles(
        f"A client may have at most {limit:,} queued files. Send this request again when some have been submitted."
    )


async def _outcomes(
    connection: RawConnection,
    jobs: Sequence[NewJob],
    waiting_limit: int | None,
    allowances: Mapping[UUID, Allowance],
) -> AsyncIterator[dict[int, CreationOutcome]]:
    """The outcome of each job by its place in the batch, step by step.

    Of equal requests at the same time one inserts its job; the others wait for that commit and are replays.
    """
    left = dict(enumerate(jobs))
    if allowances:  # replays need nothing of them, so they are looked up first
        replays = await _replays(connection, left)
        yield replays
        left = _without(left, replays)
    if refusals := await _refusals(connection, left, waiting_limit, allowances):
        yield refusals | await _replays(connection, {number: left[number] for number in refusals})
        left = _without(left, refusals)
    while left:
        created = await _insert(connection, left)
        yield created
        # The others are replays, unless the job with that key was deleted in between: then the key is free again.
        if left := _without(left, created):
            replays = await _replays(connection, left)
            yield replays
            left = _without(left, replays)


def _without(jobs: Mapping[int, NewJob], outcomes: Collection[int]) -> dict[int, NewJob]:
    return {number: new for number, new in jobs.items() if number not in outcomes}


def _created(outcomes: Mapping[int, CreationOutcome]) -> dict[int, UUID]:
    """The ids of the jobs that were inserted, without those that existed already."""
    return {
        number: outcome.snapshot.job.id
        for number, outcome in outcomes.items()
        if isinstance(outcome, CreatedJob) and not outcome.replayed
    }


def _log_created(job_id: UUID, new: NewJob) -> None:
    job_created(
        job_id=job_id,
        client=new.client_name or str(new.client_id),
        files=len(new.urls),
        model=new.validated.model.id,
        region=new.validated.region,
        request_id=new.request_id,
    )


async def _refusals(
    connection: RawConnection,
    jobs: Mapping[int, NewJob],
    waiting_limit: int | None,
    allowances: Mapping[UUID, Allowance],
) -> dict[int, CreationOutcome]:
    """The jobs that exceed their client's quota or budget, counting the jobs before them in the batch."""
    if not jobs or (waiting_limit is None and not allowances):
        return {}
    quota: dict[UUID, int] = {}
    if waiting_limit is not None:
        quota = await remaining_quota(connection, {new.client_id for new in jobs.values()}, waiting_limit)
    refusals: dict[int, CreationOutcome] = {}
    admitted: set[tuple[UUID, str]] = set()
    for number, new in jobs.items():
        if new.idempotency_key and (new.client_id, new.idempotency_key) in admitted:
            continue  # will be a replay of a job of this batch
        files = len(new.urls) - new.reusable_files
        try:
            # A job that queues no file is accepted by a client that has more than the limit.
            if waiting_limit is not None and files > max(0, quota[new.client_id]):
                raise quota_exceeded(files, waiting_limit)
            if allowance := allowances.get(new.client_id):
                allowance.admit(new.validated.model.id, new.validated.region, files)
        except GatewayError as refusal:
            refusals[number] = refusal
            continue
        if quota:
            quota[new.client_id] -= files
        if new.idempotency_key:
            admitted.add((new.client_id, new.idempotency_key))
    return refusals


async def _insert(connection: RawConnection, jobs: Mapping[int, NewJob]) -> dict[int, CreationOutcome]:
    """The jobs whose idempotency key was free. Inserted in the order of the keys, so that processes do not deadlock."""
    ordered = sorted(jobs.items(), key=lambda item: (item[1].client_id, item[1].idempotency_key or ""))
    ids = [new_id() for _ in ordered]
    rows = [_row(job_id, new) for job_id, (_, new) in zip(ids, ordered, strict=True)]
    inserted = {row["id"]: row for row in await _INSERT.fetch(connection, jobs=orjson.dumps(rows).decode())}
    created: dict[int, CreationOutcome] = {}
    for job_id, (number, new) in zip(ids, ordered, strict=True):
        if row := inserted.get(job_id):
            files = [JobFile.queued(index, url) for index, url in enumerate(new.urls[:FILES_SHOWN])]
            created[number] = CreatedJob(read_job(row, files=files))
    return created


async def _replays(connection: RawConnection, jobs: Mapping[int, NewJob]) -> dict[int, CreationOutcome]:
    """The jobs whose idempotency key is in use."""
    keyed = {number: (new.client_id, new.idempotency_key) for number, new in jobs.items() if new.idempotency_key}
    if not keyed:
        return {}
    found = await find_by_keys(connection, list(keyed.values()))
    return {
        number: _replay(*found[key], request_sha256=jobs[number].request_sha256)
        for number, key in keyed.items()
        if key in found
    }


def _replay(snapshot: JobSnapshot, stored_sha256: bytes, *, request_sha256: bytes | None) -> CreationOutcome:
    if stored_sha256 == request_sha256:
        return CreatedJob(snapshot, replayed=True)
    detail = "was used for another request; use a new key for each request, and the same key only to repeat a request"
    return IdempotencyKeyReused(f"The Idempotency-Key {detail}.", faults=[Fault("/header/Idempotency-Key", detail)])


def _row(job_id: UUID, new: NewJob) -> dict[str, Any]:
    validated = new.validated
    return {
        "id": job_id,
        "client_id": str(new.client_id),  # orjson refuses asyncpg's UUIDs, which are a subclass
        "model": validated.model.id,
        "region": validated.region,
        "requested_region": new.requested_region,
        "parameters": validated.parameters,
        "metadata": new.metadata,
        "webhook_url": new.webhook_url,
        "idempotency_key": new.idempotency_key,
        "request_sha256": rf"\x{new.request_sha256.hex()}" if new.request_sha256 else None,
        "group_key": group_key(validated.parameters),
        "urls": new.urls,
        "accounts": new.accounts or None,
        "given_urls": new.given_urls or None,
        "group_keys": [group_key(validated.parameters, account) for account in new.accounts] or None,
    }


_NEW_JOB_COLUMNS = ", ".join(f"{sql} AS {name}" for name, sql in NEW_JOB_COLUMNS.items())

# One JSON parameter for all columns: encoding an array for each column takes ten times as long.
_INSERT = CompiledQuery(
    text(f"""
        WITH given AS (
            SELECT *
            FROM json_to_recordset(CAST(:jobs AS json)) AS given (
                id uuid, client_id uuid, model text, region text, requested_region text, parameters jsonb,
                metadata jsonb, webhook_url text, idempotency_key text, request_sha256 bytea,
                group_key uuid, urls text[], accounts text[], group_keys uuid[],
                given_urls text[]
            )
        ), job AS (
            INSERT INTO jobs (id, client_id, model, region, requested_region, parameters, metadata, webhook_url,
                              idempotency_key, request_sha256, files_total, files_queued)
            SELECT id, client_id, model, region, requested_region, parameters, metadata, webhook_url,
                   idempotency_key, request_sha256, cardinality(urls), cardinality(urls)
            FROM given
            ON CONFLICT (client_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
            RETURNING {_NEW_JOB_COLUMNS}
        ), inserted AS (
            INSERT INTO files (job_id, index, client_id, region, model, account, group_key, url, given_url)
            SELECT given.id, file.number - 1, given.client_id, given.region, given.model, coalesce(file.account, ''),
                   coalesce(file.group_key, given.group_key), file.url,
                   file.given_url
            FROM given JOIN job USING (id),
                 unnest(given.urls, given.accounts, given.group_keys, given.given_urls)
                     WITH ORDINALITY AS file (url, account, group_key, given_url, number)
        )
        SELECT * FROM job
    """)  # noqa: S608 - constants
)

# The queue's index leads with region and model. With both given, the count reads a few short ranges, and no more
# files than the limit: 10,000 files take 1 ms.
_COUNT_QUEUED = CompiledQuery(
    text("""
        SELECT client.id, (
            SELECT count(*) FROM (
                SELECT FROM files
                WHERE status = 'queued' AND region = ANY(:regions) AND model = ANY(:models) AND client_id = client.id
                LIMIT :most
            ) AS queued
        ) AS files
        FROM unnest(CAST(:client_ids AS uuid[])) AS client (id)
    """).bindparams(bindparam("regions", type_=ARRAY(Text)), bindparam("models", type_=ARRAY(Text)))
)
