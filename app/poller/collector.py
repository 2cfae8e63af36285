"""Polls tasks one by one and collects the results of those that ended."""

import asyncio
import math
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from uuid import UUID

import structlog

from app.catalogue import MODELS, RegionalPrice, has_figures
from app.dashscope.client import DashScope
from app.dashscope.failures import Failure, FailureKind
from app.dashscope.wire import TaskSnapshot, TaskStatus
from app.db import transaction
from app.errors import DatabaseUnavailable
from app.poller.circuits import open_for
from app.poller.context import PollerContext
from app.poller.list_watcher import Watcher
from app.poller.metrics import CALLS, TASK_SECONDS
from app.poller.outcomes import Wait, account_failures, outcomes
from app.poller.poll_schedule import close_wait_s
from app.poller.result_fetcher import FetchedFile, ResultFetcher
from app.poller.supervisor import take_slots
from app.queue.billing import TaskBill
from app.queue.leases import LeaseLost
from app.queue.polling import NextPoll, PolledTask, claim_polls
from app.queue.results import Result, TaskResults

MAX_IN_FLIGHT = 32
# Length of the queries of one claim.
CLAIM_S = 0.25
MAX_WAIT_S = 60.0
FAILED_WAIT_S = 5.0
# Further queries of a task without a readable usage. After MAX_VAIN_QUERIES in a row without success, upstream seems to
# state no usage, and tasks are queried once only.
USAGE_QUERIES = 2
MAX_VAIN_QUERIES = 10

log = structlog.get_logger()


