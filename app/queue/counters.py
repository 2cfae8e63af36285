"""Changes a job's counters, status and version together with its files, and writes the webhook events of final jobs."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, bindparam, func, literal_column, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.clients.models import Client
from app.queue.job_json import SUMMARY_COLUMNS, read_summary
from app.queue.lifecycle import FileCounts, job_status, visible_status
from app.queue.models import Job
from app.queue.observation import job_finished
from app.webhooks.messages import EventType, event_body
from app.webhooks.outbox import Event, enqueue


@dataclass(slots=True)
class JobChange:
    """The change that a transaction makes to one job. `counts` holds differences."""

    counts: FileCounts = field(default_factory=FileCounts)
    audio_duration_ms: int = 0
    cost: Decimal = Decimal(0)

    def move(self, *, since: str, to: str, count: int = 1) -> None:
        """Count files that went from one status of the table to another."""
        before, after = visible_status(since), visible_status(to)
        if before != after:
            self.counts += FileCounts(**{before.value: -count, after.value: count})


async def apply_changes(session: AsyncSession, changes: Mapping[UUID, JobChange]) -> None:
    """Two statements for any number of jobs, and two more if jobs with a `webhook_url` become final.

    Jobs are locked in the order of their ids, so that transactions do not deadlock.
    """
    if not changes:
        return
    found = await session.execute(
        select(
            Job.id,
            Job.files_queued,
            Job.files_running,
            Job.files_succeeded,
            Job.files_failed,
            Job.files_canceled,
            Job.finished_at.isnot(None).label("was_final"),
            Job.webhook_url.isnot(None).label("has_webhook"),
            func.extract("epoch", func.now() - Job.created_at).label("age_s"),
            select(Client.name).where(Client.id == Job.client_id).scalar_subquery().label("client"),
        )
        .where(Job.id.in_(changes))
        .order_by(Job.id)
        # NO KEY: inserting a transcript takes a key share lock on its job. Two transactions that insert transcripts
        # of one job must not wait for each other.
        .with_for_update(key_share=True)
    )
    locked = found.all()
    rows = [_changed(row.id, FileCounts(*row[1:6]), changes[row.id]) for row in locked]
    if rows:
        await session.execute(_UPDATE, rows)
    became_final = [row for row, new in zip(locked, rows, strict=True) if new["is_final"] and not row.was_final]
    await enqueue_job_events(session, [row.id for row in became_final if row.has_webhook])
    for row in became_final:
        counts = FileCounts(*row[1:6]) + changes[row.id].counts
        job_finished(
            session,
            job_id=row.id,
            client=row.client,
            status=job_status(counts).value,
            counts=counts,
            seconds=float(row.age_s),
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


def _changed(job_id: UUID, counts: FileCounts, change: JobChange) -> dict[str, Any]:
    after = counts + change.counts
    status = job_status(after)
    return {
        "job_id": job_id,
        "new_status": status.value,
        "queued": after.queued,
        "running": after.running,
        "succeeded": after.succeeded,
        "failed": after.failed,
        "canceled": after.canceled,
        "more_audio": change.audio_duration_ms,
        "more_cost": change.cost,
        "is_final": status.final,
        "has_started": after.queued + after.canceled < after.total,
    }


_SUMMARY: list[ColumnElement[Any]] = [literal_column(sql).label(name) for name, sql in SUMMARY_COLUMNS.items()]
_FINAL = (
    select(Job.client_id, Job.webhook_url, *_SUMMARY)
    .where(Job.id.in_(bindparam("job_ids", expanding=True)))
    .order_by(Job.id)
)

_UPDATE = (
    update(Job.__table__)  # type: ignore[arg-type]
    .where(Job.__table__.c.id == bindparam("job_id"))
    .values(
        status=bindparam("new_status"),
        files_queued=bindparam("queued"),
        files_running=bindparam("running"),
        files_succeeded=bindparam("succeeded"),
        files_failed=bindparam("failed"),
        files_canceled=bindparam("canceled"),
        audio_duration_ms=Job.__table__.c.audio_duration_ms + bindparam("more_audio"),
        cost=Job.__table__.c.cost + bindparam("more_cost"),
        started_at=text("CASE WHEN :has_started THEN coalesce(jobs.started_at, now()) ELSE jobs.started_at END"),
        finished_at=text("CASE WHEN :is_final THEN coalesce(jobs.finished_at, now()) END"),
        version=Job.__table__.c.version + 1,
    )
)
