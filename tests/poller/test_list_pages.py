"""Pages of the task list: all are read, so that no task of a lost submit is overlooked, but no endless list."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.db import transaction
from app.poller import list_matching
from app.poller.context import PollerContext
from app.poller.list_reading import REPEATED_PAGES
from app.poller.list_watcher import Watcher
from app.poller.pace import Pace
from app.poller.poller import poller_context
from app.poller.reconciler import MAX_WIDE_PAGES, Reconciler
from app.queue.submissions import mark_unsure
from app.queue.submit_queues import SubmitQueue
from app.settings import load_settings
from tests.live_server import live_server
from tests.poller.conftest import QueueClient
from tests.queue.claims import claim_task

URL = "https://example.com/a.wav"
LOST = SubmitQueue(account="beijing/default", region="beijing", model="fun-asr", max_files=1, submits_per_s=10)


class PagedUpstream:
    """Lists running tasks in pages of two. The last and oldest task has ended, and has the file of the lost submit."""

    def __init__(self, totals: dict[str, Any]) -> None:
        self.totals = totals
        self.status = "SUCCEEDED"
        self.tasks = ["t1", "t2", "t3", "t4", "ours"]
        self.app = Starlette(routes=[Route("/api/v1/tasks", self._list), Route("/api/v1/tasks/{task_id}", self.query)])

    async def _list(self, request: Request) -> Response:
        since = 2 * (int(request.query_params["page_no"]) - 1)
        data = [_row(task_id) for task_id in self.tasks[since : since + 2]]
        return JSONResponse({"data": data, **self.totals})

    async def query(self, request: Request) -> Response:
        metrics = {"TOTAL": 1 if request.path_params["task_id"] == "ours" else 2}
        results = [{"file_url": URL, "code": "X", "subtask_status": "FAILED"}]
        output = {"task_status": self.status, "task_metrics": metrics, "results": results}
        return Response(orjson.dumps({"output": output}), media_type="application/json")


@pytest.mark.parametrize(
    "totals", [{}, {"page_size": 2}, {"total": None, "total_page": None}, {"total": 5, "page_size": 2}]
)
async def test_task_on_the_last_page_is_adopted(
    queue: QueueClient, engine: AsyncEngine, totals: dict[str, Any]
) -> None:
    await _reconcile(queue, engine, PagedUpstream(totals).app)
    (task,) = await queue.rows("SELECT state, upstream_task_id FROM tasks")
    assert tuple(task) == ("running", "ours")


@pytest.mark.parametrize(
    "times",
    [
        {"start_time": 4_000_000_000_000},
        {"gmt_create": None, "start_time": 4_000_000_000_000},
        {"gmt_create": "2026-11-29 12:00:00"},
        {"gmt_create": 1_790_000_000},
        {"gmt_create": 1_790_000_000_000_000},
        {"gmt_create": [], "start_time": {}},
    ],
)
async def test_task_without_the_time_of_its_creation_is_compared_by_its_files(
    queue: QueueClient, engine: AsyncEngine, times: dict[str, Any]
) -> None:
    await _reconcile(queue, engine, RepeatingUpstream({"total": 1, "total_page": 1}, "ours", **times).app)
    (task,) = await queue.rows("SELECT state, upstream_task_id FROM tasks")
    assert tuple(task) == ("running", "ours")


class EndlessUpstream:
    """Lists another task on each page, however many are read."""

    def __init__(self, totals: dict[str, Any]) -> None:
        self.totals = totals
        self.pages = 0
        self.app = Starlette(routes=[Route("/api/v1/tasks", self._list)])

    async def _list(self, _: Request) -> Response:
        self.pages += 1
        return JSONResponse({"data": [_row(f"t{self.pages}")], **self.totals})


@pytest.mark.parametrize("totals", [{}, {"total_page": 10**9}, {"total": 10**9}])
async def test_files_wait_while_the_list_has_no_end(
    queue: QueueClient, engine: AsyncEngine, totals: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_matching, "MAX_PAGES_PER_S", 0.01)
    upstream = EndlessUpstream(totals)
    await _reconcile(queue, engine, upstream.app)
    (task,) = await queue.rows("SELECT state, last_error, lease_token FROM tasks")
    assert (task.state, task.lease_token) == ("unsure", None)
    assert "more pages" in task.last_error
    assert upstream.pages <= MAX_WIDE_PAGES + 4


class ForgetfulUpstream:
    """Lists no task in some readings of the list. The others show the task of the lost submit."""

    def __init__(self, *shows_ours: bool, status: str = "SUCCEEDED") -> None:
        self.paged = PagedUpstream({})
        self.paged.status = status
        self._readings = iter(shows_ours)
        self.app = Starlette(
            routes=[Route("/api/v1/tasks", self._list), Route("/api/v1/tasks/{task_id}", self.paged.query)]
        )

    async def _list(self, _: Request) -> Response:
        data = [_row("ours")] if next(self._readings) else []
        return JSONResponse({"data": data, "total": len(data), "total_page": 1, "page_size": 100})


async def test_files_wait_again_after_two_readings_of_the_list_without_their_task(
    queue: QueueClient, engine: AsyncEngine
) -> None:
    await _lose_a_submit(queue)
    async with _context(engine, ForgetfulUpstream(False, False).app) as context:
        await Reconciler(context, context.upstreams["beijing/default"]).run()
        (task,) = await queue.rows("SELECT state, next_poll_at - absent_since AS wait FROM tasks")
        assert (task.state, task.wait) == ("unsure", timedelta(seconds=Pace().min_absent_s))
        await _pass_time(queue)
        # Another process: the first reading is remembered in the table.
        await Reconciler(context, context.upstreams["beijing/default"]).run()
    assert await queue.rows("SELECT 1 FROM files WHERE status = 'queued'")


async def test_task_that_one_reading_of_the_list_leaves_out_is_adopted(queue: QueueClient, engine: AsyncEngine) -> None:
    await _lose_a_submit(queue)
    async with _context(engine, ForgetfulUpstream(False, True).app) as context:
        reconciler = Reconciler(context, context.upstreams["beijing/default"])
        await reconciler.run()
        await _pass_time(queue)
        await reconciler.run()
    (task,) = await queue.rows("SELECT state, upstream_task_id FROM tasks")
    assert tuple(task) == ("running", "ours")


async def test_running_task_that_the_list_leaves_out_again_is_adopted_at_its_end(
    queue: QueueClient, engine: AsyncEngine
) -> None:
    """Until its end, a task does not show its files."""
    upstream = ForgetfulUpstream(True, False, False, False, status="RUNNING")
    await _lose_a_submit(queue)
    async with _context(engine, upstream.app) as context:
        reconciler = Reconciler(context, context.upstreams["beijing/default"])
        for _ in range(3):
            await reconciler.run()
            await _pass_time(queue)
        assert await queue.rows("SELECT 1 FROM tasks WHERE state = 'unsure' AND absent_since IS NULL")
        upstream.paged.status = "SUCCEEDED"
        await reconciler.run()
    (task,) = await queue.rows("SELECT state, upstream_task_id FROM tasks")
    assert tuple(task) == ("running", "ours")


async def test_reading_that_fails_starts_the_count_of_readings_anew(queue: QueueClient, engine: AsyncEngine) -> None:
    await _lose_a_submit(queue)
    async with _context(engine, ForgetfulUpstream(False).app) as context:
        await Reconciler(context, context.upstreams["beijing/default"]).run()
    await _pass_time(queue)
    async with _context(engine, RepeatingUpstream({}, "t1").app) as context:
        await Reconciler(context, context.upstreams["beijing/default"]).run()
    (task,) = await queue.rows("SELECT state, absent_since FROM tasks")
    assert tuple(task) == ("unsure", None)


class RepeatingUpstream:
    """Ignores `page_no`: each page has the same rows."""

    def __init__(self, totals: dict[str, Any], *tasks: str, **more: Any) -> None:
        self._data = [{**_row(task_id), **more} for task_id in tasks]
        self._totals = totals
        query = PagedUpstream({}).query
        self.app = Starlette(routes=[Route("/api/v1/tasks", self._list), Route("/api/v1/tasks/{task_id}", query)])

    async def _list(self, _: Request) -> Response:
        return JSONResponse({"data": self._data, **self._totals})


REPEATED_TOTALS = [{}, {"total_page": 3}, {"total": 5, "page_size": 2}, {"total": 5, "total_page": 3}]


@pytest.mark.parametrize("totals", REPEATED_TOTALS)
async def test_files_wait_while_the_list_shows_the_same_page_again(
    queue: QueueClient, engine: AsyncEngine, totals: dict[str, Any]
) -> None:
    await _lose_a_submit(queue)
    async with _context(engine, RepeatingUpstream(totals, "t1", "t2").app) as context:
        for _ in range(3):
            await Reconciler(context, context.upstreams["beijing/default"]).run()
            await _pass_time(queue)
    (task,) = await queue.rows("SELECT state, last_error FROM tasks")
    assert tuple(task) == ("unsure", REPEATED_PAGES)


@pytest.mark.parametrize("totals", REPEATED_TOTALS)
async def test_task_on_a_page_that_is_shown_again_is_adopted(
    queue: QueueClient, engine: AsyncEngine, totals: dict[str, Any]
) -> None:
    await _reconcile(queue, engine, RepeatingUpstream(totals, "t1", "ours").app)
    (task,) = await queue.rows("SELECT state, upstream_task_id FROM tasks")
    assert tuple(task) == ("running", "ours")


async def test_running_tasks_are_queried_while_the_list_has_no_end(queue: QueueClient, engine: AsyncEngine) -> None:
    upstream = EndlessUpstream({"total_page": 10**9})
    async with _context(engine, upstream.app) as context:
        watcher = Watcher(context, context.upstreams["beijing/default"], on_ended=lambda: None)
        watcher.note_running(1000)
        assert watcher.listing
        await watcher.run()
        assert (upstream.pages, watcher.listing) == (1, False)


async def _reconcile(queue: QueueClient, engine: AsyncEngine, upstream: Starlette) -> None:
    """Lose the response to the submit of a file, and reconcile it with this upstream."""
    await _lose_a_submit(queue)
    async with _context(engine, upstream) as context:
        await Reconciler(context, context.upstreams["beijing/default"]).run()


async def _lose_a_submit(queue: QueueClient) -> None:
    await queue.post(URL)
    async with transaction(queue.sessions) as session:
        claimed = await claim_task(session, LOST, token=UUID(int=1))
        assert claimed is not None
        await mark_unsure(session, claimed.task_id, last_error="", poll_in_s=0)
        await session.execute(text("UPDATE tasks SET lost_at = now() - interval '1 minute'"))


async def _pass_time(queue: QueueClient) -> None:
    """Make the task due, as if `min_absent_s` had passed since the last reading of the list."""
    passed = {"secs": Pace().min_absent_s}
    async with transaction(queue.sessions) as session:
        await session.execute(
            text("""
                UPDATE tasks SET next_poll_at = now(), absent_since = absent_since - make_interval(secs => :secs)
            """),
            passed,
        )


def _row(task_id: str) -> dict[str, Any]:
    return {"task_id": task_id, "status": "RUNNING", "model_name": "fun-asr"}


@asynccontextmanager
async def _context(engine: AsyncEngine, upstream: Starlette) -> AsyncIterator[PollerContext]:
    async with live_server(upstream) as origin:
        keys = {"dashscope_beijing_api_key": "sk-odd", "dashscope_beijing_base_url": f"{origin}/api/v1"}
        async with poller_context(load_settings(keys), engine, asyncio.Event()) as context:
            yield context
