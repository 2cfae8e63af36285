"""Guards the connection pool of an engine, and tracks whether the database is available."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import structlog
from prometheus_client import Counter, Gauge
from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.errors import DatabaseUnavailable
from app.identifiers import follow_database_clock
from app.outages import PASSING, as_outage, ends_connection, is_full, is_outage, is_pooler_error, is_stale

POOL_TIMEOUT_S = 10.0
# After the server refused a connection, the pool stays smaller by one for this long if the process has others.
GROW_AFTER_S = 5.0
# Pauses before a process without a connection tries a full server again.
CONNECTING_PAUSES_S = (0.1, 0.2, 0.4)
# The reconciler tolerates 120 s between the clocks of the gateway and of DashScope. Leases use the database's clock.
MAX_SKEW_S = 30
# Minimum interval between replacements of all connections while the server stays read-only.
STALE_EVERY_S = 1.0

AVAILABLE = Gauge("asr_gateway_database_available", "1 while the database serves this process, else 0")
AVAILABLE.set(1)
CLOCK_AHEAD = Gauge(
    "asr_gateway_database_clock_ahead_seconds", "The database's clock against this machine's, at the last connect"
)
OUTAGES = Counter(
    "asr_gateway_database_outages_total", "Transactions that failed because the database was unavailable", ["reason"]
)
IN_USE = Gauge("asr_gateway_database_connections_in_use", "Connections of the pool that are in use", ["pool"])
SIZE = Gauge("asr_gateway_database_connections_limit", "Connections that the pool may have in use", ["pool"])
WAITING = Gauge("asr_gateway_database_connections_waiting", "Callers that wait for a connection of the pool", ["pool"])

T = TypeVar("T")
log = structlog.get_logger()


class DatabaseAvailability:
    """Availability of the database, as observed by the transactions of one process.

    `log_changes`: log the begin and the end of an outage. Short commands print the error instead.
    """

    def __init__(self, *, log_changes: bool = True) -> None:
        self._level = logging.WARNING if log_changes else logging.DEBUG
        self.outage: DatabaseUnavailable | None = None
        # Set during an outage.
        self.outage_began = asyncio.Event()
        # The last time the database was found writable, by time.monotonic.
        self.checked_at = -math.inf
        # Connections that are older may be read-only still: the setting of a role is that of the login.
        self.recovered_at = -math.inf
        self._began_at = 0.0
        self._logged_reasons: set[str] = set()
        self._failed_at = 0.0
        self._skew_logged = False

    @property
    def quiet_s(self) -> float:
        """Seconds since the last failure."""
        return time.monotonic() - self._failed_at

    def record_failure(self, outage: DatabaseUnavailable) -> None:
        OUTAGES.labels(outage.reason).inc()
        if outage.reason in PASSING:
            log.debug("transaction failed", reason=outage.reason, error=outage.explanation)
            return
        self._failed_at = time.monotonic()
        if self.outage is None:
            self._began_at = self._failed_at
            self._logged_reasons = set()
            AVAILABLE.set(0)
            log.log(self._level, "database unavailable", reason=outage.reason, error=outage.explanation)
            self.outage_began.set()
        elif outage.reason not in self._logged_reasons:
            # The first error is often a lost connection; the next connect reports the cause.
            log.log(self._level, "database still unavailable", reason=outage.reason, error=outage.explanation)
        self._logged_reasons.add(outage.reason)
        self.outage = outage

    def record_clock(self, ahead_s: float) -> None:
        """Report the skew of the clocks, as measured with a new connection. Ids follow the database's clock."""
        CLOCK_AHEAD.set(round(ahead_s, 3))
        follow_database_clock(ahead_s)
        if abs(ahead_s) > MAX_SKEW_S and not self._skew_logged:
            skew_s = round(-ahead_s)
            log.log(self._level, "the clock of this machine differs from the database's", skew_s=skew_s)
        self._skew_logged = abs(ahead_s) > MAX_SKEW_S

    def record_recovery(self) -> None:
        if self.outage is None:
            return
        log.info(
            "database available again", reason=self.outage.reason, outage_s=round(time.monotonic() - self._began_at, 1)
        )
        AVAILABLE.set(1)
        self.recovered_at = time.monotonic()
        self.outage = None
        self.outage_began.clear()


