"""Reads the task list in the ways of the list watcher and of the reconciler, after the tasks have ended."""

import asyncio
import time
from datetime import UTC, datetime, timedelta, timezone

from app.certify.evidence import Unseen
from app.certify.probes.session import MODEL, ProbeSession
from app.dashscope import wire
from app.dashscope.clock import BEIJING, CLOCK_SKEW
from app.poller.context import LIST_PAGE_SIZE


async def probe_list(session: ProbeSession) -> None:
    calls, upstream = session.evidence.calls, session.upstream
    with session.probing("list_full_page"):
        calls["list_full_page"] = await upstream.list_tasks(page_no=1, page_size=LIST_PAGE_SIZE)
    with session.probing("list_succeeded"):
        calls["list_succeeded"] = await upstream.list_tasks(status="SUCCEEDED", page_no=1, page_size=50)
    with session.probing("list_other_model"):
        other = next(model for model in session.models if model != MODEL)
        calls["list_other_model"] = await upstream.list_tasks(model_name=other, page_no=1, page_size=50)
    with session.probing("list_window_beijing"):
        calls["list_window_beijing"] = await upstream.list_tasks(**_window(BEIJING), page_no=1, page_size=50)
    with session.probing("list_window_utc"):
        calls["list_window_utc"] = await upstream.list_tasks(**_window(UTC), page_no=1, page_size=50)
    with session.probing("end_listed"):
        await _wait_until_end_is_listed(session)


def _window(zone: timezone) -> dict[str, str]:
    """Parameters of a window that contains the run, if the list means this zone."""
    now = datetime.now(zone)
    return {
        "start_time": f"{now - timedelta(minutes=12) - CLOCK_SKEW:%Y%m%d%H%M%S}",
        "end_time": f"{now + CLOCK_SKEW:%Y%m%d%H%M%S}",
    }


async def _wait_until_end_is_listed(session: ProbeSession) -> None:
    """Read the list until it shows the end of the main task. `note_end` has read it once."""
    if not session.evidence.task("main").has_ended:
        raise Unseen("the task has not ended")
    until = time.monotonic() + session.upstream.times.lag_s
    while session.evidence.lag_s("end_listed") == float("inf") and time.monotonic() < until:
        await asyncio.sleep(session.upstream.times.poll_s)
        await note_end(session)


async def note_end(session: ProbeSession) -> None:
    """Read the list once, after a query showed that the main task has ended."""
    task = session.evidence.task("main")
    page = await session.upstream.list_tasks(model_name=MODEL, page_no=1, page_size=50)
    session.evidence.calls["list_after_end"] = page
    rows = [row for row in wire.parse_page(page.body).tasks if row.task_id == task.task_id]
    is_shown = bool(rows) and rows[0].status.ended
    session.evidence.lags_s["end_listed"] = page.at - task.queries[-1].at if is_shown else float("inf")
