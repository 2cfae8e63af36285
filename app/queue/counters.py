"""Changes a job's counters, status and version together with its files, and writes the webhook events of final jobs."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, bindparam, literal_column, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.queue.job_json import SUMMARY_COLUMNS, read_summary
from app.queue.lifecycle import JOB_STATUS, StatusCounts, visible_status
from app.queue.models import Job
from app.queue.observation import job_finished
from app.webhooks.messages import EventType, event_body
from app.webhooks.outbox import Event, enqueue


@dataclass(slots=True)
class JobChange:
    """The change that a transaction makes to one job. `counts` holds differences."""

    counts: StatusCounts = field(default_factory=StatusCounts)
    audio_duration_ms: int = 0
    cost: Decimal = Decimal(0)

    def move(self, *, since: str, to: str, count: int = 1) -> None:
        """Count files that went from one status of the table to another."""
        before, after = visible_status(since), visible_status(to)
        if before != after:
            self.counts += StatusCounts(**{before.value: -count, after.value: count})


async def apply_changes(session: AsyncSession, changes: Mapping[UUID, JobChange]) -> None:
    """One statement for any number of jobs, and two more if jobs with a `webhook_url` become final.

    Jobs are locked in the order of their ids, so that transactions do not deadlock.
    """
    if not changes:
        return
    found = (await session.execute(_APPLY, _columns(changes))).all()
    became_final = [row for row in found if row.is_final and not row.was_final]
    await enqueue_job_events(session, [row.id for row in became_final if row.has_webhook])
    for row in became_final:
        job_finished(
            session,
            job_id=row.id,
            client=row.client,
            status=row.status,
            counts=StatusCounts(row.queued, row.running, row.succeeded, row.failed, row.canceled),
            seconds=row.age_s,
        )


async def enqueue_job_events(session: AsyncSession, job_ids: Collection[UUID]) -> None:
    """Write the events of jobs that are final now and have a `webhook_url`: two statements for any number of jobs."""
    if not job_ids:
        return
    events = []
    for row in (await session.execute(_FINAL, {"job_ids": list(job_ids)})).mappings():
        # Without the files: there may be 10,000, and `GET /v1/jobs/{id}/files` lists them.
        job = read_summary(row)
        event_type = EventType(f"job.{job.status}")
        body = event_body(event_type, job.finished_at or job.created_at, job)
        events.append(Event(row["client_id"], job.id, event_type, row["webhook_url"], body))
    await enqueue(session, events)


def _columns(changes: Mapping[UUID, JobChange]) -> dict[str, list[Any]]:
    counts = [change.counts for change in changes.values()]
    return {
        "job_ids": list(changes),
        "queued": [each.queued for each in counts],
        "running": [each.running for each in counts],
        "succeeded": [each.succeeded for each in counts],
        "failed": [each.failed for each in counts],
        "canceled": [each.canceled for each in counts],
        "audio_ms": [change.audio_duration_ms for change in changes.values()],
        "costs": [change.cost for change in changes.values()],
    }


_SUMMARY: list[ColumnElement[Any]] = [literal_column(sql).label(name) for name, sql in SUMMARY_COLUMNS.items()]
_FINAL = (
    select(Job.client_id, Job.webhook_url, *_SUMMARY)
    .where(Job.id.in_(bindparam("job_ids", expanding=True)))
    .order_by(Job.id)
)

# The locked rows are the newest ones, also if the statement had to wait for another transaction.
# NO KEY: inserting a transcript takes a key share lock on its job. Two transactions that insert transcripts of one job
# must not wait for each other.
_APPLY = text(f"""
    WITH change AS (
        SELECT * FROM unnest(
            CAST(:job_ids AS uuid[]), CAST(:queued AS int[]), CAST(:running AS int[]), CAST(:succeeded AS int[]),
            CAST(:failed AS int[]), CAST(:canceled AS int[]), CAST(:audio_ms AS bigint[]), CAST(:costs AS numeric[])
        ) AS change (id, queued, running, succeeded, failed, canceled, audio_ms, cost)
    ), locked AS (
        SELECT * FROM jobs WHERE id = ANY(:job_ids) ORDER BY id FOR NO KEY UPDATE
    ), counted AS (
        SELECT id, files_queued + queued AS queued, files_running + running AS running,
            files_succeeded + succeeded AS succeeded, files_failed + failed AS failed,
            files_canceled + canceled AS canceled, audio_ms, change.cost, finished_at IS NOT NULL AS was_final
        FROM locked JOIN change USING (id)
    ), following AS (
        SELECT *, {JOB_STATUS} AS status, queued = 0 AND running = 0 AS is_final,
            running > 0 OR succeeded > 0 OR failed > 0 AS has_started
        FROM counted
    )
    UPDATE jobs SET status = following.status, files_queued = queued, files_running = running,
        files_succeeded = succeeded, files_failed = failed, files_canceled = canceled,
        audio_duration_ms = jobs.audio_duration_ms + audio_ms, cost = jobs.cost + following.cost,
        started_at = CASE WHEN has_started THEN coalesce(started_at, now()) ELSE started_at END,
        finished_at = CASE WHEN is_final THEN coalesce(finished_at, now()) END,
        version = version + 1
    FROM following WHERE jobs.id = following.id
    RETURNING jobs.id, following.status, queued, running, succeeded, failed, canceled, was_final, is_final,
        webhook_url IS NOT NULL AS has_webhook, extract(epoch FROM now() - created_at)::float8 AS age_s,
        (SELECT name FROM clients WHERE clients.id = client_id) AS client
""")  # noqa: S608 - constants

# Counts files that upstream accepted, as a part of a statement in which `started` has the `job_id` of each of them.
COUNT_STARTED = """
    start AS (
        SELECT job_id, count(*)::int AS files FROM started GROUP BY job_id
    ), starting AS (
        SELECT id FROM jobs WHERE id IN (SELECT job_id FROM start) ORDER BY id FOR NO KEY UPDATE
    ), counted AS (
        UPDATE jobs SET status = 'running', files_queued = files_queued - start.files,
            files_running = files_running + start.files, started_at = coalesce(started_at, now()),
            version = version + 1
        FROM start JOIN starting ON starting.id = start.job_id WHERE jobs.id = start.job_id
    )
"""
