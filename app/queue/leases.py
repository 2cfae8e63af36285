"""Leases on task rows: who may act on a task now, by a token of its own for every claim.

Every UPDATE of a leased row carries the token; zero rows means that the lease ran out and somebody else has the
task, and what was found out is dropped. A poller renews its leases while it lives; after kill -9 they run out.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import structlog
from sqlalchemy import text

from app.db import Sessions, transaction
from app.errors import DatabaseUnavailable

LEASE_S = 20
RENEW_EVERY_S = 5
MARGIN_S = 2

log = structlog.get_logger()


class LeaseLost(Exception):
    """The task was taken over by another poller: whatever this one knows of it is out of date."""


class Leases:
    """The leases that this process holds."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._held: dict[UUID, float] = {}  # token → when its lease was last known to be ours

    @contextmanager
    def keep(self, token: UUID) -> Iterator[None]:
        """Renew the claim's lease, taken just now, until the end of the block."""
        self._held[token] = _awake()
        try:
            yield
        finally:
            self._held.pop(token, None)

    def is_fresh(self, token: UUID) -> bool:
        """Whether the lease cannot have run out, not even while the whole machine was asleep."""
        return _awake() - self._held[token] < LEASE_S - MARGIN_S

    async def renew_for_ever(self) -> None:
        """Renew all leases every RENEW_EVERY_S. No error ends this.

        Leases that were not renewed in time are not fresh any more, so nothing is submitted under them.
        """
        failing = False
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            try:
                renewed, at = list(self._held), _awake()
                await self._extend(LEASE_S)
                self._held |= {token: at for token in renewed if token in self._held}
                failing = False
            except DatabaseUnavailable as error:
                log.debug("leases not renewed", held=len(self._held), reason=error.reason)
            except Exception:
                log.exception("leases not renewed", held=len(self._held), exc_info=not failing)
                failing = True

    async def give_back(self) -> None:
        """End all leases now, so that another poller need not wait for them to run out."""
        await self._extend(0)

    async def _extend(self, seconds: int) -> None:
        if not self._held:
            return
        async with transaction(self._sessions) as session:
            await session.execute(
                text(
                    "UPDATE tasks SET lease_until = clock_timestamp() + make_interval(secs => :seconds)"
                    # In order, as whoever locks several tasks: no deadlocks.
                    " WHERE id IN (SELECT id FROM tasks WHERE lease_token = ANY(:held) AND state <> 'done'"
                    " ORDER BY id FOR NO KEY UPDATE)"
                ),
                {"seconds": seconds, "held": list(self._held)},
            )


def _awake() -> float:
    """Seconds that also pass while the machine sleeps, where the system can tell."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
