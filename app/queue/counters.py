"""Moving a job's counters with its files: one place decides what a job's status becomes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.queue.job_events import enqueue_job_events
from app.queue.lifecycle import FileCounts, job_status
from app.queue.models import Job


@dataclass(slots=True)
class JobChange:
    """What a transaction changes of one job. `counts` holds differences: one file fewer here, one more there."""

    counts: FileCounts = field(default_factory=FileCounts)
    audio_duration_ms: int = 0
    cost: Decimal = Decimal(0)

    def move(self, *, since: str, to: str, count: int = 1) -> None:
        """Count files that went from one status to another (`queued`, `running`, `succeeded`, …)."""
        if since != to:
            self.counts += FileCounts(**{since: -count, to: count})


async def apply_changes(session: AsyncSession, changes: Mapping[UUID, JobChange]) -> None:
    """Two statements for any number of jobs, two more when webhooks are to be told that some are final now.

    Jobs are locked in the order of their ids: no deadlocks.
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
        )
        .where(Job.id.in_(changes))
        .order_by(Job.id)
        # NO KEY: a new transcript holds a share of its job's key, and two of one job must not wait for each other.
        .with_for_update(key_share=True)
    )
    locked = found.all()
    rows = [_changed(row.id, FileCounts(*row[1:6]), changes[row.id]) for row in locked]
    if rows:
        await session.execute(_UPDATE, rows)
    finished = {row["job_id"] for row in rows if row["is_final"]}
    await enqueue_job_events(
        session, [row.id for row in locked if row.id in finished and row.has_webhook and not row.was_final]
    )


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
        finished_at=text("CASE WHEN :is_final THEN now() END"),
        version=Job.__table__.c.version + 1,
    )
)
