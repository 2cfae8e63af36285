"""Migrations beside a running gateway: locks, interrupted builds, and the rules for new revisions."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Connection, Engine, event

from app import migrate
from app.identifiers import new_id
from tests.filled_database import FILL, FILL_DELIVERIES, READS, ROWS, copy_job, copy_transcript

FIRST, WEBHOOKS = "20261123_0800", "20261123_1000"
# Tables with a row for each account or less. Their constraints may be replaced while they are locked.
SMALL_TABLES = {"blockages", "budgets", "circuits", "group_limits", "list_leases"}
# Many times the lock timeout of a migration, so a busy machine does not matter.
PATIENCE = "10s"

# Rows of each table that the transaction has read or written so far.
_TOUCHED = """
    SELECT relname, seq_tup_read + coalesce(idx_tup_fetch, 0) + n_tup_ins + n_tup_upd + n_tup_del
    FROM pg_stat_xact_user_tables
"""
# Tables to which nothing else can write until the transaction ends.
_LOCKED = """
    SELECT relation::regclass::text FROM pg_locks
    WHERE pid = pg_backend_pid() AND locktype = 'relation'
      AND mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
"""
_WAITING_MIGRATION = """
    SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE NOT granted AND locktype = 'relation'
      AND application_name = 'asr-gateway migrate' AND datname = current_database()
