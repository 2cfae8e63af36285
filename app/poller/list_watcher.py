"""Watching an account's tasks by its task list: a few pages say which of thousands ended.

A sweep reads the pages of PENDING, then of RUNNING tasks. What a row calls running and no page shows has ended, or
so it seems: the single query says for certain, and only such tasks are queried. PENDING first, so that a task that
starts between the two is seen twice and not never; pages from the last to the first, so that tasks which end
meanwhile move unread ones towards pages that are still to come. Those that come in meanwhile move them the other
way: see `app.poller.list_diff`.
"""

import time
from uuid import UUID, uuid4

import structlog
from sqlalchemy import text

from app.dashscope.client import DashScope
from app.dashscope.failures import Failure, FailureKind
from app.dashscope.wire import TaskPage, TaskStatus
from app.db import transaction
from app.poller.context import PollerContext
from app.poller.list_diff import ListDiff
from app.poller.metrics import CALLS

PAGE_SIZE = 100
SWEEP_EVERY_S = 0.3
# A task is not looked for in the list until upstream has had time to list it.
SETTLE_S = 2
REFUSED_FOR_S = 600
# The list tells of a hundred tasks for the price of two queries.
SINGLES_S = 0.25
# While the list serves, single polls without its hint are a backstop, not a method.
LIST_BACKSTOP_S = 300.0
MAX_CONTRADICTIONS = 50
LEASE_S = 15

log = structlog.get_logger()

_TAKE_WATCH = text("""
    INSERT INTO list_leases (account, lease_token, lease_until)
    VALUES (:account, :token, clock_timestamp() + make_interval(secs => :lease_s))
    ON CONFLICT (account) DO UPDATE SET lease_token = excluded.lease_token, lease_until = excluded.lease_until
    WHERE list_leases.lease_token = :token OR list_leases.lease_until IS NULL
       OR list_leases.lease_until < clock_timestamp()
    RETURNING account
""")

_RUNNING = text("""
    SELECT id, upstream_task_id FROM tasks
    WHERE account = :account AND state = 'running' AND ended_at IS NULL
      AND submitted_at < now() - make_interval(secs => :settle_s)
""")

_ENDED = text("""
    UPDATE tasks SET ended_at = now(), next_poll_at = now()
    WHERE id IN (
        SELECT id FROM tasks WHERE id = ANY(:ids) AND state = 'running' AND ended_at IS NULL FOR UPDATE SKIP LOCKED
    )
""")


class Watcher:
    """Sweeps one account's task list while many of its tasks are in flight."""

    def __init__(self, context: PollerContext, client: DashScope) -> None:
        self._context = context
        self._client = client
        self._call = context.list_call(client)
        self._token = uuid4()
        self._wanted = False
        self._refused_until = 0.0
        self._contradictions = 0
        self._next_at = 0.0
        self._sightings = ListDiff()

    @property
    def listing(self) -> bool:
        """Whether the list tells what ended; else single queries serve alone."""
        return self._wanted and time.monotonic() >= self._refused_until

    @property
    def late_s(self) -> float:
        """By how long a task must be overdue before it is looked at without a hint from the list."""
        return LIST_BACKSTOP_S if self.listing else 0.0

    def want(self, running: int) -> None:
        """Told how many tasks are in flight: few are queried one by one within SINGLES_S, for many the list pays."""
        self._wanted = running > self._call.rate * SINGLES_S

    def contradicted(self) -> None:
        """A task that the list did not show is still running: a list that errs often is not worth its queries."""
        self._contradictions += 1
        if self._contradictions >= MAX_CONTRADICTIONS:
            self._refuse("contradicted by queries")

    async def run(self) -> None:
        """One sweep, at most every SWEEP_EVERY_S, by one replica only."""
        await self._context.pause(self._next_at - time.monotonic())
        if self._context.stopping.is_set() or not await self._take_watch():
            return
        running = await self._running()
        readings = []
        for status in (TaskStatus.PENDING, TaskStatus.RUNNING):
            reading = await self._list(status)
            if reading is None:
                return
            readings.append(reading)
        self._next_at = time.monotonic() + SWEEP_EVERY_S
        ended = self._sightings.ended(running, readings)
        self._contradictions = max(self._contradictions - max(len(ended) // 2, 1), 0)
        if ended:
            async with transaction(self._context.sessions) as session:
                await session.execute(_ENDED, {"ids": ended})

    async def _take_watch(self) -> bool:
        async with transaction(self._context.sessions) as session:
            taken = await session.scalar(
                _TAKE_WATCH, {"account": self._call.account, "token": self._token, "lease_s": LEASE_S}
            )
        return taken is not None

    async def _running(self) -> dict[UUID, str]:
        async with transaction(self._context.sessions) as session:
            rows = await session.execute(_RUNNING, {"account": self._call.account, "settle_s": SETTLE_S})
            return {row.id: row.upstream_task_id for row in rows}

    async def _list(self, status: TaskStatus) -> list[TaskPage] | None:
        """All tasks that the list shows in this state or, should it not filter, in any: the oldest pages first."""
        first = await self._page(status, 1)
        if first is None:
            return None
        if first.total_pages <= 1:
            return [first]
        pages = []
        # Page 1 comes again, at the end: what ended since the first time moved tasks onto it.
        for number in range(first.total_pages, 0, -1):
            page = await self._page(status, number)
            if page is None:
                return None
            pages.append(page)
        return pages

    async def _page(self, status: TaskStatus, number: int) -> TaskPage | None:
        async with self._context.budgets.spend(self._call):
            page = await self._client.list_tasks(status=status.value, page_no=number, page_size=PAGE_SIZE)
        CALLS.labels(self._call.account, "list", page.kind.value if isinstance(page, Failure) else "ok").inc()
        await self._context.note_answer(self._call.account, page)
        if not isinstance(page, Failure):
            return page
        self._next_at = time.monotonic() + 2
        if page.kind is FailureKind.THROTTLED:
            await self._context.throttled(self._call)
        elif page.kind in {FailureKind.TRANSIENT, FailureKind.ACCOUNT_BLOCKED}:
            # Single queries go on meanwhile. They find out, too, when a refused key is accepted again.
            self._refused_until = self._next_at
        else:
            self._refuse(page.message)
        return None

    def _refuse(self, reason: str) -> None:
        self._contradictions = 0
        self._refused_until = time.monotonic() + REFUSED_FOR_S
        log.warning("task list not used", account=self._call.account, reason=reason, for_s=REFUSED_FOR_S)
