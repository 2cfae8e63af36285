"""Runs migrations: one process at a time, all revisions in one transaction, never waiting long for a lock."""

import asyncio

from alembic import context
from sqlalchemy import Connection, text

import app.clients.models
import app.dashscope.models
import app.queue.models
import app.search.models
import app.transcripts.models
import app.uploads.models
import app.vocabularies.models
import app.webhooks.models  # noqa: F401 - each import declares its tables
from app.db import Base, create_engine
from app.embedded.server import start_embedded
from app.settings import load_settings

ADVISORY_LOCK = 0x617372_67617465  # "asr gate"


def database_url() -> str:
    """The URL that `app.migrate` passes; for the alembic command line that of the settings."""
    if url := context.config.attributes.get("database_url"):
        return str(url)
    settings = load_settings()
    if settings.database_url is None:
        return start_embedded(settings.data_dir)
    return settings.database_url.get_secret_value()


def migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=True)
    with context.begin_transaction():
        wait_for_turn(connection)
        context.run_migrations()


def wait_for_turn(connection: Connection) -> None:
    connection.execute(text(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"))
    # A migration that waits for a busy table makes everybody else wait behind it: better to fail and try again.
    connection.execute(text("SET LOCAL lock_timeout = '5s'"))
    connection.execute(text("SET LOCAL statement_timeout = '5min'"))


async def run() -> None:
    # No limit of the client's own: it would end the wait for another migration, and long index builds, after 30 s.
    engine = create_engine(database_url(), pool_size=1, application_name="asr-gateway migrate", command_timeout_s=None)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(migrate)
    finally:
        await engine.dispose()


def main() -> None:
    if context.is_offline_mode():
        raise SystemExit("Offline mode is not supported: migrations read the database.")
    asyncio.run(run())


main()
