"""Delivers webhook events, several at a time, and logs each attempt.

If the process ends during an attempt, or the attempt cannot be stored, it is made again after its lease has expired.
So an event is delivered at least once.
"""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import structlog

from app.db import transaction
from app.poller.context import PollerContext
from app.poller.metrics import DELIVERY_ATTEMPTS
from app.webhooks.messages import signed_headers
from app.webhooks.outbox import MAX_AT_ONCE, ClaimedDelivery, claim, postpone, record

# How soon a new event is found while attempts to slow servers are in flight.
CLAIM_EVERY_S = 0.2

log = structlog.get_logger()


class Deliverer:
    """The delivery attempts of one poller. `outbox` limits those of one server and of one client."""

    def __init__(self, context: PollerContext) -> None:
        self._context = context
        self._in_flight: dict[UUID, ClaimedDelivery] = {}
        self._attempts: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Deliver until nothing is due and nothing is in flight, or until the poller stops."""
        while not self._context.stopping.is_set():
            for claimed in await self._claim():
                self._in_flight[claimed.id] = claimed
                started = self._context.supervisor.spawn(self._deliver(claimed), name=f"deliver {claimed.id}")
                self._attempts.add(started)
                started.add_done_callback(self._attempts.discard)
            if not self._attempts:
                return
            await asyncio.wait(self._attempts, timeout=CLAIM_EVERY_S, return_when=asyncio.FIRST_COMPLETED)

    async def _claim(self) -> list[ClaimedDelivery]:
        if len(self._in_flight) >= MAX_AT_ONCE:
            return []
        async with transaction(self._context.sessions) as session:
            return await claim(session, self._in_flight.values())

    async def _deliver(self, claimed: ClaimedDelivery) -> None:
        try:
            await self._attempt(claimed)
        finally:
            del self._in_flight[claimed.id]

    async def _attempt(self, claimed: ClaimedDelivery) -> None:
        headers = signed_headers(
            claimed.secrets, message_id=str(claimed.id), sent_at=datetime.now(UTC), body=claimed.body
        )
        attempt = await self._context.sender.send(claimed.url, claimed.body, headers)
        if attempt.postponed:
            async with transaction(self._context.sessions) as session:
                await postpone(session, claimed)
            return
        DELIVERY_ATTEMPTS.labels(attempt.error_code or "ok").inc()
        async with transaction(self._context.sessions) as session:
            stored = await record(session, claimed, attempt)
        fields = {
            "delivery": str(claimed.id),
            "job": str(claimed.job_id),
            "client": claimed.client_name,
            "host": claimed.host,
            "type": claimed.type,
            "status": attempt.response_status,
            "error": attempt.error_code,
            "duration_ms": attempt.duration_ms,
            "lease_lost": not stored,
        }
        if attempt.succeeded:
            log.info("webhook delivered", **fields)
        else:
            log.warning("webhook failed", **fields)
