"""Looking at tasks one by one, and collecting the results of those that ended."""

import asyncio
from collections.abc import Sequence
from uuid import UUID, uuid4

import structlog

from app.dashscope.client import DashScope
from app.dashscope.failures import Failure, FailureKind
from app.dashscope.wire import TaskSnapshot, TaskStatus
from app.db import transaction
from app.errors import DatabaseUnavailable
from app.poller.circuits import open_for
from app.poller.context import PollerContext, away_pause_s
from app.poller.list_watcher import Watcher
from app.poller.metrics import CALLS, FILES, TASK_SECONDS
from app.poller.outcomes import (
    Failed,
    Fetch,
    Outcome,
    Resubmit,
    Silent,
    Wait,
    outcomes,
)
from app.poller.result_fetcher import LargeResult, ResultFetcher
from app.queue.leases import LeaseLost
from app.queue.polling import PolledTask, claim_poll
from app.queue.results import (
    Result,
    TaskFile,
    close_if_done,
    count_result_failures,
    lock_for_result,
    schedule_poll,
    store_results,
)

# Results are fetched and stored by so many: one transaction each, and a crash repeats no more than these.
BATCH = 10
MAX_UNDER_WAY = 32
MAX_WAIT_S = 60.0
FAILED_WAIT_S = 5.0

log = structlog.get_logger()


