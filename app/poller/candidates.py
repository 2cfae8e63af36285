"""Reads the files of upstream tasks that no row has, for the reconciler."""

import asyncio
import time
from collections.abc import Callable, Mapping

from app.catalogue import MODELS
from app.dashscope.client import DashScope
from app.dashscope.failures import Failure, FailureKind
from app.dashscope.result_files import FetchFailed, FetchFailureKind, fetch_result
from app.dashscope.wire import FileOutcome, ListedTask, TaskSnapshot, TaskStatus, parse_result_url
from app.poller.context import PollerContext
from app.poller.list_matching import Candidate

MAX_REMEMBERED = 10_000
# A task that runs may be missing from some readings of the list: it is looked for in them every few seconds.
REMEMBER_S = 60.0
_OPEN = (TaskStatus.PENDING, TaskStatus.RUNNING, TaskStatus.UNKNOWN)


class CandidateReader:
    """Queries the tasks of one account, and remembers the tasks that will show no more files."""

    def __init__(
        self, context: PollerContext, upstream: DashScope, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._context = context
        self._upstream = upstream
        self._base_url = context.region_of(upstream).base_url
        self._clock = clock
        self._settled: dict[str, Candidate] = {}
        # When this process first saw that a task has ended without all of its files.
        self._incomplete_since: dict[str, float] = {}
        # Tasks that may show more files, and when the list showed them last.
        self._open: dict[str, tuple[ListedTask, float]] = {}

    def with_recent(self, listed: Mapping[str, ListedTask]) -> dict[str, ListedTask]:
        """The tasks of a reading of the list, and those that it showed before and that may show more files."""
        since = self._clock() - REMEMBER_S
        self._open = {
            task_id: (task, at) for task_id, (task, at) in self._open.items() if at > since and task_id not in listed
        }
        return {**{task_id: task for task_id, (task, _) in self._open.items()}, **listed}

    async def read(self, listed: ListedTask, model: str) -> Candidate:
        """The task with its files as far as upstream shows them. One query, unless the files are settled."""
        if settled := self._settled.get(listed.task_id):
            return settled
        candidate = await self._queried(listed, model)
        if candidate.file_urls is None or not candidate.is_settled:
            self._open.setdefault(listed.task_id, (listed, self._clock()))
        else:
            self._open.pop(listed.task_id, None)
        return candidate

    async def _queried(self, listed: ListedTask, model: str) -> Candidate:
        call = self._context.query_call(self._upstream)
        async with self._context.budgets.spend(call):
            snapshot = await self._upstream.query(listed.task_id)
        if isinstance(snapshot, Failure):
            if snapshot.kind is FailureKind.THROTTLED:
                await self._context.throttled(call, snapshot)
            return Candidate(listed, None, None)
        count = snapshot.file_count
        if count is None and model in MODELS and MODELS[model].input_style == "file_url":
            count = 1
        urls = await self._file_urls(snapshot)
        if urls is None:
            return Candidate(listed, count, None)
        if not urls and _is_free_of_charge(snapshot):
            count = 0
        return self._with_files(listed, count, urls)

    def forget(self, task_id: str) -> None:
        self._settled.pop(task_id, None)

    def _with_files(self, listed: ListedTask, count: int | None, urls: tuple[str, ...]) -> Candidate:
        is_complete = count is not None and len(urls) >= count
        since = self._incomplete_since.setdefault(listed.task_id, self._clock())
        is_settled = is_complete or self._clock() - since >= self._context.pace.incomplete_wait_s
        candidate = Candidate(listed, count, urls, is_settled=is_settled)
        if is_settled:
            del self._incomplete_since[listed.task_id]
            self._settled[listed.task_id] = candidate
        for remembered in (self._settled, self._incomplete_since):
            if len(remembered) > MAX_REMEMBERED:
                remembered.clear()
        return candidate

    async def _file_urls(self, snapshot: TaskSnapshot) -> tuple[str, ...] | None:
        """The files that the response to a query shows, each once. None while the task runs or a result is away."""
        if snapshot.status in _OPEN:
            return None
        urls: dict[str, None] = {}
        for item in snapshot.items:
            url = item.file_url or await self._url_in_result(item)
            if isinstance(url, FetchFailed):
                if url.kind is FetchFailureKind.UNAVAILABLE:
                    return None
            elif url is not None:
                urls[url] = None
        return tuple(urls)

    async def _url_in_result(self, item: FileOutcome) -> str | FetchFailed | None:
        """The URL that the result document names. For qwen3 it is the only place."""
        if item.document is not None:
            return await asyncio.to_thread(parse_result_url, item.document)
        if item.transcription_url is None:
            return None
        raw = await fetch_result(self._context.results_http, item.transcription_url, base_url=self._base_url)
        return raw if isinstance(raw, FetchFailed) else await asyncio.to_thread(parse_result_url, raw)


def _is_free_of_charge(snapshot: TaskSnapshot) -> bool:
    """Whether no file of an ended task was transcribed. Files with a status that is not documented may have been."""
    return (
        snapshot.status is not TaskStatus.SUCCEEDED
        and snapshot.unknown_status is None
        and not any(item.transcription_url or item.document or item.is_unknown_status for item in snapshot.items)
    )
