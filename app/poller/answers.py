"""Writing down what upstream answered to a submit: what becomes of the task, its files and its account."""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import IntegrityError

from app.dashscope.budgets import Call
from app.dashscope.client import Accepted, OutcomeUnknown
from app.dashscope.failures import Failure, FailureKind
from app.db import transaction
from app.errors import DatabaseUnavailable
from app.poller.circuits import close, open_for
from app.poller.context import PollerContext
from app.queue.claiming import Claim, SubmitQueue
from app.queue.submissions import fail_files, mark_running, mark_unsure, requeue, split_group

# A lost answer is looked for soon: the task list usually knows a new task within a second.
RECONCILE_AFTER_S = 1.5
QUOTA_PAUSE_S = 30.0
RETRY_S = 1.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to the submits of one account and model. `call`: the budget that they were taken from."""

    context: PollerContext
    submit_queue: SubmitQueue
    call: Call

    async def write_down(self, claim: Claim, answer: Accepted | Failure | OutcomeUnknown, *, probe: bool) -> None:
        """Until the database takes it: what upstream answered is nowhere else. The lease is renewed meanwhile."""
        if isinstance(answer, Failure) and answer.kind is FailureKind.THROTTLED:
            quota = answer.upstream_code == "Throttling.AllocationQuota"
            with suppress(DatabaseUnavailable):  # the answer itself is kept in any case
                await self.context.throttled(self.call, pause_s=QUOTA_PAUSE_S if quota else 1.0)
        while True:
            try:
                await self._record(claim, answer, probe=probe)
            except DatabaseUnavailable:
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def give_back(self, claim: Claim) -> None:
        """Nothing was sent: the files wait again."""
        while True:
            try:
                async with transaction(self.context.sessions) as session:
                    await requeue(session, claim.task_id)
            except DatabaseUnavailable:
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _record(self, claim: Claim, answer: Accepted | Failure | OutcomeUnknown, *, probe: bool) -> None:
        match answer:
            case Accepted(task_id):
                await self._record_accepted(claim, task_id, probe=probe)
            case OutcomeUnknown(reason):
                await self._record_lost(claim, reason)
            case Failure():
                await self._record_failure(claim, answer)

    async def _record_accepted(self, claim: Claim, upstream_task_id: str, *, probe: bool) -> None:
        poll_in_s = self.context.durations(self.submit_queue.account, self.submit_queue.model).next_poll_s(0)
        try:
            async with transaction(self.context.sessions) as session:
                learnt = await mark_running(session, claim.task_id, upstream_task_id, poll_in_s=poll_in_s)
                if probe:
                    await close(session, self.submit_queue.account, "")
                    await close(session, self.submit_queue.account, self.submit_queue.model)
        except IntegrityError:
            # The reconciler took this task for the lost one of an equal group: that one is now this row's.
            await self._record_lost(claim, "its task was adopted by an equal group")
            return
        if learnt is None:
            log.error("task accepted after its attempt was given up", task=str(claim.task_id))
        for limit in learnt or ():
            log.warning("group limit learnt", account=limit.account, model=limit.model, max_files=limit.max_files)

    async def _record_lost(self, claim: Claim, reason: str) -> None:
        log.warning(
            "submit without an answer", task=str(claim.task_id), account=self.submit_queue.account, reason=reason
        )
        async with transaction(self.context.sessions) as session:
            await mark_unsure(session, claim.task_id, last_error=reason, poll_in_s=RECONCILE_AFTER_S)

    async def _record_failure(self, claim: Claim, failure: Failure) -> None:
        # Trouble of an account has one line for its circuit. A line for each task would be hundreds.
        log.log(
            logging.DEBUG if failure.concerns_account else logging.WARNING,
            "submit refused",
            task=str(claim.task_id),
            account=self.submit_queue.account,
            model=self.submit_queue.model,
            kind=failure.kind.value,
            upstream_code=failure.upstream_code,
        )
        async with transaction(self.context.sessions) as session:
            match failure.kind:
                case FailureKind.THROTTLED | FailureKind.TRANSIENT:
                    await requeue(session, claim.task_id)
                case _ if failure.concerns_account:  # none of it is the files' fault
                    await requeue(session, claim.task_id)
                    await open_for(session, self.submit_queue.account, self.submit_queue.model, failure)
                case _ if may_be_one_file(failure, len(claim.file_urls)):
                    # About the size of the group it can be only where it names neither file nor model.
                    by_size = failure.code == "upstream_refused"
                    await split_group(session, claim.task_id, last_error=failure.message, suspect=by_size)
                case _:
                    await fail_files(session, claim.task_id, failure=failure)


def may_be_one_file(failure: Failure, count: int) -> bool:
    """Whether a group of `count` files may have been refused for one of them: whatever a 400 says, it may be."""
    return count > 1 and failure.status == 400 and failure.kind is FailureKind.PERMANENT
