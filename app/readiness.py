"""Whether the database can be written, and the watch that finds out when an outage is over."""

import asyncio
import time

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from app.connections import Availability
from app.db import Sessions, connections_of, transaction
from app.errors import DatabaseUnavailable
from app.outages import WRITE_FAILURES, as_outage

# The check of the disk takes 10 to 24 ms of the server's time.
CHECK_EVERY_S = 5.0
# A write failed so lately that a passed check proves nothing.
WRITE_FAILED_S = 5.0
WATCH_EVERY_S = 1.0
# An outage is over when the checks pass and nothing has failed for so long.
QUIET_S = 2.0
CHECK_TIMEOUT_S = 3.0

log = structlog.get_logger()

# A server in recovery, or one that was told to take no writes.
_READ_ONLY = text("SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool")
# Rows of a function beyond work_mem go to a temporary file in the data directory: 0.8 MB that is written and removed.
# It leaves no dead rows and no WAL, and fails on a full disk, where an UPDATE that is rolled back still succeeds.
_SMALL_MEMORY = text("SET LOCAL work_mem = '64kB'")
_SPILL = text("SELECT count(*) FROM generate_series(1, 60000)")


async def check_writable(session: AsyncSession) -> None:
    """Raises DatabaseUnavailable when the database answers but cannot be written. Changes nothing."""
    if await session.scalar(_READ_ONLY):
        explanation = "the server is read-only: a standby, or default_transaction_read_only is on"
        detail = "The database cannot do this now (read_only); try again in a moment."
        raise DatabaseUnavailable(detail, reason="read_only", explanation=explanation)
    await session.execute(_SMALL_MEMORY)
    await session.execute(_SPILL)


def raise_write_failure(availability: Availability) -> None:
    """Raises DatabaseUnavailable while writes failed lately, whatever a check says."""
    outage = availability.outage
    if outage is not None and outage.reason in WRITE_FAILURES and availability.quiet_s < WRITE_FAILED_S:
        raise DatabaseUnavailable(outage.detail, reason=outage.reason, explanation=outage.explanation)


async def check_writable_sometimes(session: AsyncSession, availability: Availability) -> None:
    """`check_writable`, at most once in CHECK_EVERY_S while nothing fails."""
    if availability.outage is None and time.monotonic() - availability.checked_at < CHECK_EVERY_S:
        return
    await check_writable(session)
    availability.checked_at = time.monotonic()


async def watch_database(sessions: Sessions, stop: asyncio.Event) -> None:
    """Until `stop`: while the database is away, ask it once a second whether it is back."""
    availability = connections_of(sessions).availability
    stopped = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set():
            away = asyncio.create_task(availability.away.wait())
            await asyncio.wait({away, stopped}, return_when=asyncio.FIRST_COMPLETED)
            away.cancel()
            if await _is_back(sessions, availability):
                availability.recovered()
            await asyncio.wait({stopped}, timeout=WATCH_EVERY_S)
    finally:
        stopped.cancel()


async def _is_back(sessions: Sessions, availability: Availability) -> bool:
    if availability.quiet_s < QUIET_S:
        return False
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S), transaction(sessions) as session:
            await check_writable(session)
    except (DatabaseUnavailable, TimeoutError):
        return False
    except SQLAlchemyError as error:
        log.debug("the check of the database failed", error=repr(as_outage(error)))
        return False
    return True
