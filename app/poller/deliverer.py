"""Delivering: what webhooks are to be told goes out, some at once, and each try is logged.

A try that its process does not survive, or whose record fails, is made again when its lease is over: at least once.
"""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import structlog

from app.db import transaction
from app.poller.context import PollerContext
from app.poller.metrics import DELIVERY_ATTEMPTS
from app.webhooks.messages import signed_headers
from app.webhooks.outbox import MAX_AT_ONCE, Claim, claim, record

# How soon something new is seen while slow servers are waited for.
LOOK_EVERY_S = 0.2

log = structlog.get_logger()


class Deliverer:
    """The tries of one poller. A slow server holds up few of them, see `outbox.MAX_PER_HOST`."""

    def __init__(self, context: PollerContext) -> None:
        self._context = context
        self._under_way: dict[UUID, Claim] = {}
        self._tries: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until nothing is due and nothing under way. What a stopping poller leaves, another one takes up."""
        while not self._context.stopping.is_set():
            for claimed in await self._claim():
                self._under_way[claimed.id] = claimed
                started = self._context.supervisor.start(self._deliver(claimed), name=f"deliver {claimed.id}")
                self._tries.add(started)
                started.add_done_callback(self._tries.discard)
            if not self._tries:
                return
            await asyncio.wait(self._tries, timeout=LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)

    async def _claim(self) -> list[Claim]:
        if len(self._under_way) >= MAX_AT_ONCE:
            return []
        async with transaction(self._context.sessions) as session:
            return await claim(session, self._under_way.values())

    async def _deliver(self, claimed: Claim) -> None:
        try:
            await self._try(claimed)
        finally:
            del self._under_way[claimed.id]

    async def _try(self, claimed: Claim) -> None:
        headers = signed_headers(
            claimed.secrets, message_id=str(claimed.id), sent_at=datetime.now(UTC), body=claimed.body
        )
        attempt = await self._context.sender.send(claimed.url, claimed.body, headers)
        DELIVERY_ATTEMPTS.labels(attempt.error_code or "ok").inc()
        async with transaction(self._context.sessions) as session:
            logged = await record(session, claimed, attempt)
        log.info(
            "webhook tried",
            delivery=str(claimed.id),
            type=claimed.type,
            status=attempt.response_status,
            error=attempt.error_code,
            duration_ms=attempt.duration_ms,
            lease_lost=not logged,
        )
