"""Submits: claims a group when the budget allows a call, sends it, and stores the outcome."""

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4

import structlog

from app.catalogue import MODELS
from app.dashscope.client import Accepted, DashScope, OutcomeUnknown
from app.dashscope.failures import Failure, FailureKind
from app.db import transaction
from app.errors import DatabaseUnavailable
from app.poller.circuits import close, open_for
from app.poller.collector import Collector
from app.poller.context import PollerContext
from app.poller.metrics import CALLS, GROUP_FILES
from app.poller.supervisor import take_slots
from app.queue.claiming import Claim, claim_any_file, claim_tasks
from app.queue.submissions import (
    AcceptedTask,
    UpstreamTaskTaken,
    accepted_since,
    fail_files,
    fail_uploads,
    mark_all_running,
    mark_unsure,
    record_sent_urls,
    requeue,
    requeue_suspects,
    split_group,
)
from app.queue.submit_queues import QueueHeads, SubmitQueue
from app.uploads.links import EXPIRED, ExpiredUploads, FileLinks, LinksUnavailable

MAX_IN_FLIGHT = 64
# Length of the submits of one claim. A client that posts meanwhile waits for them.
CLAIM_S = 0.25
RETRY_S = 1.0
# An account that was accepted this recently may be refused because of a file.
ACCEPTED_LATELY = timedelta(minutes=10)
# After this many refusals in a row the account counts as refused. A file that was refused alone this often says
# nothing about the account any more.
MAX_REFUSALS = 3

log = structlog.get_logger()

SubmitOutcome = Accepted | Failure | OutcomeUnknown


