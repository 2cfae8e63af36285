"""Creating jobs. Works in the caller's transaction; nothing here talks to upstream."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Text, bindparam, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalogue import ValidatedJob
from app.errors import Fault, IdempotencyKeyReused
from app.identifiers import new_id
from app.jobs.lifecycle import FileStatus, JobStatus, lane
from app.jobs.models import Job
from app.jobs.reading import FILES_SHOWN, JOB_COLUMNS, FileRow, JobRow, job_row
from app.jobs.room import has_room, no_room


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


async def create_job(session: AsyncSession, new: NewJob, *, waiting_limit: int | None = None) -> tuple[JobRow, bool]:
    """The job, and whether it was there already under the same idempotency key. One statement, two for a replay;
    another one when there is a limit to the files that wait.

    Of any number of equal requests at once one inserts; the others wait for its commit. Raises IdempotencyKeyReused,
    TooManyWaitingFiles, or InvalidRequest when so many can never wait.
    """
    if not await has_room(session, new.client_id, more=len(new.urls), limit=waiting_limit):
        if new.idempotency_key and (existing := await _find_by_key(session, new)):
            return existing, True
        raise no_room(len(new.urls), waiting_limit)
    while True:
        job_id = new_id()
        created_at = await session.scalar(_INSERT, _columns(job_id, new))
        if created_at is not None:
            return _fresh(job_id, created_at, new), False
        # None here: the job that had the key was deleted in between, and the key is free again.
        if existing := await _find_by_key(session, new):
            return existing, True


async def _find_by_key(session: AsyncSession, new: NewJob) -> JobRow | None:
    found = await session.execute(_FIND_BY_KEY, {"key": new.idempotency_key, "client_id": new.client_id})
    row = found.one_or_none()
    if row is None:
        return None
    if row.request_sha256 != new.request_sha256:
        detail = "was used for another request; use a new key for each request, and the same one only to repeat it"
        raise IdempotencyKeyReused(
            f"The Idempotency-Key {detail}.", faults=[Fault("/header/Idempotency-Key", detail)]
        )  # fmt: skip
    return job_row(row[:-1])


def _columns(job_id: UUID, new: NewJob) -> dict[str, Any]:
    asked = new.asked
    return {
        "job_id": job_id,
        "client_id": new.client_id,
        "model": asked.model.id,
        "region": asked.region,
        "region_asked": new.region_asked,
        "parameters": asked.parameters,
        "labels": new.metadata,
        "webhook_url": new.webhook_url,
        "idempotency_key": new.idempotency_key,
        "request_sha256": new.request_sha256 if new.idempotency_key else None,
        "lane": lane(asked.parameters),
        "files_total": len(new.urls),
        "urls": list(new.urls),
    }


def _fresh(job_id: UUID, created_at: datetime, new: NewJob) -> JobRow:
    files = [FileRow(index, url, FileStatus.QUEUED) for index, url in enumerate(new.urls[:FILES_SHOWN])]
    asked, total = new.asked, len(new.urls)
    return JobRow(
        job_id, JobStatus.QUEUED, asked.model.id, asked.region, asked.parameters, new.metadata, created_at, None, None,
        total, total, 0, 0, 0, 0, 0, Decimal(0), 1, files,
    )  # fmt: skip


_INSERT = text(
    """
    WITH job AS (
        INSERT INTO jobs (id, client_id, model, region, region_asked, parameters, metadata, webhook_url,
                          idempotency_key, request_sha256, files_total, files_queued)
        VALUES (:job_id, :client_id, :model, :region, :region_asked, :parameters, :labels, :webhook_url,
                :idempotency_key, :request_sha256, :files_total, :files_total)
        ON CONFLICT (client_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
        RETURNING id, client_id, region, model, created_at
    ), files AS (
        INSERT INTO files (job_id, index, client_id, region, model, lane, url)
        SELECT job.id, given.number - 1, job.client_id, job.region, job.model, :lane, given.url
        FROM job, unnest(CAST(:urls AS text[])) WITH ORDINALITY AS given (url, number)
    )
    SELECT created_at FROM job
    """
).bindparams(
    bindparam("parameters", type_=JSONB), bindparam("labels", type_=JSONB), bindparam("urls", type_=ARRAY(Text))
)

_FIND_BY_KEY = select(*JOB_COLUMNS, Job.request_sha256).where(
    Job.client_id == bindparam("client_id"), Job.idempotency_key == bindparam("key")
)
