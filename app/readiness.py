"""Checks whether the database can serve this process: schema, writability, and the end of an outage."""

import asyncio
import time
from datetime import datetime

import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from app import migrate
from app.connections import DatabaseAvailability
from app.db import Sessions, connections_of, transaction
from app.errors import DatabaseUnavailable, ServiceUnavailable
from app.outages import WRITE_FAILURES, as_outage, is_missing_object

READY_TIMEOUT_S = 1
# Interval of the write check, which takes 10 to 24 ms of the server's time.
CHECK_EVERY_S = 5.0
# After a failed write the process is not ready for this long, even if the write check passes.
WRITE_FAILED_S = 5.0
WATCH_EVERY_S = 1.0
# An outage is over when the check passes and nothing has failed for this long.
QUIET_S = 2.0
CHECK_TIMEOUT_S = 3.0

log = structlog.get_logger()

# True for a server in recovery, and with default_transaction_read_only.
_READ_ONLY = text("SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool")
# Rows of a function beyond work_mem are spilled to a temporary file in the data directory: 0.8 MB, then removed. This
# leaves no dead rows and no WAL. It fails on a full disk, where an UPDATE that is rolled back still succeeds.
_SMALL_MEMORY = text("SET LOCAL work_mem = '64kB'")
_SPILL = text("SELECT count(*) FROM generate_series(1, 60000)")


async def check_ready(sessions: Sessions) -> None:
    """Raises ServiceUnavailable, or its subclass DatabaseUnavailable, if the database cannot serve this process."""
    availability = connections_of(sessions).availability
    raise_write_failure(availability)
    try:
        async with asyncio.timeout(READY_TIMEOUT_S), transaction(sessions) as session:
            await check_writable_sometimes(session, availability)
            gap = migrate.schema_gap(await read_revision(session))
    except TimeoutError:
        detail = f"The database did not respond within {READY_TIMEOUT_S} s (timeout)."
        raise DatabaseUnavailable(detail, reason="timeout") from None
    except DBAPIError as error:
        log.exception("readiness check failed")
        raise ServiceUnavailable("The database refused the readiness check; see the log of the gateway.") from error
    if gap:
        raise ServiceUnavailable(f"{gap}.")


async def read_revision(session: AsyncSession) -> str | None:
    """The revision of the schema, None without tables."""
    if await session.scalar(text("SELECT to_regclass('alembic_version')")) is None:
        return None
    revision: str | None = await session.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


async def read_server_version(session: AsyncSession) -> int:
    """The major version of the server."""
    return int(await session.scalar(text("SELECT current_setting('server_version_num')")) or 0) // 10000


async def read_clock(session: AsyncSession) -> datetime:
    """The time of the server, also within a transaction."""
    now: datetime = (await session.execute(text("SELECT clock_timestamp()"))).scalar_one()
    return now


async def missing_migration(sessions: Sessions, error: BaseException) -> str | None:
    """Why the schema lacks what a statement needs: it is older than this version. None for any other error."""
    if not is_missing_object(error):
        return None
    async with transaction(sessions) as session:
        return migrate.schema_gap(await read_revision(session))


async def check_writable(session: AsyncSession) -> None:
    """Raises DatabaseUnavailable if the database cannot be written. Changes nothing."""
    if await session.scalar(_READ_ONLY):
        explanation = "the server is read-only: a standby, or default_transaction_read_only is on"
        detail = "The database is unavailable (read_only); try again in a moment."
        raise DatabaseUnavailable(detail, reason="read_only", explanation=explanation)
    await session.execute(_SMALL_MEMORY)
    await session.execute(_SPILL)


def raise_write_failure(availability: DatabaseAvailability) -> None:
    """Raises DatabaseUnavailable for some seconds after a failed write."""
    outage = availability.outage
    if outage is not None and outage.reason in WRITE_FAILURES and availability.quiet_s < WRITE_FAILED_S:
        raise DatabaseUnavailable(outage.detail, reason=outage.reason, explanation=outage.explanation)


async def check_writable_sometimes(session: AsyncSession, availability: DatabaseAvailability) -> None:
    """`check_writable`, at most once per CHECK_EVERY_S while nothing fails."""
    if availability.outage is None and time.monotonic() - availability.checked_at < CHECK_EVERY_S:
        return
    await check_writable(session)
    availability.checked_at = time.monotonic()


async def watch_database(sessions: Sessions, stop: asyncio.Event) -> None:
    """Check the database once a second during an outage, and record its end. Returns after `stop`."""
    availability = connections_of(sessions).availability
    stopped = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set():
            outage = asyncio.create_task(availability.outage_began.wait())
            await asyncio.wait({outage, stopped}, return_when=asyncio.FIRST_COMPLETED)
            outage.cancel()
            if await _is_back(sessions, availability):
                availability.record_recovery()
            await asyncio.wait({stopped}, timeout=WATCH_EVERY_S)
    finally:
        stopped.cancel()


async def _is_back(sessions: Sessions, availability: DatabaseAvailability) -> bool:
    if availability.quiet_s < QUIET_S:
        return False
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S), transaction(sessions) as session:
            await check_writable(session)
    except (DatabaseUnavailable, TimeoutError):
        return False
    except SQLAlchemyError as error:
        log.debug("database check failed", error=repr(as_outage(error)))
        return False
    return True
