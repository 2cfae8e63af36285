"""Finds out whether upstream has the tasks of lost submits, so that no file is submitted twice.

Upstream has no idempotency key, but its task list shows every task of the account. A task that was created in the
window of the submit, that no row has, and that has exactly the files of the submit is adopted. So is one that shows
a part of them only, if it can be the task of no other submit. Only if two readings of the whole list show none are the
files queued again. All lost submits of a model are reconciled together: in each run the list is read once for them, and
each task without a row is queried once, until its files are settled.
"""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID, uuid4

import structlog

from app.dashscope.client import DashScope
from app.dashscope.failures import Failure, FailureKind
from app.dashscope.wire import ListedTask
from app.db import transaction
from app.poller.candidates import CandidateReader
from app.poller.circuits import open_for
from app.poller.context import PollerContext
from app.poller.list_matching import (
    Candidate,
    Comparison,
    LostSubmit,
    Rivals,
    compare,
    list_windows,
    made_within,
    max_pages,
    within_one_window,
)
from app.poller.list_reading import ListReading
from app.queue.due_work import claim_unsure_tasks, known_upstream_tasks, schedule_reconcile, unresolved_submits
from app.queue.submissions import UpstreamTaskTaken, fail_ambiguous, mark_running, requeue

# How long submits that cannot be told apart by the files of a task may wait.
MAX_AMBIGUOUS_S = 60
# If the window that allows for another time zone has more pages than this, only Beijing time is used.
MAX_WIDE_PAGES = 20

AMBIGUOUS = Failure(
    FailureKind.TRANSIENT,
    "result_missing",
    "The response to the submit was lost, and DashScope has a task that may belong to this file or to another one.",
)

# A task that is not read would be submitted again, so no file is queued again after a part of the pages.
TOO_MANY_PAGES = Failure(
    FailureKind.TRANSIENT,
    "upstream_unavailable",
    "The task list has more pages than an account can fill in the time of the lost submits.",
)

UNDECIDED = "it is not certain which upstream task belongs to this submit"
INCOMPLETE = "an upstream task that may belong to this submit does not show all of its files"

log = structlog.get_logger()


