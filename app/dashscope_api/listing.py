"""The query of `GET /tasks`, and a job as an item of that list. Source: protocol, section 5.1."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from app.clients.service import CurrentClient
from app.dashscope_api.errors import Refused
from app.dashscope_api.route import RequestedRegion
from app.dashscope_api.tasks import STATUSES
from app.dashscope_api.times import epoch_ms, parse_window_time
from app.queue.job_json import JobSummary
from app.queue.lifecycle import JobStatus
from app.queue.queries import JobFilters

# DashScope shows the tasks of one day: the last one if the query names none.
_WINDOW = timedelta(hours=24)
_MAX_PAGE = 1_000_000
MAX_PAGE_SIZE = 100
_REGIONS = {"beijing": "cn-beijing", "singapore": "ap-southeast-1"}


@dataclass(frozen=True, slots=True)
class ListQuery:
    """`filters` is None if no task can match."""

    filters: JobFilters | None
    page_no: int
    page_size: int

    @property
    def offset(self) -> int:
        return (self.page_no - 1) * self.page_size


def read_query(query: Mapping[str, str], region: RequestedRegion) -> ListQuery:
    """Unknown parameters are ignored. Raises Refused."""
    start, end = _window(query)
    statuses = _statuses(query.get("status"))
    wanted, model = query.get("region") or None, query.get("model_name") or None
    regions = [name for name, shown in _REGIONS.items() if wanted in {None, name, shown} and region in {"auto", name}]
    job_ids = _job_ids(query.get("task_id"))
    # PostgreSQL refuses text with NUL, so no job has such a model.
    fits = None not in (job_ids, statuses) and len(regions) > 0 and "\0" not in (model or "")
    filters = JobFilters(
        job_id=job_ids[0] if job_ids else None,
        statuses=statuses or (),
        model=model,
        region=regions[0] if len(regions) == 1 else None,
        created_after=start,
        created_before=end,
    )
    return ListQuery(
        filters if fits else None,
        _number(query, "page_no", default=1, maximum=_MAX_PAGE),
        _number(query, "page_size", default=10, maximum=MAX_PAGE_SIZE),
    )


def page(jobs: Sequence[JobSummary], total: int, query: ListQuery, client: CurrentClient) -> dict[str, Any]:
    """DashScope's key is `data`; the SDK's newer client reads `tasks`."""
    items = [_item(job, client.id) for job in jobs]
    return {
        "total": total,
        "total_page": -(-total // query.page_size),
        "page_no": query.page_no,
        "page_size": query.page_size,
        "data": items,
        "tasks": items,
    }


def _item(job: JobSummary, client_id: UUID) -> dict[str, Any]:
    item = {
        "api_key_id": str(client_id),
        "caller_parent_id": str(client_id),
        "caller_uid": str(client_id),
        "gmt_create": epoch_ms(job.created_at),
        "start_time": epoch_ms(job.created_at),
        "model_name": job.model,
        "region": _REGIONS[job.region],
        "request_id": str(job.id),
        "status": STATUSES[job.status],
        "task_id": str(job.id),
        "user_api_unique_key": f"apikey:v1:audio:asr:transcription:{job.model}",
    }
    return item | ({"end_time": epoch_ms(job.finished_at)} if job.finished_at else {})


def _window(query: Mapping[str, str]) -> tuple[datetime | None, datetime | None]:
    start, end = _instant(query, "start_time"), _instant(query, "end_time")
    if start is None:
        start = (end or datetime.now(UTC)) - _WINDOW
    return start, end


def _instant(query: Mapping[str, str], name: str) -> datetime | None:
    text = query.get(name)
    if not text:
        return None
    try:
        return parse_window_time(text)
    except ValueError:
        raise Refused(400, "InvalidParameter", f"{name} must be YYYYMMDDhhmmss") from None


def _job_ids(task_id: str | None) -> Sequence[UUID] | None:
    """None if no job has the id."""
    if not task_id:
        return ()
    try:
        return (UUID(task_id),)
    except ValueError:
        return None


def _statuses(status: str | None) -> Sequence[JobStatus] | None:
    """None if no job has the status."""
    if not status:
        return ()
    return [stored for stored, shown in STATUSES.items() if shown == status.upper()] or None


def _number(query: Mapping[str, str], name: str, *, default: int, maximum: int) -> int:
    text = query.get(name) or str(default)
    if not (text.isascii() and text.isdecimal() and len(text) <= 7 and 1 <= int(text) <= maximum):
        raise Refused(400, "InvalidParameter", f"{name} must be an integer from 1 to {maximum:,}")
    return int(text)
