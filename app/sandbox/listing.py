"""`GET …/tasks` lists the account's tasks of a window of at most 24 hours, newest first."""

import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from app.sandbox import errors
from app.sandbox.errors import Refused
from app.sandbox.middleware import Call
from app.sandbox.responses import JSONResponse, new_request_id
from app.sandbox.state import SandboxState
from app.sandbox.tasks import TERMINAL, Task, TaskStatus
from app.sandbox.times import epoch_ms, parse_window_time

_DAY_S = 24 * 3600.0
_MAX_PAGE_SIZE = 100
# Between Beijing time and the zone of a quirk.
_ZONE_SHIFTS_S = {"list_windows_in_utc": 8 * 3600.0, "list_windows_in_new_york": 13 * 3600.0}


async def list_tasks(call: Call) -> Response:
    if call.state.faults.list_refused:
        call.state.injected["list_refused"] += 1
        raise Refused(errors.ACCESS_DENIED)
    query = call.request.query_params
    state = call.state
    page_no = _integer(query, "page_no", default=1)
    page_size = _integer(
        query, "page_size", default=10, maximum=50 if state.quirk("list_small_pages") else _MAX_PAGE_SIZE
    )
    tasks = _matching(call, query)
    page = tasks[(page_no - 1) * page_size : page_no * page_size]
    return JSONResponse(
        {
            "request_id": new_request_id(),
            "total": len(tasks),
            "total_page": -(-len(tasks) // page_size),
            "page_no": page_no,
            "page_size": page_size,
            "data": [_item(state, task) for task in page],
        }
    )


def _matching(call: Call, query: Mapping[str, str]) -> list[Task]:
    tasks = _in_window(call, query)
    state = call.state
    if state.quirk("list_oldest_first"):
        tasks.reverse()
    if state.quirk("list_running_only"):
        tasks = [task for task in tasks if state.status_of(task) not in TERMINAL]
    if state.quirk("list_filters_ignored"):
        return tasks
    if task_id := query.get("task_id"):
        tasks = [task for task in tasks if task.id == task_id]
    if model_name := query.get("model_name"):
        tasks = [task for task in tasks if task.model.id == model_name]
    if status := query.get("status"):
        tasks = [task for task in tasks if _listed_status(state, task) == status]
    return tasks


def _in_window(call: Call, query: Mapping[str, str]) -> list[Task]:
    """The tasks that were submitted in the window, newest first. Both ends are inclusive."""
    state = call.state
    start, end = _window(query, state.now())
    if "start_time" in query:
        shift_s = next((shift_s for name, shift_s in _ZONE_SHIFTS_S.items() if name in state.faults.quirks), 0.0)
        start, end = start + shift_s, end + shift_s
    start = max(start, state.now() - state.config.task_ttl_s)
    end = min(end, state.now() - state.faults.list_lag_s)
    tasks = state.tasks_of_account.get(call.caller.account_id, [])
    first = bisect_left(tasks, start, key=_submitted_at)
    last = bisect_right(tasks, end, key=_submitted_at)
    return tasks[first:last][::-1]


def _window(query: Mapping[str, str], now: float) -> tuple[float, float]:
    start, end = _instant(query, "start_time"), _instant(query, "end_time")
    if start is None:
        start = (now if end is None else end) - _DAY_S
    if end is None:
        end = min(now, start + _DAY_S)
    if not 0 <= end - start <= _DAY_S:
        raise Refused(errors.INVALID_PARAMETER.with_message("start_time and end_time must be at most 24 hours apart"))
    return start, end


def _submitted_at(task: Task) -> float:
    return task.submitted_at


def _instant(query: Mapping[str, str], name: str) -> float | None:
    text = query.get(name)
    if text is None:
        return None
    try:
        return parse_window_time(text)
    except ValueError:
        raise Refused(errors.INVALID_PARAMETER.with_message(f"{name} must be YYYYMMDDhhmmss")) from None


def _integer(query: Mapping[str, str], name: str, *, default: int, maximum: int = 1_000_000) -> int:
    text = query.get(name, str(default))
    if not text.isdecimal() or not 1 <= int(text) <= maximum:
        raise Refused(errors.INVALID_PARAMETER.with_message(f"{name} must be an integer from 1 to {maximum}"))
    return int(text)


def _listed_status(state: SandboxState, task: Task) -> TaskStatus:
    return TaskStatus.RUNNING if state.quirk("stale_list") else state.status_of(task)


def _item(state: SandboxState, task: Task) -> dict[str, Any]:
    status = _listed_status(state, task)
    unit = 1000 if state.quirk("list_times_in_seconds") else 1
    uid = str(zlib.crc32(task.caller.account_id.encode()))
    item: dict[str, Any] = {
        "api_key_id": str(task.caller.key_id),
        "caller_parent_id": uid,
        "caller_uid": uid,
        "gmt_create": epoch_ms(task.submitted_at) // unit,
        "start_time": epoch_ms(task.submitted_at) // unit,
        "model_name": task.model.id,
        "region": "cn-beijing" if task.caller.region == "beijing" else "ap-southeast-1",
        "request_id": task.request_id,
        "status": status,
        "task_id": task.id,
        "user_api_unique_key": f"apikey:v1:audio:asr:transcription:{task.model.id}",
    }
    if status in TERMINAL:
        item["end_time"] = epoch_ms(task.ends_at if task.canceled_at is None else task.canceled_at)
    return item