class Connections:
    """Guards the pool of one engine.

    At most `size` connections are in use. If the server refuses a further connection, callers wait up to
    POOL_TIMEOUT_S for an existing one. A connection that the server closed, or that is older than a change of the
    server's role or the end of an outage, is replaced at its next checkout.
    """

    def __init__(self, size: int, availability: DatabaseAvailability) -> None:
        self.availability = availability
        # Whether DATABASE_URL leads to a connection pooler. None before the first connection.
        self.behind_pooler: bool | None = None
        self._size = size
        self._free = asyncio.Semaphore(size)
        self._in_use = 0
        self._waiting = 0
        self._stale_before = 0.0

    def listen(self, engine: AsyncEngine) -> None:
        event.listen(engine.sync_engine, "connect", self._on_connect)
        event.listen(engine.sync_engine, "checkout", self._on_checkout)
        event.listen(engine.sync_engine, "handle_error", self._on_error)

    def observe(self, pool: str) -> None:
        """Show this pool in the metrics. The values are read when the metrics are, so that a checkout costs nothing."""
        SIZE.labels(pool).set(self._size)
        IN_USE.labels(pool).set_function(lambda: self._in_use)
        WAITING.labels(pool).set_function(lambda: self._waiting)

    async def take(self, connect: Callable[[], Awaitable[T]]) -> T:
        """Call `connect`, which takes a connection out of the pool, and return its result.

        Call `release` when the connection is back in the pool. Raises DatabaseUnavailable.
        """
        deadline = time.monotonic() + POOL_TIMEOUT_S
        pauses = iter(CONNECTING_PAUSES_S)
        while True:
            await self._wait_until_free(deadline)
            try:
                connection = await connect()
            except Exception as error:
                if self._in_use and is_outage(error) and time.monotonic() < deadline:
                    # The pool cannot grow. Free this slot later, and wait for a connection that is in use now.
                    asyncio.get_running_loop().call_later(GROW_AFTER_S, self._free.release)
                    continue
                self._free.release()
                pause_s = next(pauses, None) if is_full(error) else None
                if pause_s is None:
                    raise
                await asyncio.sleep(pause_s)
            except BaseException:
                self._free.release()
                raise
            else:
                self._in_use += 1
                return connection

    def release(self) -> None:
        self._in_use -= 1
        self._free.release()

    @contextmanager
    def translate_outages(self) -> Iterator[None]:
        """`app.outages.translate_outages`, and records the outage in `availability`."""
        try:
            yield
        except Exception as error:
            outage = as_outage(error)
            if isinstance(outage, DatabaseUnavailable):
                self.availability.record_failure(outage)
            if outage is error:
                raise
            raise outage from error

    def is_lost(self, error: BaseException) -> bool:
        """Whether the connection that raised `error` must be discarded.

        If the error suggests that other connections are stale too, they are replaced at their next checkout.
        """
        if is_pooler_error(error):
            self.behind_pooler = True
        now = time.monotonic()
        if is_stale(error) and now - self._stale_before > STALE_EVERY_S:
            self._stale_before = now
        return ends_connection(error)

    async def _wait_until_free(self, deadline: float) -> None:
        if not self._free.locked():
            await self._free.acquire()
            return
        self._waiting += 1
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._free.acquire()
        except TimeoutError:
            explanation = f"all {self._size} connections of this process were in use for {POOL_TIMEOUT_S:g} s"
            detail = "The database is unavailable (pool_exhausted); try again in a moment."
            raise DatabaseUnavailable(detail, reason="pool_exhausted", explanation=explanation) from None
        finally:
            self._waiting -= 1

    def _on_connect(self, _connection: Any, record: Any) -> None:
        record.info["opened_at"] = time.monotonic()

    def _on_checkout(self, connection: Any, record: Any, _proxy: Any) -> None:
        raw = connection.driver_connection
        if raw.is_closed() or record.info["opened_at"] < max(self._stale_before, self.availability.recovered_at):
            raw.terminate()  # a graceful close takes 2 s while the server does not respond
            raise DisconnectionError

    def _on_error(self, context: Any) -> None:
        if self.is_lost(context.original_exception):
            context.is_disconnect = True
            # `_on_checkout` replaces the other connections one by one.
            context.invalidate_pool_on_disconnect = False