class Collector:
    """Looks at one account's tasks as they come due, within the account's budget of queries."""

    def __init__(self, context: PollerContext, client: DashScope, watcher: Watcher) -> None:
        self._context = context
        self._client = client
        self._watcher = watcher
        self._call = context.query_call(client)
        self._receiver = ResultFetcher(context, client)
        self._room = asyncio.Semaphore(MAX_UNDER_WAY)
        self._inside: set[UUID] = set()  # tokens of polls that are in the room
        self._away = 0

    async def run(self) -> None:
        """PolledTask at what is due until nothing is; while upstream is away, less and less often."""
        while not self._context.stopping.is_set():
            await self._context.pause(away_pause_s(self._away))
            if not await self._next_piece():
                return

    async def _next_piece(self) -> bool:
        """Whether a task was due; returns when its query goes out."""
        await self._room.acquire()
        look = None
        try:
            async with transaction(self._context.sessions) as session:
                look = await claim_poll(session, self._call.account, token=uuid4(), late_s=self._watcher.late_s)
        finally:
            if look is None:
                self._room.release()
        if look is None:
            return False
        sent = asyncio.Event()
        token = look.token
        self._inside.add(token)
        piece = self._context.supervisor.start(self._look(look, sent), name=f"look {look.task_id}")
        piece.add_done_callback(lambda _: self._leave(token))
        await sent.wait()
        return True

    def _leave(self, token: UUID) -> None:
        """Make room for another look: when this one is over, or all that is left of it waits for its turn."""
        if token in self._inside:
            self._inside.remove(token)
            self._room.release()

    async def _look(self, look: PolledTask, sent: asyncio.Event) -> None:
        with self._context.leases.keep(look.token):
            try:
                async with self._context.budgets.spend(self._call):
                    sent.set()
                    view = await self._client.query(look.upstream_task_id)
            finally:
                sent.set()
            self._count(view)
            await self._context.note_answer(self._call.account, view)
            try:
                await self._act(look, view)
            except LeaseLost:
                log.warning("lease lost", task=str(look.task_id))
            except DatabaseUnavailable:
                raise
            except Exception:
                # Whatever this is, it must not hold up the account's other tasks, nor this one for a whole lease.
                log.exception("look failed", task=str(look.task_id))
                async with transaction(self._context.sessions) as session:
                    await schedule_poll(
                        session, look.task_id, look.token, wait_s=FAILED_WAIT_S, last_error="look failed"
                    )

    async def _act(self, look: PolledTask, view: TaskSnapshot | Failure) -> None:
        match view:
            case Failure():
                await self._put_off(look, view)
            case TaskSnapshot() if not view.status.ended:
                await self._still_running(look, view)
            case TaskSnapshot():
                await self._collect(look, view)

    async def _put_off(self, look: PolledTask, failure: Failure) -> None:
        """The query failed, which says nothing about the task."""
        if failure.kind is FailureKind.THROTTLED:
            await self._context.throttled(self._call)
        wait_s = 1.0 if failure.kind is FailureKind.THROTTLED else _wait_s(max(look.ended_s, 4.0))
        async with transaction(self._context.sessions) as session:
            await schedule_poll(session, look.task_id, look.token, wait_s=wait_s, last_error=failure.message)
            if failure.kind is FailureKind.ACCOUNT_BLOCKED:
                await open_for(session, self._call.account, "", failure)

    def _count(self, view: TaskSnapshot | Failure) -> None:
        outcome = view.kind.value if isinstance(view, Failure) else view.status.value.lower()
        CALLS.labels(self._call.account, "query", outcome).inc()
        away = isinstance(view, Failure) and view.kind in {FailureKind.TRANSIENT, FailureKind.ACCOUNT_BLOCKED}
        self._away = self._away + 1 if away else 0

    async def _still_running(self, look: PolledTask, view: TaskSnapshot) -> None:
        if look.ended_s:
            self._watcher.contradicted()
        wait_s = self._context.durations(self._call.account, look.model).next_poll_s(look.age_s)
        async with transaction(self._context.sessions) as session:
            await schedule_poll(session, look.task_id, look.token, wait_s=wait_s, status=view.status.value, alive=True)

    async def _collect(self, look: PolledTask, view: TaskSnapshot) -> None:
        if not look.ended_s:
            self._learn(look, view)
        async with transaction(self._context.sessions) as session:
            await lock_for_result(session, look.task_id, look.token, status=view.status.value, usage_s=view.usage_s)
        found = list(
            outcomes(
                view,
                look.files,
                file_count=look.file_count,
                settled_urls=look.settled_urls,
                age_s=look.age_s,
                ended_s=look.ended_s,
            )
        )
        waits: list[Wait] = []
        for start in range(0, len(found), BATCH):
            waits += await self._store(look, view, found[start : start + BATCH])
        async with transaction(self._context.sessions) as session:
            if not await close_if_done(session, look.task_id, look.token):
                last_error = waits[0].reason if waits else None
                wait_s = _wait_s(look.ended_s)
                await schedule_poll(session, look.task_id, look.token, wait_s=wait_s, last_error=last_error)

    def _learn(self, look: PolledTask, view: TaskSnapshot) -> None:
        TASK_SECONDS.labels(self._call.account, look.model).observe(look.age_s)
        if view.status in {TaskStatus.SUCCEEDED, TaskStatus.FAILED}:
            duration_s = look.age_s if view.ran_s is None else view.ran_s
            self._context.durations(self._call.account, look.model).add(duration_s)

    async def _store(
        self, look: PolledTask, view: TaskSnapshot, found: Sequence[tuple[TaskFile, Outcome]]
    ) -> list[Wait]:
        """Receive and store one batch; returns why files of it must wait."""
        async with asyncio.TaskGroup() as group:
            finishing = [group.create_task(self._finish(look, file, outcome, view.usage_s)) for file, outcome in found]
        finished = [(file, task.result()) for (file, _), task in zip(found, finishing, strict=True)]
        small = [(file, each) for file, each in finished if not isinstance(each, LargeResult)]
        if small:
            await self._settle(look, view, small)
        waits = [each for _, each in small if isinstance(each, Wait)]
        for _, large in finished:
            if isinstance(large, LargeResult):
                self._leave(look.token)
                async with self._receiver.receive_large(look, large, view.usage_s) as received:
                    await self._settle(look, view, [(large.file, received)])
                if isinstance(received, Wait):
                    waits.append(received)
        return waits

    async def _settle(
        self, look: PolledTask, view: TaskSnapshot, finished: Sequence[tuple[TaskFile, Result | Wait]]
    ) -> None:
        results = [each for _, each in finished if isinstance(each, Result)]
        failures = [file for file, each in finished if isinstance(each, Wait) and each.counted]
        async with transaction(self._context.sessions) as session:
            await lock_for_result(session, look.task_id, look.token, status=view.status.value, usage_s=view.usage_s)
            stored = await store_results(session, look.task_id, results)
            await count_result_failures(session, look.task_id, failures)
            for failure in {result.failure for result in results if result.failure and result.failure.concerns_account}:
                await open_for(session, self._call.account, look.model, failure)
        for result in stored:
            FILES.labels(look.model, look.region, result.status).inc()

    async def _finish(
        self, look: PolledTask, file: TaskFile, outcome: Outcome, usage_s: int | None
    ) -> Result | Wait | LargeResult:
        match outcome:
            case Fetch(url):
                return await self._receiver.receive(look, file, url, usage_s)
            case Silent(item):
                return await self._receiver.receive_silence(look, file, item)
            case Failed(failure):
                return Result(file, "failed", failure=failure)
            case Resubmit(failure):
                return Result(file, "queued", failure=failure)
            case Wait():
                return outcome


def _wait_s(ended_s: float) -> float:
    """Half as long again as it has been over already: quick at first, seldom later."""
    return min(max(ended_s * 0.5, 1.0), MAX_WAIT_S)
