"""Runs migrations: one process at a time, each revision in a transaction of its own, never waiting long for a lock."""

import asyncio
from typing import Any

from alembic import context
from alembic.util import CommandError
from asyncpg.exceptions import PostgresError
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

import app.clients.models
import app.dashscope.models
import app.queue.models
import app.search.models
import app.transcripts.models
import app.uploads.models
import app.usage.models
import app.vocabularies.models
import app.webhooks.models  # noqa: F401 - each import declares its tables
from app.db import Base, create_engine
from app.embedded.server import start_embedded
from app.settings import load_settings

# "asr-gate". Not the number of earlier versions: they wait for it in a statement, whose snapshot would keep the
# building of an index waiting.
ADVISORY_LOCK = 0x6173722D67617465
TURN_INTERVAL_S = 0.2
# While a change waits for the lock of a table, all later requests to the table wait behind it. So it waits for a
# moment, lets the requests pass, and tries again: for about two minutes.
LOCK_TIMEOUT = "100ms"
ATTEMPTS = 80
MAX_PAUSE_S = 2.0
LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED = "55P03", "40P01"

LIMITS = f"SELECT set_config('lock_timeout', '{LOCK_TIMEOUT}', true), set_config('statement_timeout', '5min', true)"
# The connection with the advisory lock is idle in its transaction until the last revision.
UNLIMITED = """
    SELECT set_config(name, '0', true) FROM pg_settings
    WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')
"""


def database_url() -> str:
    """The URL that `app.migrate` passes; for the alembic command line that of the settings."""
    if url := context.config.attributes.get("database_url"):
        return str(url)
    settings = load_settings()
    if settings.database_url is None:
        return start_embedded(settings.data_dir)
    return settings.database_url.get_secret_value()


async def run() -> None:
    # No limit of the client's own: it would end long index builds after 30 s.
    engine = create_engine(database_url(), pool_size=2, application_name="asr-gateway migrate", command_timeout_s=None)
    try:
        async with engine.connect() as turn, engine.connect() as connection:
            await wait_for_turn(turn)
            await migrate_patiently(connection)
    finally:
        await engine.dispose()


async def wait_for_turn(connection: AsyncConnection) -> None:
    """Take the lock of migrations, which ends with the open transaction of `connection`.

    Neither a waiting process nor the one with the lock has a snapshot, for which CREATE INDEX CONCURRENTLY would wait.
    The last statement is sent without a portal, because an open portal keeps its snapshot.
    """
    await connection.execution_options(isolation_level="READ COMMITTED")
    while not await connection.scalar(text(f"SELECT pg_try_advisory_xact_lock({ADVISORY_LOCK})")):
        await connection.rollback()
        await asyncio.sleep(TURN_INTERVAL_S)
    driver_connection: Any = (await connection.get_raw_connection()).driver_connection
    await driver_connection.execute(UNLIMITED)


async def migrate_patiently(connection: AsyncConnection) -> None:
    """Run the revisions, and repeat the one that did not get its locks. Raises CommandError after ATTEMPTS."""
    event.listen(connection.sync_connection, "begin", limit_waits)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            await connection.run_sync(migrate)
        except (DBAPIError, PostgresError) as error:
            # Statements outside of transactions raise asyncpg's errors: see `app.schema_changes.run_alone`.
            cause = error.orig if isinstance(error, DBAPIError) else error
            if getattr(cause, "sqlstate", None) not in {LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED}:
                raise
            reason: Exception = error
        else:
            return
        await connection.rollback()
        await asyncio.sleep(min(0.1 * attempt, MAX_PAUSE_S))
    raise CommandError(
        "another program keeps a table locked: end its transaction, and migrate again"
        " (pg_stat_activity shows transactions that are open for long)"
    ) from reason


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_server_default=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def limit_waits(connection: Connection) -> None:
    """Limit the waits of the transaction that begins. SQLAlchemy calls this before it counts as begun."""
    cursor = connection.connection.cursor()
    cursor.execute(LIMITS)
    cursor.close()


def main() -> None:
    if context.is_offline_mode():
        raise SystemExit("Offline mode is not supported: migrations read the database.")
    asyncio.run(run())


main()