class Submitter:
    """Submits the files of one submit queue until none waits."""

    def __init__(
        self, context: PollerContext, upstream: DashScope, submit_queue: SubmitQueue, collector: Collector
    ) -> None:
        """`collector` is that of the same account."""
        self._context = context
        self._collector = collector
        self._upstream = upstream
        self._submit_queue = submit_queue
        self._call = context.submit_call(upstream, submit_queue.model)
        self._heads = QueueHeads()
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._failures = 0
        self._resume_at = 0.0
        self._refused = False
        # Refusals of the account since it was accepted last.
        self._refusals_in_row = 0

    async def run(self) -> None:
        """Claim, wait for the budget and send. One group at a time waits for the budget; responses may overlap."""
        self._refused = False
        while not (self._context.stopping.is_set() or self._refused):
            await self._context.pause(self._resume_at - time.monotonic())
            tasks = await self._start_next()
            if not tasks:
                return
            if self._failures > 1:
                await asyncio.wait(tasks)  # upstream seems unreachable: one submit at a time

    async def submit_one(self) -> SubmitOutcome | None:
        """Submit one file although a circuit is open, and store the outcome. None if no file was submitted."""
        async with self._slots:
            async with transaction(self._context.sessions) as session:
                claim = await claim_any_file(session, self._submit_queue, token=uuid4())
            return await self._submit(claim, asyncio.Event(), is_probe=True) if claim else None

    async def _start_next(self) -> "list[asyncio.Task[None]]":
        """Claim the next tasks and start their submits. Returns when the calls are sent; empty if no file waits."""
        slots = await take_slots(self._slots, 1 if self._failures else self._claimed_at_once)
        tokens = [uuid4() for _ in range(slots)]
        claims: Sequence[Claim] = []
        try:
            async with transaction(self._context.sessions) as session:
                found = await claim_tasks(session, self._submit_queue, tokens=tokens, heads=self._heads)
            claims = found  # committed
        finally:
            for _ in range(slots - len(claims)):
                self._slots.release()
        submits, sent = [], [asyncio.Event() for _ in claims]
        for claim, event in zip(claims, sent, strict=True):
            submits.append(self._context.supervisor.spawn(self._submit(claim, event), name=f"submit {claim.task_id}"))
            submits[-1].add_done_callback(partial(self._ended, event))
        for event in sent:
            await event.wait()
        return submits

    def _ended(self, sent: asyncio.Event, _: asyncio.Task[None]) -> None:
        self._slots.release()
        sent.set()  # also if the submit failed before its call

    @property
    def _claimed_at_once(self) -> int:
        """Tasks of one file share a claim: as many as the budget lets submit in CLAIM_S. Groups have one each."""
        return math.ceil(self._call.rate * CLAIM_S) if self._submit_queue.max_files == 1 else 1

    async def _submit(self, claim: Claim, sent: asyncio.Event, *, is_probe: bool = False) -> SubmitOutcome | None:
        """Send the claimed files and store the outcome. None if they were not sent. Sets `sent` when they are."""
        with self._context.leases.hold(claim.token):
            links = await self._links(claim)
            if links is None:
                return None
            outcome = await self._send(claim, links, sent, is_probe=is_probe)
            suspect = False
            if outcome is not None:
                suspect = await self._is_suspect(claim, outcome)
                self._count(claim, outcome, suspect=suspect)
                await self._throttle(outcome)
            await self._store(claim, outcome, is_probe=is_probe, suspect=suspect)
            if outcome is not None and await self._context.note_response(self._submit_queue.account, outcome):
                self._refused = True
            return outcome

    async def _links(self, claim: Claim) -> Sequence[str] | None:
        """The URLs to send, or None if the files are queued again because of their uploads."""
        try:
            links = await self._context.upload_links.links(claim.file_urls)
            if isinstance(links, FileLinks) and not links.sent_as:
                return links.urls
            async with transaction(self._context.sessions) as session:
                match links:
                    case FileLinks(urls, sent_as):
                        await record_sent_urls(session, claim.task_id, sent_as)
                        return urls
                    case ExpiredUploads(urls):
                        await fail_uploads(session, claim.task_id, urls, failure=EXPIRED)
                    case LinksUnavailable(reason):
                        log.warning("links to uploads unavailable", task=str(claim.task_id), reason=reason)
                        await requeue(session, claim.task_id)
                        self._resume_at = time.monotonic() + RETRY_S
        except DatabaseUnavailable:
            await self._store(claim, None, is_probe=False, suspect=False)
        return None

    async def _send(
        self, claim: Claim, file_urls: Sequence[str], sent: asyncio.Event, *, is_probe: bool
    ) -> SubmitOutcome | None:
        """Send the submit. None if it was not sent: no database, told to stop, the lease may have expired, or the
        account was refused after the claim.
        """
        try:
            # The checks come after the budget, so that nothing delays the call once the budget allows it.
            async with self._context.budgets.spend(self._call):
                sent.set()
                if self._context.stopping.is_set() or not self._context.leases.is_fresh(claim.token):
                    return None
                if self._refused and not is_probe:
                    return None
                return await self._upstream.submit(
                    model=self._submit_queue.model,
                    input_style=MODELS[self._submit_queue.model].input_style,
                    file_urls=file_urls,
                    parameters=claim.parameters,
                )
        except DatabaseUnavailable:
            return None
        finally:
            sent.set()

    async def _is_suspect(self, claim: Claim, outcome: SubmitOutcome) -> bool:
        """Whether the account is refused with these files although it is accepted with others.

        DashScope has codes that may mean the account or a file, such as `AccessDenied`. While submits of other files
        are accepted, a refusal is about a file of the group. Other pollers have a part of the submits and refusals: the
        refusals of a file count in its row, and the accepted submits are in the rows of their tasks.
        """
        if isinstance(outcome, Accepted):
            self._refusals_in_row = 0
        if not (isinstance(outcome, Failure) and outcome.concerns_account):
            return False
        if claim.refusals >= MAX_REFUSALS:
            return True
        self._refusals_in_row += 1
        if self._refusals_in_row >= MAX_REFUSALS:
            return False
        if claim.refused_since and claim.refusals + 1 == MAX_REFUSALS:
            return await self._accepted_since(claim.refused_since)
        return await self._accepted_since(datetime.now(UTC) - ACCEPTED_LATELY)

    async def _accepted_since(self, moment: datetime) -> bool:
        account, model = self._submit_queue.account, self._submit_queue.model
        with suppress(DatabaseUnavailable):
            async with transaction(self._context.sessions) as session:
                return await accepted_since(session, account, model, moment)
        return True  # the circuit could not be stored either

    def _count(self, claim: Claim, outcome: SubmitOutcome, *, suspect: bool) -> None:
        CALLS.labels(self._submit_queue.account, "submit", _label(outcome)).inc()
        if isinstance(outcome, Accepted):
            GROUP_FILES.labels(self._submit_queue.model).observe(len(claim.file_urls))
        if isinstance(outcome, Failure) and outcome.concerns_account and not suspect:
            self._refused = True
        transient = isinstance(outcome, Failure) and outcome.kind is FailureKind.TRANSIENT
        if isinstance(outcome, OutcomeUnknown) or transient:
            self._failures += 1
            self._resume_at = time.monotonic() + self._context.pace.unreachable_pause_s(self._failures)
        else:
            self._failures = 0

    async def _throttle(self, outcome: SubmitOutcome) -> None:
        if isinstance(outcome, Failure) and outcome.kind is FailureKind.THROTTLED:
            with suppress(DatabaseUnavailable):  # the outcome itself is stored in any case
                await self._context.throttled(self._call, outcome)

    async def _store(self, claim: Claim, outcome: SubmitOutcome | None, *, is_probe: bool, suspect: bool) -> None:
        """Store the outcome; None requeues the files. Retries until the database accepts it.

        This process has the only copy of upstream's response. The lease is renewed meanwhile.
        """
        while True:
            try:
                match outcome:
                    case None:
                        async with transaction(self._context.sessions) as session:
                            await requeue(session, claim.task_id)
                    case Accepted():
                        await self._store_accepted(claim, outcome, is_probe=is_probe)
                    case OutcomeUnknown(reason):
                        await self._store_unsure(claim, reason)
                    case Failure():
                        await self._store_failure(claim, outcome, suspect=suspect)
            except DatabaseUnavailable:
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _store_accepted(self, claim: Claim, accepted: Accepted, *, is_probe: bool) -> None:
        account, model = self._submit_queue.account, self._submit_queue.model
        poll_in_s = self._collector.next_poll_s(model, 0)
        task = AcceptedTask(claim.task_id, accepted.task_id, poll_in_s, accepted.request_id)
        try:
            if is_probe:
                async with transaction(self._context.sessions) as session:
                    (learned,) = await mark_all_running(session, [task])
                    await close(session, account, "")
                    await close(session, account, model)
            else:
                learned = await self._context.batched.mark_running(task)
        except UpstreamTaskTaken:
            # The reconciler adopted this task for an equal group, so the task of that group is free for this row.
            await self._store_unsure(claim, "an equal group adopted the task")
            return
        self._collector.poll_in(poll_in_s)
        if learned is None:
            log.error("task accepted after its attempt was given up", task=str(claim.task_id))
        for limit in learned or ():
            log.warning("group limit learned", account=limit.account, model=limit.model, max_files=limit.max_files)

    async def _store_unsure(self, claim: Claim, reason: str) -> None:
        async with transaction(self._context.sessions) as session:
            poll_in_s = self._context.pace.reconcile_after_s
            await mark_unsure(session, claim.task_id, last_error=reason, poll_in_s=poll_in_s)
        log.warning("outcome of submit unknown", task=str(claim.task_id), account=self._call.account, reason=reason)

    async def _store_failure(self, claim: Claim, failure: Failure, *, suspect: bool) -> None:
        async with transaction(self._context.sessions) as session:
            match failure.kind:
                case FailureKind.THROTTLED | FailureKind.TRANSIENT:
                    await requeue(session, claim.task_id)
                case _ if suspect:
                    await requeue_suspects(session, claim.task_id)
                case _ if failure.concerns_account:  # the files are not to blame
                    await requeue(session, claim.task_id)
                    await open_for(session, self._submit_queue.account, self._submit_queue.model, failure)
                case _ if may_be_one_file(failure, len(claim.file_urls)):
                    # A refusal that names a file or the model is not about the size of the group.
                    by_size = failure.code == "upstream_refused"
                    await split_group(session, claim.task_id, last_error=failure.message, suspect=by_size)
                case _:
                    await fail_files(session, claim.task_id, failure=failure)
        # A failure of the account is logged once, when its circuit opens. A line per task would be hundreds.
        log.log(
            logging.DEBUG if failure.concerns_account and not suspect else logging.WARNING,
            "submit refused",
            task=str(claim.task_id),
            account=self._submit_queue.account,
            model=self._submit_queue.model,
            kind=failure.kind.value,
            upstream_code=failure.upstream_code,
            upstream_request_id=failure.request_id,
        )


def may_be_one_file(failure: Failure, count: int) -> bool:
    """Whether one of the `count` files of a group may be the reason of its refusal. Any 400 may be about one file.

    All files of a group have the same hot-word list.
    """
    permanent = failure.kind is FailureKind.PERMANENT and failure.code != "vocabulary_not_found"
    return count > 1 and failure.status == 400 and permanent


def _label(outcome: SubmitOutcome) -> str:
    """The value of the metric's label `outcome`."""
    match outcome:
        case Accepted():
            return "accepted"
        case OutcomeUnknown():
            return "unknown"
        case Failure():
            return outcome.kind.value
