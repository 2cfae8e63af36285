"""Reads an account's task list to find ended tasks: a few pages show which of thousands of tasks still run.

A sweep reads the pages of PENDING tasks, then of RUNNING ones. A running task of the queue that no page shows has
probably ended; a query then decides. PENDING comes first, so that a task that starts between the two is seen twice
rather than never. Pages are read from the last to the first, so that tasks which end meanwhile shift unread tasks
onto pages that are still to be read. New tasks shift them the other way, which `ListDiff` allows for.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from uuid import UUID, uuid4

import structlog

from app.dashscope.client import DashScope
from app.dashscope.failures import Failure, FailureKind
from app.dashscope.wire import TaskPage, TaskStatus
from app.db import transaction
from app.poller.context import PollerContext
from app.queue.polling import mark_ended, take_running_tasks

SWEEP_EVERY_S = 0.2
# Pause of the sweeps after a refusal that is not temporary.
REFUSED_FOR_S = 600
# The list is read if single queries of all running tasks would take longer than this. One page, which shows a
# hundred tasks, costs as much of the budget as one query.
QUERIES_S = 0.25
# While the list is read, a task that it still shows is polled only when it is overdue by this much.
LIST_BACKSTOP_S = 300.0
MAX_CONTRADICTIONS = 50
# A sweep reads no more pages of a status than this, or than there are running tasks: queries of these cost less.
MAX_PAGES = 100

log = structlog.get_logger()


class Watcher:
    """Sweeps one account's task list while many of its tasks run."""

    def __init__(self, context: PollerContext, upstream: DashScope, *, on_ended: Callable[[], None]) -> None:
        """`on_ended` is called when ended tasks are due for a poll, so that none waits for the next round."""
        self._context = context
        self._on_ended = on_ended
        self._upstream = upstream
        self._call = context.list_call(upstream)
        self._token = uuid4()
        self._running = 0
        self._refused_until = 0.0
        self._contradictions = 0
        self._next_at = 0.0
        self._diff = ListDiff()

    @property
    def listing(self) -> bool:
        """Whether the list is read. If not, single queries find all ended tasks."""
        return self._running > self._call.rate * QUERIES_S and time.monotonic() >= self._refused_until

    @property
    def late_s(self) -> float:
        """By how many seconds a poll must be overdue if the list has not shown the end of the task."""
        return LIST_BACKSTOP_S if self.listing else 0.0

    @property
    def running(self) -> int:
        """The number of running tasks of the account at the last round."""
        return self._running

    def note_running(self, running: int) -> None:
        """Note the number of running tasks, which decides whether the list is read."""
        self._running = running

    def contradicted(self) -> None:
        """Note that a task which the list did not show still runs. Too many of these stop the sweeps for a while."""
        self._contradictions += 1
        if self._contradictions >= MAX_CONTRADICTIONS:
            self._refuse("contradicted by queries")

    async def run(self) -> None:
        """Do one sweep, at most every SWEEP_EVERY_S, unless another poller has the list lease of the account."""
        await self._context.pause(self._next_at - time.monotonic())
        if self._context.stopping.is_set():
            return
        async with transaction(self._context.sessions, autocommit=True) as session:
            running = await take_running_tasks(session, self._call.account, token=self._token)
        if running is None:
            return
        sweep = []
        for status in (TaskStatus.PENDING, TaskStatus.RUNNING):
            pages = await self._list(status)
            if pages is None:
                return
            sweep.append(pages)
        self._next_at = time.monotonic() + SWEEP_EVERY_S
        ended = self._diff.ended(running, sweep)
        self._contradictions = max(self._contradictions - max(len(ended) // 2, 1), 0)
        if ended:
            async with transaction(self._context.sessions) as session:
                await mark_ended(session, self._call.account, ended)
            self._on_ended()

    async def _list(self, status: TaskStatus) -> list[TaskPage] | None:
        """All pages with this status, the oldest page first, or None after a failure.

        If upstream ignores the filter, the pages show tasks of any status.
        """
        first = await self._page(status, 1)
        if first is None:
            return None
        if first.total_pages is None or first.total_pages <= 1:
            return [first]
        if first.total_pages > max(self._running, MAX_PAGES):
            self._refuse(f"it has {first.total_pages} pages of {status.value} tasks")
            return None
        pages = []
        # Page 1 is read again at the end, because tasks that ended since have shifted others onto it.
        for number in range(first.total_pages, 0, -1):
            page = await self._page(status, number)
            if page is None:
                return None
            pages.append(page)
        return pages

    async def _page(self, status: TaskStatus, number: int) -> TaskPage | None:
        page = await self._context.list_page(self._upstream, number, status=status.value)
        if not isinstance(page, Failure):
            return page
        self._next_at = time.monotonic() + self._context.pace.list_retry_s
        if page.kind in {FailureKind.TRANSIENT, FailureKind.ACCOUNT_BLOCKED}:
            # Single queries go on meanwhile. They also show when a refused key is accepted again.
            self._refused_until = self._next_at
        elif page.kind is not FailureKind.THROTTLED:
            self._refuse(page.message)
        return None

    def _refuse(self, reason: str) -> None:
        self._contradictions = 0
        self._refused_until = time.monotonic() + REFUSED_FOR_S
        log.warning("task list not used", account=self._call.account, reason=reason, for_s=REFUSED_FOR_S)


class ListDiff:
    """Compares the running tasks with the task list, sweep by sweep. Pure.

    The list changes while its pages are read. New tasks shift unread tasks onto pages that were already read. A task
    that was created between the newest task of one page and the oldest of the next was not read, so its absence does
    not show its end.
    """

    def __init__(self) -> None:
        self._created_ms: dict[str, int] = {}  # of running tasks that a sweep has shown
        self._missed: set[str] = set()  # running tasks that no sweep has shown, and that the last one may have missed

    def ended(self, running: Mapping[UUID, str], sweep: Sequence[Sequence[TaskPage]]) -> list[UUID]:
        """The running tasks that the sweep no longer shows. `sweep` has the pages by status, the oldest page first.

        A task that no sweep has shown, and that may be unread, counts as ended only after the next sweep.
        """
        tasks = [task for pages in sweep for page in pages for task in page.tasks]
        listed = {task.task_id: task.created_ms or 0 for task in tasks if not task.status.ended}
        known = self._created_ms | listed
        unread = [span for pages in sweep for span in unread_spans(pages)]
        missing = {row_id: task_id for row_id, task_id in running.items() if task_id not in listed}
        doubtful = {task_id for task_id in missing.values() if unread and task_id not in known} - self._missed
        self._created_ms = {task_id: known[task_id] for task_id in running.values() if task_id in known}
        self._missed = doubtful
        return [
            row_id
            for row_id, task_id in missing.items()
            if task_id not in doubtful and not any(since <= known.get(task_id, 0) <= until for since, until in unread)
        ]


def unread_spans(pages: Sequence[TaskPage]) -> Iterator[tuple[int, int]]:
    """The creation times in ms between each page and the next newer one, which was read after it."""
    times = [[task.created_ms for task in page.tasks if task.created_ms] for page in pages]
    for older, newer in pairwise(each for each in times if each):
        yield max(older), min(newer)