class Reconciler:
    """Reconciles the lost submits of one account."""

    def __init__(self, context: PollerContext, upstream: DashScope) -> None:
        self._context = context
        self._pace = context.pace
        self._upstream = upstream
        self._reader = CandidateReader(context, upstream)

    async def run(self) -> None:
        """Reconcile the tasks that are due, once. The poller starts the next run."""
        account = self._upstream.account.id
        token = uuid4()
        with self._context.leases.hold(token):
            async with transaction(self._context.sessions) as session:
                tasks = await claim_unsure_tasks(session, account, token=token)
            if not tasks:
                return
            submits = [
                LostSubmit(
                    task.id, task.model, task.created_at, task.lost_at, task.lost_s, task.file_urls, task.absent_s
                )
                for task in tasks
            ]
            near = within_one_window(submits)
            later = [each for each in submits if each not in near]
            await self._retry(later, token, 0, "waits for the reconciliation of older submits")
            reading = await self._read_list(near)
            if isinstance(reading, Failure):
                await self._retry(near, token, self._pace.failed_list_retry_s, reading.message)
                if reading.kind is FailureKind.ACCOUNT_BLOCKED:
                    async with transaction(self._context.sessions) as session:
                        await open_for(session, account, "", reading)
                return
            candidates = await self._candidates(near, self._reader.with_recent(reading.tasks))
            # Read after the list: every task that the list shows without a row has its submit among these.
            unresolved: Mapping[UUID, Sequence[str]] = {}
            if candidates:
                async with transaction(self._context.sessions) as session:
                    unresolved = await unresolved_submits(session, account, submits[0].model)
            await self.resolve(near, token, candidates, Rivals(unresolved), reading)

    async def resolve(
        self,
        submits: Sequence[LostSubmit],
        token: UUID,
        candidates: dict[str, Candidate],
        rivals: Rivals,
        reading: ListReading | None = None,
    ) -> None:
        """Adopt, requeue, fail or postpone each submit. Adopted tasks are removed from `candidates`.

        If the list may have more tasks than the `reading`, a submit is adopted or postponed.
        """
        for submit in submits:
            gap = reading.gap(submit.lost_s) if reading else None
            await self._resolve_one(submit, token, candidates, rivals, gap)

    async def _resolve_one(
        self,
        submit: LostSubmit,
        token: UUID,
        candidates: dict[str, Candidate],
        rivals: Rivals,
        gap: str | None,
    ) -> None:
        matches, reason = _matches(submit, candidates.values(), gap)
        ambiguous = False
        for candidate in matches:
            if rivals.leave_open(submit, candidate, candidates.values()):
                ambiguous = True
            elif await self._adopt(submit, candidate.listed):
                rivals.discard(submit.task_id)
                del candidates[candidate.listed.task_id]
                self._reader.forget(candidate.listed.task_id)
                return
            else:
                reason = UNDECIDED  # an equal submit changed meanwhile: the next run decides
        if ambiguous and not reason and submit.lost_s >= MAX_AMBIGUOUS_S:
            await self._fail(submit)
        elif reason or ambiguous:
            await self._retry([submit], token, self._pace.reconcile_retry_s, reason or UNDECIDED)
        elif submit.lost_s < self._pace.min_lost_s:
            await self._retry([submit], token, self._pace.reconcile_retry_s, "not in the task list yet")
        elif (wait_s := self._pace.min_absent_s - (submit.absent_s or 0)) > 0:
            await self._retry([submit], token, wait_s, "not in the task list", absent=True)
        else:
            async with transaction(self._context.sessions) as session:
                await requeue(session, submit.task_id, token=token)
            rivals.discard(submit.task_id)
            log.info("unsure submit not found upstream", task=str(submit.task_id), files=submit.file_count)

    async def _retry(
        self, submits: Sequence[LostSubmit], token: UUID, wait_s: float, last_error: str, *, absent: bool = False
    ) -> None:
        if not submits:
            return
        ids = [submit.task_id for submit in submits]
        async with transaction(self._context.sessions) as session:
            await schedule_reconcile(session, ids, token=token, wait_s=wait_s, last_error=last_error, absent=absent)

    async def _adopt(self, submit: LostSubmit, listed: ListedTask) -> bool:
        """False if an equal submit has adopted the task, or if the submit's own response came after all."""
        try:
            async with transaction(self._context.sessions) as session:
                learned = await mark_running(
                    session, submit.task_id, listed.task_id, poll_in_s=0, request_id=listed.request_id
                )
        except UpstreamTaskTaken:
            return False
        if learned is None:
            return False
        log.info("unsure submit found upstream", task=str(submit.task_id), upstream_task_id=listed.task_id)
        return True

    async def _fail(self, submit: LostSubmit) -> None:
        """Fail the files. Adoption could take the task of another submit, and a new submit could be billed twice."""
        async with transaction(self._context.sessions) as session:
            await fail_ambiguous(session, submit.task_id, failure=AMBIGUOUS, file_urls=submit.file_urls)
        log.warning("unsure submit is ambiguous", task=str(submit.task_id), files=submit.file_count)

    async def _candidates(self, submits: list[LostSubmit], listed: Mapping[str, ListedTask]) -> dict[str, Candidate]:
        """The listed tasks that no row knows, with their files as far as upstream shows them."""
        async with transaction(self._context.sessions) as session:
            known = await known_upstream_tasks(session, self._upstream.account.region, listed)
        return {
            task_id: await self._reader.read(task, submits[0].model)
            for task_id, task in listed.items()
            if task_id not in known
            and task.model in {"", submits[0].model}
            and any(made_within(submit, task) for submit in submits)
        }

    async def _read_list(self, submits: list[LostSubmit]) -> ListReading | Failure:
        wide, narrow = list_windows(submits)
        reading = await self._read_window(submits, wide, MAX_WIDE_PAGES)
        if reading is None:
            reading = await self._read_window(submits, narrow, max_pages(submits))
        return TOO_MANY_PAGES if reading is None else reading

    async def _read_window(
        self, submits: list[LostSubmit], window: dict[str, str], most: int
    ) -> ListReading | Failure | None:
        """The pages of a window. None if it has more than `most`."""
        reading = ListReading()
        for number in range(1, most + 1):
            page = await self._context.list_page(self._upstream, number, model_name=submits[0].model, **window)
            if isinstance(page, Failure):
                return page
            reading.add(page)
            if reading.is_longer_than(most):
                return None
            if reading.is_over:
                return reading
        return None


def _matches(
    submit: LostSubmit, candidates: Iterable[Candidate], gap: str | None
) -> tuple[list[Candidate], str | None]:
    """The candidates that the submit may adopt, the best ones first, and why a later run may find a better one.

    A task that shows a part of its files may be adopted only if no other task can be the one of this submit. `gap`: why
    there may be other tasks.
    """
    found = [(compare(submit, candidate), candidate) for candidate in candidates]
    complete = [candidate for comparison, candidate in found if comparison is Comparison.OURS]
    parts = [candidate for comparison, candidate in found if comparison is Comparison.PART]
    if any(comparison is Comparison.OPEN for comparison, _ in found):
        return complete, UNDECIDED
    if not all(candidate.is_settled for candidate in parts):
        return complete, INCOMPLETE
    if gap:
        return complete, gap
    return complete + parts, None
