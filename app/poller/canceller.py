"""Cancelling upstream what nobody waits for any more: tasks all of whose files were canceled.

Upstream cancels only what is still PENDING. What it has begun runs on and is billed, but is not looked at again.
"""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import structlog
from sqlalchemy import Row, text

from app.dashscope.client import DashScope
from app.dashscope.failures import Failure, FailureKind
from app.db import transaction
from app.poller.context import PollerContext
from app.poller.metrics import CALLS
from app.queue.leases import LEASE_S

# Under way at once; each takes its turn in the account's budget.
BATCH = 20
# Upstream does not answer, or refuses the key: tried again after so long each, then the task is left to run.
AGAIN_AFTER_S = (1.0, 2.0, 4.0, 8.0, 15.0)

log = structlog.get_logger()

_CLAIM = text("""
    UPDATE tasks SET lease_token = :token, lease_until = now() + make_interval(secs => :lease_s)
    WHERE id IN (
        SELECT id FROM tasks
        WHERE account = :account AND state = 'running' AND cancel_wanted_at IS NOT NULL
          AND (lease_until IS NULL OR lease_until < now())
        LIMIT :batch FOR UPDATE SKIP LOCKED
    )
    RETURNING id, upstream_task_id
""")

_CLOSE = text("""
    UPDATE tasks SET state = 'done', done_at = now(), upstream_status = coalesce(:status, upstream_status),
        last_error = :last_error, lease_token = NULL, lease_until = NULL
    WHERE id = :id AND lease_token = :token AND state = 'running'
""")


class Canceller:
    """Cancels one account's unwanted tasks, within the account's budget of cancels."""

    def __init__(self, context: PollerContext, client: DashScope) -> None:
        self._context = context
        self._client = client
        self._call = context.cancel_call(client)

    async def run(self) -> None:
        """Until there is none. What a stopping poller leaves, another one takes up."""
        while not self._context.stopping.is_set():
            token = uuid4()
            tasks = await self._claim(token)
            if not tasks:
                return
            with self._context.leases.keep(token):
                start = self._context.supervisor.start
                await asyncio.wait([start(self._cancel(task, token), name=f"cancel {task.id}") for task in tasks])

    async def _claim(self, token: UUID) -> Sequence[Row[Any]]:
        lease = {"account": self._call.account, "token": token, "lease_s": LEASE_S, "batch": BATCH}
        async with transaction(self._context.sessions) as session:
            return (await session.execute(_CLAIM, lease)).all()

    async def _cancel(self, task: Row[Any], token: UUID) -> None:
        failure = await self._try(task.upstream_task_id)
        for wait_s in AGAIN_AFTER_S:
            if failure is None or failure.kind not in {FailureKind.TRANSIENT, FailureKind.ACCOUNT_BLOCKED}:
                break
            await self._context.pause(wait_s)
            if self._context.stopping.is_set():
                return
            failure = await self._try(task.upstream_task_id)
        await self._close(task.id, token, failure)

    async def _try(self, upstream_task_id: str) -> Failure | None:
        """One try that counts: those answered 429 do not."""
        while True:
            async with self._context.budgets.spend(self._call):
                failure = await self._client.cancel(upstream_task_id)
            outcome = failure.kind.value if failure else "ok"
            CALLS.labels(self._call.account, "cancel", outcome).inc()
            if failure is None or failure.kind is not FailureKind.THROTTLED:
                return failure
            await self._context.throttled(self._call)

    async def _close(self, task_id: UUID, token: UUID, failure: Failure | None) -> None:
        """Canceled, begun already, or out of reach: there is nothing more to do about it."""
        status, last_error = (
            ("CANCELED", None) if failure is None else (None, f"not cancelled: {failure.message}"[:500])
        )
        log.info("unwanted task", task=str(task_id), canceled=failure is None, reason=last_error)
        async with transaction(self._context.sessions) as session:
            await session.execute(_CLOSE, {"id": task_id, "token": token, "status": status, "last_error": last_error})
