"""Finds out whether upstream has the tasks of lost submits, so that no file is submitted twice for one attempt.

Upstream has no idempotency key, but its task list shows every task of the account. A task that was created in the
window of the attempt, that no row knows, and whose files are exactly ours is the lost one and is adopted. Only if
there is none are the files queued again. All lost submits of a model are reconciled together: the list is read once
for them, and each unknown task is queried once.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID, uuid4

import structlog

from app.dashscope.client import DashScope
from app.dashscope.failures import Failure, FailureKind
from app.dashscope.result_files import fetch_result
from app.dashscope.wire import FileOutcome, ListedTask, TaskPage, TaskSnapshot, TaskStatus, parse_result_url
from app.db import transaction
from app.poller.circuits import open_for
from app.poller.context import PollerContext
from app.poller.list_matching import (
    Attempt,
    Candidate,
    Comparison,
    Rivals,
    compare,
    list_windows,
    made_within,
    within_one_window,
)
from app.poller.metrics import CALLS
from app.queue.due_work import claim_unsure_tasks, known_upstream_tasks, schedule_reconcile, unresolved_submits
from app.queue.submissions import UpstreamTaskTaken, fail_ambiguous, mark_running, requeue

# How long after the loss the list must still show no task before the files are queued again.
MIN_LOST_S = 6
RETRY_S = 2.0
# How long two attempts whose files differ only in the spelling of URLs may wait to be told apart.
MAX_AMBIGUOUS_S = 60
FAILED_LIST_RETRY_S = 5.0
PAGE_SIZE = 100
# If the window that allows for another time zone has more pages than this, only Beijing time is used.
MAX_WIDE_PAGES = 20
MAX_REMEMBERED = 10_000

AMBIGUOUS = Failure(
    FailureKind.TRANSIENT,
    "result_missing",
    "The response to the submit was lost, and DashScope has a task that may be of this file or of another one.",
)

log = structlog.get_logger()


class Reconciler:
    """Reconciles the lost submits of one account."""

    def __init__(self, context: PollerContext, upstream: DashScope) -> None:
        self._context = context
        self._upstream = upstream
        self._base_url = context.region_of(upstream).base_url
        # Ended tasks of upstream that no row knows. Their files do not change any more.
        self._unknown_tasks: dict[str, Candidate] = {}

    async def run(self) -> None:
        """Reconcile once what is due. The poller starts another run while more is due."""
        account = self._upstream.account.id
        token = uuid4()
        with self._context.leases.hold(token):
            async with transaction(self._context.sessions) as session:
                tasks = await claim_unsure_tasks(session, account, token=token)
            if not tasks:
                return
            attempts = [
                Attempt(task.id, task.model, task.created_at, task.lost_at, task.lost_s, task.file_urls)
                for task in tasks
            ]
            near = within_one_window(attempts)
            later = [each for each in attempts if each not in near]
            await self._retry(later, token, 0, "waits for the reconciliation of older submits")
            candidates = await self._candidates(near)
            if isinstance(candidates, Failure):
                await self._retry(near, token, FAILED_LIST_RETRY_S, candidates.message)
                if candidates.kind is FailureKind.ACCOUNT_BLOCKED:
                    async with transaction(self._context.sessions) as session:
                        await open_for(session, account, "", candidates)
                return
            # Read after the list: every task that the list shows without a row has its attempt among these.
            unresolved: Mapping[UUID, Sequence[str]] = {}
            if candidates:
                async with transaction(self._context.sessions) as session:
                    unresolved = await unresolved_submits(session, account, attempts[0].model)
            await self.resolve(near, token, candidates, Rivals(unresolved))

    async def resolve(
        self, attempts: Sequence[Attempt], token: UUID, candidates: dict[str, Candidate], rivals: Rivals
    ) -> None:
        """Adopt, requeue, fail or postpone each attempt. Adopted tasks are removed from `candidates`."""
        for attempt in attempts:
            await self._resolve_one(attempt, token, candidates, rivals)

    async def _resolve_one(
        self, attempt: Attempt, token: UUID, candidates: dict[str, Candidate], rivals: Rivals
    ) -> None:
        undecided, ambiguous = False, False
        for task_id, candidate in list(candidates.items()):
            match compare(attempt, candidate):
                case Comparison.OURS if rivals.leave_open(attempt, candidate, candidates.values()):
                    ambiguous = True
                case Comparison.OURS:
                    if await self._adopt(attempt, task_id):
                        del candidates[task_id]
                        self._unknown_tasks.pop(task_id, None)
                        return
                    undecided = True  # an equal attempt changed meanwhile: the next run decides
                case Comparison.OPEN:
                    undecided = True
                case Comparison.OTHER:
                    continue
        if ambiguous and not undecided and attempt.lost_s >= MAX_AMBIGUOUS_S:
            await self._fail(attempt)
        elif undecided or ambiguous:
            await self._retry([attempt], token, RETRY_S, "several tasks may be of this submit")
        elif attempt.lost_s < MIN_LOST_S:
            await self._retry([attempt], token, RETRY_S, "not in the task list yet")
        else:
            log.info("unsure submit not found upstream", task=str(attempt.task_id), files=attempt.file_count)
            async with transaction(self._context.sessions) as session:
                await requeue(session, attempt.task_id, token=token)

    async def _retry(self, attempts: Sequence[Attempt], token: UUID, wait_s: float, last_error: str) -> None:
        if not attempts:
            return
        ids = [attempt.task_id for attempt in attempts]
        async with transaction(self._context.sessions) as session:
            await schedule_reconcile(session, ids, token=token, wait_s=wait_s, last_error=last_error)

    async def _adopt(self, attempt: Attempt, upstream_task_id: str) -> bool:
        """False if an equal attempt has adopted the task, or if the attempt's own response came after all."""
        try:
            async with transaction(self._context.sessions) as session:
                learned = await mark_running(session, attempt.task_id, upstream_task_id, poll_in_s=0)
        except UpstreamTaskTaken:
            return False
        if learned is None:
            return False
        log.info("unsure submit found upstream", task=str(attempt.task_id), upstream_task=upstream_task_id)
        return True

    async def _fail(self, attempt: Attempt) -> None:
        """Fail the files. The task may be another attempt's, and a second submit might be billed twice."""
        log.warning("unsure submit is ambiguous", task=str(attempt.task_id), files=attempt.file_count)
        async with transaction(self._context.sessions) as session:
            await fail_ambiguous(session, attempt.task_id, failure=AMBIGUOUS, file_urls=attempt.file_urls)

    async def _candidates(self, attempts: list[Attempt]) -> dict[str, Candidate] | Failure:
        """The tasks of the window that no row knows, with their files as far as upstream shows them."""
        listed = await self._listed(attempts)
        if isinstance(listed, Failure):
            return listed
        async with transaction(self._context.sessions) as session:
            known = await known_upstream_tasks(session, self._upstream.account.region, listed)
        return {
            task_id: await self._examine(task)
            for task_id, task in listed.items()
            if task_id not in known
            and task.model in {"", attempts[0].model}
            and any(made_within(attempt, task) for attempt in attempts)
        }

    async def _listed(self, attempts: list[Attempt]) -> dict[str, ListedTask] | Failure:
        wide, narrow = list_windows(attempts)
        window, first = wide, await self._page(attempts, wide, 1)
        if isinstance(first, TaskPage) and first.total_pages > MAX_WIDE_PAGES:
            window, first = narrow, await self._page(attempts, narrow, 1)
        if isinstance(first, Failure):
            return first
        tasks = {task.task_id: task for task in first.tasks}
        # New tasks shift others onto later pages, where they are read a second time. Only the oldest tasks can be
        # shifted past the last page, and those were created before the attempt (`CLOCK_SKEW`).
        for number in range(2, first.total_pages + 1):
            page = await self._page(attempts, window, number)
            if isinstance(page, Failure):
                return page
            tasks |= {task.task_id: task for task in page.tasks}
        return tasks

    async def _page(self, attempts: list[Attempt], window: dict[str, str], number: int) -> TaskPage | Failure:
        call = self._context.list_call(self._upstream)
        async with self._context.budgets.spend(call):
            page = await self._upstream.list_tasks(
                model_name=attempts[0].model, page_no=number, page_size=PAGE_SIZE, **window
            )
        CALLS.labels(call.account, "list", page.kind.value if isinstance(page, Failure) else "ok").inc()
        await self._context.note_response(call.account, page)
        if isinstance(page, Failure) and page.kind is FailureKind.THROTTLED:
            await self._context.throttled(call)
        return page

    async def _examine(self, listed: ListedTask) -> Candidate:
        if unknown := self._unknown_tasks.get(listed.task_id):
            return unknown
        call = self._context.query_call(self._upstream)
        async with self._context.budgets.spend(call):
            snapshot = await self._upstream.query(listed.task_id)
        if isinstance(snapshot, Failure):
            if snapshot.kind is FailureKind.THROTTLED:
                await self._context.throttled(call)
            return Candidate(listed, None, None)
        urls = await self._file_urls(snapshot)
        candidate = Candidate(listed, snapshot.file_count, urls)
        if urls is not None:
            if len(self._unknown_tasks) >= MAX_REMEMBERED:
                self._unknown_tasks.clear()
            self._unknown_tasks[listed.task_id] = candidate
        return candidate

    async def _file_urls(self, snapshot: TaskSnapshot) -> tuple[str, ...] | None:
        """The files of an ended task, or None while they cannot be known.

        A failed task without results names no file. It was not billed, so it matches no attempt.
        """
        match snapshot.status:
            case TaskStatus.PENDING | TaskStatus.RUNNING | TaskStatus.UNKNOWN:
                return None
            case TaskStatus.SUCCEEDED:
                return await self._succeeded_urls(snapshot)
            case _:
                return tuple(item.file_url for item in snapshot.items if item.file_url is not None)

    async def _succeeded_urls(self, snapshot: TaskSnapshot) -> tuple[str, ...] | None:
        urls = []
        for item in snapshot.items:
            url = item.file_url or await self._url_in_result(item)
            if url is None:
                return None
            urls.append(url)
        return tuple(urls) or None

    async def _url_in_result(self, item: FileOutcome) -> str | None:
        """The URL that the result document names. For qwen3 it is the only place."""
        if item.transcription_url is None:
            return None
        raw = await fetch_result(self._context.results_http, item.transcription_url, base_url=self._base_url)
        return parse_result_url(raw) if isinstance(raw, bytes) else None
