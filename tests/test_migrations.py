"""The migrations, the tables that the code declares, and the way back."""

import asyncio

import asyncpg

from app import migrate
from tests.processes import run


async def test_head_equals_the_tables_that_the_code_declares(database_url: str) -> None:
    await asyncio.to_thread(migrate.check, database_url)


async def test_every_migration_can_be_undone_and_done_again(database_url: str) -> None:
    await asyncio.to_thread(migrate.downgrade, database_url, "base")
    await asyncio.to_thread(migrate.upgrade, database_url)
    await asyncio.to_thread(migrate.check, database_url)


async def test_processes_that_migrate_at_once_wait_for_each_other(database_url: str) -> None:
    await asyncio.to_thread(migrate.downgrade, database_url, "base")
    # Processes, not threads: what Alembic knows of a migration under way is global to a process.
    results = await asyncio.gather(*(run("migrate", DATABASE_URL=database_url) for _ in range(3)))
    assert [code for code, _, _ in results] == [0, 0, 0], results
    await asyncio.to_thread(migrate.check, database_url)


async def test_result_bodies_are_stored_without_a_second_compression(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)  # type: ignore[no-untyped-call]
    rows = await connection.fetch(
        "SELECT attstorage FROM pg_attribute WHERE attrelid = 'transcript_bodies'::regclass AND attname LIKE '%gzip'"
    )
    await connection.close()
    assert [row["attstorage"] for row in rows] == [b"e", b"e"]
