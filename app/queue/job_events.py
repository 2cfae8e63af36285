"""Telling webhooks that jobs are final: the event is written down in the transaction that makes them so."""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.queue.job_json import job_summary
from app.queue.models import Job
from app.queue.queries import JOB_COLUMNS, job_row
from app.webhooks.messages import EventType, event_body
from app.webhooks.outbox import Event, enqueue

_SHOWN = JOB_COLUMNS[:-1]  # without the files: there may be 10,000, and `GET /v1/jobs/{id}/files` has them
_NO_FILES = "[]"
_FINAL = (
    select(Job.client_id, Job.webhook_url, *_SHOWN)
    .where(Job.id.in_(bindparam("job_ids", expanding=True)))
    .order_by(Job.id)
)


async def enqueue_job_events(session: AsyncSession, job_ids: Collection[UUID]) -> None:
    """Two statements for any number of jobs, all final now and with a `webhook_url`; none for none."""
    if not job_ids:
        return
    events = []
    for client_id, url, *shown in await session.execute(_FINAL, {"job_ids": list(job_ids)}):
        job = job_row([*shown, _NO_FILES])
        event_type = EventType(f"job.{job.status}")
        # A final job has the instant of its end.
        body = event_body(event_type, job.finished_at or job.created_at, job_summary(job))
        events.append(Event(client_id, job.id, event_type, url, body))
    await enqueue(session, events)