class Collector:
    """Polls one account's tasks as they come due, within the account's budget of queries."""

    def __init__(self, context: PollerContext, upstream: DashScope, watcher: Watcher) -> None:
        self._context = context
        self._upstream = upstream
        self._watcher = watcher
        self._call = context.query_call(upstream)
        self._fetcher = ResultFetcher(context, upstream)
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._holding: set[UUID] = set()  # tokens of the polls that hold a slot
        # Tasks of the queries in a row without a usable response. A single one may be to blame itself.
        self._failed: set[UUID] = set()
        # Queries for the usage of a task that did not show it, in a row.
        self._vain_queries = 0

    async def run(self) -> None:
        """Poll until no task is due, with growing pauses while upstream is unreachable."""
        while not self._context.stopping.is_set():
            await self._context.pause(self._context.pace.unreachable_pause_s(len(self._failed)))
            if not await self._start_polls():
                return

    def next_poll_s(self, model: str, elapsed_s: float) -> float:
        """Seconds until the next poll of a task of this account that was submitted `elapsed_s` ago."""
        close_s = close_wait_s(elapsed_s, running=self._watcher.running, queries_per_s=self._call.rate)
        return min(self._context.durations(self._call.account, model).next_poll_s(elapsed_s), close_s)

    def poll_in(self, wait_s: float) -> None:
        """Claim a task in `wait_s` seconds, when the poll that was just stored is due.

        The round that finds it due may come up to 0.2 s later. This is a latency hint: correctness does not depend on
        it. While the task list is read it would be useless, because the list shows which tasks to poll.
        """
        if not self._watcher.listing:
            asyncio.get_running_loop().call_later(wait_s, self._poll_now)

    def _poll_now(self) -> None:
        if not (self._context.stopping.is_set() or len(self._failed) > 1 or self._watcher.listing):
            self._context.supervisor.ensure_running(("poll", self._call.account), self.run)

    async def _start_polls(self) -> bool:
        """Claim the next tasks and start their polls. False if no other task is due, else returns when they are sent.

        A claim takes as many tasks as the budget lets query in CLAIM_S: the others wait unclaimed, so that tasks which
        end meanwhile have their turn.
        """
        slots = await take_slots(self._slots, 1 if len(self._failed) > 1 else math.ceil(self._call.rate * CLAIM_S))
        tasks: list[PolledTask] = []
        try:
            async with transaction(self._context.sessions, autocommit=True) as session:
                found = await claim_polls(session, self._call.account, late_s=self._watcher.late_s, limit=slots)
            tasks = found  # committed
        finally:
            for _ in range(slots - len(tasks)):
                self._slots.release()
        sent = [self._start_poll(task) for task in tasks]
        if len(tasks) < slots:
            return False
        for each in sent:
            await each.wait()
        return True

    def _start_poll(self, task: PolledTask) -> asyncio.Event:
        """Start the poll of a task that holds a slot. Returns the event that its query is sent."""
        sent = asyncio.Event()
        self._holding.add(task.token)
        poll = self._context.supervisor.spawn(self._poll(task, sent), name=f"poll {task.task_id}")
        poll.add_done_callback(lambda _: self._release_slot(task.token))
        return sent

    def _release_slot(self, token: UUID) -> None:
        """Release the slot of this poll, when it ends or when only large results are left to fetch."""
        if token in self._holding:
            self._holding.remove(token)
            self._slots.release()

    async def _poll(self, task: PolledTask, sent: asyncio.Event) -> None:
        with self._context.leases.hold(task.token):
            snapshot = await self._query(task, sent)
            try:
                await self._dispatch(task, snapshot)
            except LeaseLost:
                log.warning("lease lost", task=str(task.task_id))
            except DatabaseUnavailable:
                raise
            except Exception:
                # An unexpected error delays this task by FAILED_WAIT_S instead of a whole lease.
                log.exception("poll failed", task=str(task.task_id))
                await self._context.batched.schedule_poll(
                    NextPoll(task.task_id, task.token, FAILED_WAIT_S, last_error="poll failed")
                )

    async def _query(self, task: PolledTask, sent: asyncio.Event) -> TaskSnapshot | Failure:
        try:
            async with self._context.budgets.spend(self._call):
                sent.set()
                snapshot = await self._upstream.query(task.upstream_task_id)
        finally:
            sent.set()
        self._count(task, snapshot)
        await self._context.note_response(self._call.account, snapshot, task_id=task.upstream_task_id)
        return snapshot

    def _count(self, task: PolledTask, snapshot: TaskSnapshot | Failure) -> None:
        outcome = snapshot.kind.value if isinstance(snapshot, Failure) else snapshot.status.value.lower()
        CALLS.labels(self._call.account, "query", outcome).inc()
        blocked = {FailureKind.TRANSIENT, FailureKind.ACCOUNT_BLOCKED}
        if isinstance(snapshot, Failure) and snapshot.kind in blocked:
            self._failed.add(task.task_id)
        else:
            self._failed.clear()

    async def _dispatch(self, task: PolledTask, snapshot: TaskSnapshot | Failure) -> None:
        match snapshot:
            case Failure():
                await self._postpone(task, snapshot)
            case TaskSnapshot() if not snapshot.status.ended:
                await self._still_running(task, snapshot)
            case TaskSnapshot():
                await self._collect(task, snapshot)

    async def _postpone(self, task: PolledTask, failure: Failure) -> None:
        """The query failed, which does not show the state of the task."""
        if failure.kind is FailureKind.THROTTLED:
            await self._context.throttled(self._call, failure)
        wait_s = 1.0 if failure.kind is FailureKind.THROTTLED else _wait_s(max(task.ended_s, 4.0))
        if failure.kind is FailureKind.ACCOUNT_BLOCKED:
            async with transaction(self._context.sessions) as session:
                await open_for(session, self._call.account, "", failure)
        await self._context.batched.schedule_poll(
            NextPoll(task.task_id, task.token, wait_s, last_error=failure.message)
        )

    async def _still_running(self, task: PolledTask, snapshot: TaskSnapshot) -> None:
        if task.ended_s:
            self._watcher.contradicted()
        wait_s = self.next_poll_s(task.model, task.age_s)
        status = snapshot.status.value
        await self._context.batched.schedule_poll(NextPoll(task.task_id, task.token, wait_s, status, alive=True))
        self.poll_in(wait_s)

    async def _collect(self, task: PolledTask, snapshot: TaskSnapshot) -> None:
        """Fetch and store the results of an ended task, in batches, each with a transaction of its own."""
        if not task.ended_s:
            self._learn(task, snapshot)
        snapshot = await self._with_usage(task, snapshot)
        found = list(
            outcomes(
                snapshot,
                task.files,
                file_count=task.file_count,
                finished_urls=task.finished_urls,
                age_s=task.age_s,
                ended_s=task.ended_s,
            )
        )
        for failure in account_failures(found):
            async with transaction(self._context.sessions) as session:
                await open_for(session, self._call.account, task.model, failure)
        waits: list[Wait] = []
        closed = False
        release_slot = partial(self._release_slot, task.token)
        async with aclosing(
            self._fetcher.fetch(task, found, snapshot.usage.seconds, before_large=release_slot)
        ) as batches:
            async for batch in batches:
                closed = await self._store(task, snapshot, batch)
                waits += [each for _, each in batch if isinstance(each, Wait)]
        # A file may have been canceled after the last batch.
        if not closed and not await self._store(task, snapshot, ()):
            last_error = waits[0].reason if waits else None
            await self._context.batched.schedule_poll(
                NextPoll(task.task_id, task.token, _wait_s(task.ended_s), last_error=last_error)
            )

    async def _with_usage(self, task: PolledTask, snapshot: TaskSnapshot) -> TaskSnapshot:
        """The response with the usage of another response, if its own is missing although files were transcribed."""
        price = self._price(task)
        if not any(item.transcription_url or item.document for item in snapshot.items):
            return snapshot
        if has_figures(price, snapshot.usage):
            self._vain_queries = 0
            return snapshot
        for _ in range(USAGE_QUERIES):
            if self._vain_queries >= MAX_VAIN_QUERIES or self._context.stopping.is_set():
                break
            again = await self._query(task, asyncio.Event())
            if isinstance(again, Failure):
                if again.kind is FailureKind.THROTTLED:
                    await self._context.throttled(self._call, again)
            elif has_figures(price, again.usage):
                self._vain_queries = 0
                return replace(snapshot, usage=again.usage)
            else:
                self._vain_queries += 1
        return snapshot

    def _learn(self, task: PolledTask, snapshot: TaskSnapshot) -> None:
        TASK_SECONDS.labels(self._call.account, task.model).observe(task.age_s)
        if snapshot.status in {TaskStatus.SUCCEEDED, TaskStatus.FAILED}:
            duration_s = task.age_s if snapshot.ran_s is None else snapshot.ran_s
            self._context.durations(self._call.account, task.model).add(duration_s)

    async def _store(self, task: PolledTask, snapshot: TaskSnapshot, batch: Sequence[FetchedFile]) -> bool:
        """Store results of the task. Returns whether it is closed now, because no file of it is open."""
        closed = await self._context.batched.store_results(
            TaskResults(
                task.task_id,
                task.token,
                snapshot.status.value,
                snapshot.usage.seconds,
                results=[each for _, each in batch if isinstance(each, Result)],
                failed_fetches=[file for file, each in batch if isinstance(each, Wait) and each.counted],
                bill=TaskBill(snapshot.usage, self._price(task), task.file_count),
                request_id=snapshot.request_id,
            )
        )
        self._context.stored.notify()
        return closed

    def _price(self, task: PolledTask) -> RegionalPrice:
        return MODELS[task.model].regions[self._upstream.account.region]


def _wait_s(ended_s: float) -> float:
    """Half of the time since the end was seen: short waits at first, longer ones later."""
    return min(max(ended_s * 0.5, 1.0), MAX_WAIT_S)
