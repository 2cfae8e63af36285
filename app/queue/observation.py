"""Log lines and counters of the life of jobs, tasks and files.

The functions with a session act after the commit of its transaction, so that no line and no counter tells of a change
that was rolled back. Lines have ids, codes and counts; URLs and texts of clients are not logged.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import structlog
from prometheus_client import Counter

from app.dashscope.failures import Failure
from app.db import Session, after_commit
from app.queue.lifecycle import StatusCounts

# Files of one job and task that fail for the same reason get a line each, up to this number. One line has the rest.
MAX_FILE_LINES = 20

FILES = Counter("asr_gateway_files_finished_total", "Files that reached a final state", ["model", "region", "status"])
FAILED_FILES = Counter(
    "asr_gateway_files_failed_total", "Files that failed, by error code", ["model", "region", "code"]
)
AUDIO_SECONDS = Counter(
    "asr_gateway_audio_seconds_total", "Length of the audio of files that succeeded", ["model", "region"]
)
COST = Counter(
    "asr_gateway_cost_total",
    "Price of the files that succeeded, and of those that were canceled too late",
    ["model", "region", "currency"],
)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class FileChange:
    """A new status of a file. `failure` is the reason of `failed`, or of `queued` after a task."""

    job_id: UUID
    index: int
    model: str
    region: str
    status: str
    failure: Failure | None = None
    audio_duration_ms: int = 0
    cost: Decimal = Decimal(0)
    currency: str = ""


def job_created(*, job_id: UUID, client: str, files: int, model: str, region: str, request_id: str | None) -> None:
    """Call it when the job is durable. `request_id` is that of the request, which may share the batch with others."""
    log.info(
        "job created",
        job=str(job_id),
        client=client,
        files=files,
        model=model,
        region=region,
        request_id=request_id,
    )


def job_retried(session: Session, *, job_id: UUID, files: int) -> None:
    """`files`: the files that are queued again."""
    after_commit(session, lambda: log.info("job retried", job=str(job_id), files=files))


def job_finished(
    session: Session, *, job_id: UUID, client: str, status: str, counts: StatusCounts, seconds: float
) -> None:
    """`seconds`: since the job was created."""
    fields = {
        "job": str(job_id),
        "client": client,
        "status": status,
        "files": counts.total,
        "succeeded": counts.succeeded,
        "failed": counts.failed,
        "canceled": counts.canceled,
        "seconds": round(seconds, 3),
    }
    after_commit(session, lambda: log.info("job finished", **fields))


def task_submitted(session: Session, *, task_id: UUID, job_ids: Sequence[UUID], files: int, **upstream: Any) -> None:
    """`upstream`: account, region, model, upstream_task_id and upstream_request_id."""
    jobs = sorted({str(job_id) for job_id in job_ids})
    after_commit(session, lambda: log.info("task submitted", task=str(task_id), files=files, jobs=jobs, **upstream))


def files_changed(session: Session, task_id: UUID | None, changes: Sequence[FileChange]) -> None:
    """Count files that are final now, and log those that failed or are queued again."""
    after_commit(session, lambda: _record(task_id, changes))


def files_canceled(session: Session, *, model: str, region: str, files: int) -> None:
    after_commit(session, lambda: FILES.labels(model, region, "canceled").inc(files))


def canceled_file_billed(session: Session, model: str, region: str, currency: str, cost: Decimal) -> None:
    """Upstream has transcribed a file that was canceled after its submit."""
    after_commit(session, lambda: COST.labels(model, region, currency).inc(float(cost)))


def files_reused(session: Session, *, model: str, region: str, files: int) -> None:
    """Reused files count as succeeded. They add nothing to the audio and the costs, which measure recognition."""
    after_commit(session, lambda: FILES.labels(model, region, "succeeded").inc(files))


def _record(task_id: UUID | None, changes: Sequence[FileChange]) -> None:
    for change in changes:
        if change.status != "queued":
            FILES.labels(change.model, change.region, change.status).inc()
        if change.status == "succeeded":
            AUDIO_SECONDS.labels(change.model, change.region).inc(change.audio_duration_ms / 1000)
            COST.labels(change.model, change.region, change.currency).inc(float(change.cost))
        elif change.status == "failed" and change.failure:
            FAILED_FILES.labels(change.model, change.region, change.failure.code).inc()
    _log_failures(task_id, changes)


def _log_failures(task_id: UUID | None, changes: Sequence[FileChange]) -> None:
    alike: defaultdict[tuple[UUID, str, Failure, str | None], list[FileChange]] = defaultdict(list)
    for change in changes:
        if change.failure:
            key = (change.job_id, change.status, change.failure, change.failure.request_id)
            alike[key].append(change)
    for (job_id, status, failure, request_id), files in alike.items():
        fields = {
            "job": str(job_id),
            "task": str(task_id) if task_id else None,
            "model": files[0].model,
            "region": files[0].region,
            "code": failure.code,
            "upstream_code": failure.upstream_code,
            "upstream_request_id": request_id,
        }
        _log_files(status, [file.index for file in files], fields)


def _log_files(status: str, indexes: Sequence[int], fields: dict[str, str | None]) -> None:
    rest = indexes[MAX_FILE_LINES:]
    if status == "failed":
        for index in indexes[:MAX_FILE_LINES]:
            log.warning("file failed", index=index, **fields)
        if rest:
            log.warning("more files failed", files=len(rest), indexes=_ranges(rest), **fields)
    else:
        for index in indexes[:MAX_FILE_LINES]:
            log.info("file queued again", index=index, **fields)
        if rest:
            log.info("more files queued again", files=len(rest), indexes=_ranges(rest), **fields)


def _ranges(indexes: Sequence[int]) -> str:
    """Ranges such as `20-99,120`."""
    ranges: list[list[int]] = []
    for index in sorted(indexes):
        if ranges and index == ranges[-1][1] + 1:
            ranges[-1][1] = index
        else:
            ranges.append([index, index])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in ranges)
