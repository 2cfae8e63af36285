"""Leases on tasks: the right of one poller to work on a task until an instant.

Each claim has a token of its own. Every UPDATE of a leased task carries the token; zero rows mean that the lease
expired and another poller has the task, so the result of the work is dropped. A poller renews its leases while it
runs; after kill -9 they expire.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.db import Sessions, transaction
from app.errors import DatabaseUnavailable

LEASE_S = 20
LIST_LEASE_S = 15
RENEW_EVERY_S = 5
MARGIN_S = 2


def lease_is_free(table: str) -> str:
    """The SQL condition of a row that no poller has a lease on, or whose lease has expired."""
    return f"({table}.lease_until IS NULL OR {table}.lease_until < now())"


# Parts of the statements on `tasks`.
LEASE_IS_FREE = lease_is_free("tasks")
TAKE_LEASE = f"lease_token = :token, lease_until = now() + interval '{LEASE_S} s'"
RELEASE_LEASE = "lease_token = NULL, lease_until = NULL"

log = structlog.get_logger()


class LeaseLost(Exception):
    """Another poller has the task. What this poller knows of the task is out of date."""


class Leases:
    """The leases that this process holds."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._held: dict[UUID, float] = {}  # token → the clock of `_awake` at the last renewal

    @contextmanager
    def hold(self, token: UUID) -> Iterator[None]:
        """Renew the leases of a claim that has just been made, until the end of the block."""
        self._held[token] = _awake()
        try:
            yield
        finally:
            self._held.pop(token, None)

    @property
    def held(self) -> int:
        """The number of claims that this process works on. A claim has one lease, or one for several tasks."""
        return len(self._held)

    def is_fresh(self, token: UUID) -> bool:
        """True if the lease cannot have expired, even if the machine was suspended meanwhile."""
        return _awake() - self._held[token] < LEASE_S - MARGIN_S

    async def renew_for_ever(self) -> None:
        """Renew all leases every RENEW_EVERY_S. No error ends the loop.

        A lease that was not renewed in time is not fresh, so nothing is submitted under it.
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

    async def expire(self) -> None:
        """End all leases now, so that other pollers need not wait for their expiry.

        A failure of the database is logged only: the leases then expire by themselves.
        """
        try:
            await self._extend(0)
        except (DatabaseUnavailable, SQLAlchemyError) as error:
            log.debug("leases not released", held=len(self._held), error=type(error).__name__)

    async def _extend(self, seconds: int) -> None:
        if not self._held:
            return
        async with transaction(self._sessions) as session:
            await session.execute(_EXTEND, {"seconds": seconds, "held": list(self._held)})


def _awake() -> float:
    """Seconds of a clock that also runs while the machine is suspended, where the system has one."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


# Rows are locked in the order of their ids, as in all statements that lock several tasks: no deadlocks.
_EXTEND = text("""
    UPDATE tasks SET lease_until = clock_timestamp() + make_interval(secs => :seconds)
    WHERE id IN (
        SELECT id FROM tasks WHERE lease_token = ANY(:held) AND state <> 'done' ORDER BY id FOR NO KEY UPDATE
    )
""")

# A part of a statement, with one row if the lease is taken.
TAKE_LIST_LEASE = f"""
    INSERT INTO list_leases AS held (account, lease_token, lease_until)
    VALUES (:account, :token, now() + interval '{LIST_LEASE_S} s')
    ON CONFLICT (account) DO UPDATE SET lease_token = excluded.lease_token, lease_until = excluded.lease_until
    WHERE held.lease_token = :token OR {lease_is_free("held")}
    RETURNING account
"""  # noqa: S608 - constants