"""
_CREATE_INDEX = re.compile(r"\s*CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY)(?:IF NOT EXISTS )?\S+ ON (\w+)")
_CREATE_TABLE = re.compile(r"\s*CREATE TABLE (?:IF NOT EXISTS )?(\w+)")
_CHECKING = re.compile(
    r"ALTER TABLE (\w+) (?:ADD CONSTRAINT (?!.*NOT VALID).*|ALTER COLUMN \w+ (?:SET NOT NULL|TYPE .*))", re.DOTALL
)


@pytest.fixture
async def filled(database_url: str) -> str:
    """The URL of a database at the second revision, with rows in each table of size."""
    await asyncio.to_thread(migrate.downgrade, database_url, FIRST)
    async with connected(database_url) as connection:
        await connection.execute(FILL)
        await asyncio.to_thread(migrate.upgrade, database_url, WEBHOOKS)
        await connection.execute(FILL_DELIVERIES)
    return database_url


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url)  # type: ignore[no-untyped-call]
    try:
        yield connection
    finally:
        await connection.close()


@contextmanager
def listening(*listeners: tuple[str, Any]) -> Iterator[None]:
    """Listen to all engines: that of a migration is its own."""
    for name, listener in listeners:
        event.listen(Engine, name, listener)
    try:
        yield
    finally:
        for name, listener in listeners:
            event.remove(Engine, name, listener)


def rows(connection: Connection, query: str) -> list[Any]:
    cursor = connection.connection.cursor()
    cursor.execute(query)
    found = cursor.fetchall()
    cursor.close()
    return list(found)


async def test_no_transaction_of_a_migration_reads_a_table_that_it_locks(filled: str) -> None:
    """Such a lock would last in proportion to the rows. Building indexes and validating take weaker locks."""
    before: dict[str, int] = {}
    locked_for_long: list[tuple[str, int]] = []

    def begin(connection: Connection) -> None:
        before.clear()
        before.update((row[0], row[1]) for row in rows(connection, _TOUCHED))

    def commit(connection: Connection) -> None:
        touched = {row[0]: row[1] for row in rows(connection, _TOUCHED)}
        locked = [row[0] for row in rows(connection, _LOCKED)]
        existing = [(table, touched[table] - before[table]) for table in locked if table in before]
        locked_for_long.extend(each for each in existing if each[1] >= ROWS)

    with listening(("begin", begin), ("commit", commit)):
        await asyncio.to_thread(migrate.upgrade, filled)
    assert locked_for_long == []


async def test_requests_go_on_while_every_revision_runs(filled: str) -> None:
    migration = asyncio.create_task(asyncio.to_thread(migrate.upgrade, filled))

    async def requests() -> int:
        sent = 0
        async with connected(filled) as connection:
            await connection.execute(f"SET lock_timeout = '{PATIENCE}'")
            while not migration.done() or not sent:
                await connection.execute(copy_job(str(new_id())))
                await connection.execute(copy_transcript(str(new_id())))
                for read in READS:
                    await connection.execute(read)
                sent += 1
        return sent

    sent = sum(await asyncio.gather(*(requests() for _ in range(3))))
    await migration
    async with connected(filled) as connection:
        assert await connection.fetchval("SELECT count(*) FROM jobs") == ROWS + 1 + sent
        assert await connection.fetchval("SELECT count(*) FROM transcripts") == ROWS + sent
        assert await connection.fetchval("SELECT count(*) FROM transcript_segments") >= ROWS
        assert await connection.fetchval("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 0


async def test_a_change_that_waits_for_a_lock_lets_requests_pass(filled: str) -> None:
    """A transaction of another program uses the table for as long as the requests take."""
    async with connected(filled) as holder, connected(filled) as client:
        await client.execute(f"SET lock_timeout = '{PATIENCE}'")
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute(copy_transcript(str(new_id())))
        migration = asyncio.create_task(asyncio.to_thread(migrate.upgrade, filled))
        for _ in range(3):
            while not await client.fetchval(_WAITING_MIGRATION):
                assert not migration.done()
            await client.execute(copy_transcript(str(new_id())))
        await transaction.commit()
        await migration
        assert await client.fetchval("SELECT version_num FROM alembic_version") == migrate.head()


async def test_an_index_of_an_interrupted_migration_is_built_again(filled: str) -> None:
    async with connected(filled) as connection:
        await connection.execute("CREATE INDEX ix_jobs_unusual ON jobs (created_at)")
        await connection.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_jobs_unusual'::regclass"
        )
        await asyncio.to_thread(migrate.upgrade, filled)
        definition = await connection.fetchval("SELECT pg_get_indexdef('ix_jobs_unusual'::regclass)")
        assert "created_at" not in definition
        assert await connection.fetchval("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 0


async def test_an_interrupted_revision_can_be_repeated(filled: str) -> None:
    """Interrupted at its last statement: what ran outside of a transaction stays."""

    class Interrupted(Exception):
        pass

    def interrupt(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE alembic_version"):
            raise Interrupted

    for revision in migrate.revisions()[2:]:
        with listening(("before_cursor_execute", interrupt)), pytest.raises(Interrupted):
            await asyncio.to_thread(migrate.upgrade, filled, revision)
        await asyncio.to_thread(migrate.upgrade, filled, revision)
    await asyncio.to_thread(migrate.check, filled)
    async with connected(filled) as connection:
        assert await connection.fetchval("SELECT count(*) FROM usage") == ROWS
        assert await connection.fetchval("SELECT count(*) FROM transcript_segments") == ROWS


async def test_upgrades_index_and_check_existing_tables_without_locking_them(database_url: str) -> None:
    """CONTRIBUTING.md has the rules. `app.schema_changes` has the functions that follow them."""
    await asyncio.to_thread(migrate.downgrade, database_url, "base")
    sent: list[str] = []

    def execute(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    refused = []
    with listening(("before_cursor_execute", execute)):
        for revision in migrate.revisions():
            sent.clear()
            await asyncio.to_thread(migrate.upgrade, database_url, revision)
            refused += [(revision, statement) for statement in locking(sent)]
    assert refused == []


def locking(statements: list[str]) -> list[str]:
    """Those statements that lock a table, which they have not created, for as long as they read it."""
    exempt = SMALL_TABLES | {found[1] for each in statements if (found := _CREATE_TABLE.match(each))}
    return [
        each
        for each in statements
        if (found := _CREATE_INDEX.match(each) or _CHECKING.match(each.strip())) and found[1] not in exempt
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX ix_jobs_model ON jobs (model)",
        "\nCREATE UNIQUE INDEX uq_jobs_model ON jobs (model)",
        "ALTER TABLE files ADD CONSTRAINT ck_files_index CHECK (index >= 0)",
        "ALTER TABLE files ADD CONSTRAINT fk_files_client_id FOREIGN KEY(client_id) REFERENCES clients (id)",
        "ALTER TABLE jobs ALTER COLUMN webhook_url SET NOT NULL",
        "ALTER TABLE jobs ALTER COLUMN files_total TYPE BIGINT",
    ],
)
def test_a_statement_that_locks_an_existing_table_is_found(statement: str) -> None:
    assert locking([statement]) == [statement]
    table = re.findall(r"(?:ON|TABLE) (\w+)", statement)[0]
    assert locking([f"CREATE TABLE {table} (id UUID)", statement]) == []


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX CONCURRENTLY ix_jobs_model ON jobs (model)",
        "ALTER TABLE files ADD CONSTRAINT ck_files_index CHECK (index >= 0) NOT VALID",
        "ALTER TABLE files ADD COLUMN refusals SMALLINT DEFAULT '0' NOT NULL",
        "ALTER TABLE blockages ALTER COLUMN account SET NOT NULL",
    ],
)
def test_a_statement_with_a_short_lock_is_allowed(statement: str) -> None:
    assert locking([statement]) == []


async def test_a_concurrent_change_that_gets_no_lock_is_tried_again(filled: str) -> None:
    """A `lock_timeout` of the role also ends statements outside of transactions."""
    await asyncio.to_thread(migrate.upgrade, filled, "20261128_2000")
    async with connected(filled) as holder, connected(filled) as client:
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("LOCK TABLE tasks IN SHARE UPDATE EXCLUSIVE MODE")
        limited = f"{filled}{'&' if '?' in filled else '?'}lock_timeout=100ms"
        migration = asyncio.create_task(asyncio.to_thread(migrate.upgrade, limited, "20261128_2010"))
        for waiting in (True, False, True):
            while bool(await client.fetchval(_WAITING_MIGRATION)) is not waiting and not migration.done():
                pass
        assert not migration.done()
        await transaction.commit()
        await migration
        assert await client.fetchval("SELECT version_num FROM alembic_version") == "20261128_2010"
