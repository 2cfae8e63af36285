"""Cancels tasks upstream after all their files were canceled.

Upstream cancels only PENDING tasks. A task that runs is billed: it is polled to its end for the bill, and its results
are not stored.
"""

import asyncio
from uuid import UUID, uuid4

import structlog

from app.dashscope.client import DashScope
from app.dashscope.failures import Failure, FailureKind
from app.db import transaction
from app.poller.context import PollerContext
from app.poller.metrics import CALLS
from app.queue.due_work import UnwantedTask, claim_unwanted_tasks, close_unwanted

log = structlog.get_logger()


class Canceller:
    """Cancels one account's unwanted tasks, within the account's budget of cancels."""

    def __init__(self, context: PollerContext, upstream: DashScope) -> None:
        self._context = context
        self._upstream = upstream
        self._call = context.cancel_call(upstream)

    async def run(self) -> None:
        """Cancel until no unwanted task is left or the poller stops. Another poller then does the rest."""
        while not self._context.stopping.is_set():
            token = uuid4()
            async with transaction(self._context.sessions) as session:
                tasks = await claim_unwanted_tasks(session, self._call.account, token=token)
            if not tasks:
                return
            with self._context.leases.hold(token):
                spawn = self._context.supervisor.spawn
                await asyncio.wait([spawn(self._cancel(task, token), name=f"cancel {task.id}") for task in tasks])

    async def _cancel(self, task: UnwantedTask, token: UUID) -> None:
        failure = await self._attempt(task.upstream_task_id)
        for wait_s in self._context.pace.cancel_retries_s:
            if failure is None or failure.kind not in {FailureKind.TRANSIENT, FailureKind.ACCOUNT_BLOCKED}:
                break
            await self._context.pause(wait_s)
            if self._context.stopping.is_set():
                return
            failure = await self._attempt(task.upstream_task_id)
        reason = None if failure is None else f"not canceled: {failure.message}"
        async with transaction(self._context.sessions) as session:
            await close_unwanted(session, task.id, token=token, canceled=failure is None, last_error=reason)
        log.info("unwanted task", task=str(task.id), canceled=failure is None, reason=reason)

    async def _attempt(self, upstream_task_id: str) -> Failure | None:
        """Send the call, again after each 429, and return its failure, if any."""
        while True:
            async with self._context.budgets.spend(self._call):
                failure = await self._upstream.cancel(upstream_task_id)
            outcome = failure.kind.value if failure else "ok"
            CALLS.labels(self._call.account, "cancel", outcome).inc()
            if failure is None or failure.kind is not FailureKind.THROTTLED:
                return failure
            await self._context.throttled(self._call, failure)
