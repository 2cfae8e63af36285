"""Migrations: the resulting tables, downgrades, and the conversion of data."""

import asyncio
import gzip
import hashlib
from decimal import Decimal
from uuid import uuid4

import asyncpg
import orjson
from sqlalchemy import text

from app import migrate
from app.db import Sessions, raw_connection, transaction
from app.queue.queries import JobFilters, list_versions
from app.transcripts.block_indexing import index_old_documents
from app.transcripts.document_reader import SentenceFilters, StoredDocument, find_sentences
from app.transcripts.seekable_gzip import unpack
from tests.api_fixtures import new_client
from tests.jobs.rows import FAILED, NOW, QUEUED, SUCCEEDED, add_job
from tests.processes import run
from tests.transcripts.documents import sentence, transcript


async def test_the_migrated_schema_equals_the_declared_tables(database_url: str) -> None:
    await asyncio.to_thread(migrate.check, database_url)


async def test_every_migration_can_be_reverted_and_repeated(database_url: str) -> None:
    await asyncio.to_thread(migrate.downgrade, database_url, "base")
    await asyncio.to_thread(migrate.upgrade, database_url)
    await asyncio.to_thread(migrate.check, database_url)


async def test_concurrent_migrations_wait_for_each_other(database_url: str) -> None:
    await asyncio.to_thread(migrate.downgrade, database_url, "base")
    # Processes, not threads: Alembic keeps the state of a migration in global variables.
    results = await asyncio.gather(*(run("migrate", DATABASE_URL=database_url) for _ in range(2)))
    assert [code for code, _, _ in results] == [0, 0], results
    await asyncio.to_thread(migrate.check, database_url)


async def test_result_bodies_are_stored_without_a_second_compression(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)  # type: ignore[no-untyped-call]
    rows = await connection.fetch(
        "SELECT attstorage FROM pg_attribute WHERE attrelid = 'transcript_bodies'::regclass AND attname LIKE '%gzip'"
    )
    await connection.close()
    assert [row["attstorage"] for row in rows] == [b"e", b"e"]


async def test_pollers_index_documents_without_a_block_index(database_url: str, sessions: Sessions) -> None:
    transcripts = [
        {
            "mood": {"sentences": []},
            **transcript(
                *(sentence(f"Number {n}.", n * 1000, n * 1000 + 900) for n in range(3000)), channel_id=channel
            ),
        }
        for channel in range(2)
    ]
    json = orjson.dumps({"text": "Hi.", "properties": {}, "transcripts": [*transcripts, {"sentences": []}]})
    await asyncio.to_thread(migrate.downgrade, database_url, "20261123_1200")
    connection = await asyncpg.connect(database_url)  # type: ignore[no-untyped-call]
    await connection.execute("ALTER TABLE transcript_bodies DROP CONSTRAINT fk_transcript_bodies_transcript_id")
    body = gzip.compress(json), hashlib.sha256(json).digest(), len(json)
    await connection.execute("INSERT INTO transcript_bodies VALUES ($1, $2, $3, $4, $2, $3, $4)", uuid4(), *body)
    await connection.execute(
        "ALTER TABLE transcript_bodies ADD CONSTRAINT fk_transcript_bodies_transcript_id"
        " FOREIGN KEY (transcript_id) REFERENCES transcripts (id) ON DELETE CASCADE NOT VALID"
    )
    await asyncio.to_thread(migrate.upgrade, database_url)
    assert await connection.fetchval("SELECT document_index FROM transcript_bodies") is None
    for documents in (1, 0):
        async with transaction(sessions) as session:
            assert await index_old_documents(session) == documents
    moved, index = await connection.fetchrow("SELECT document_gzip, document_index FROM transcript_bodies")
    await connection.close()
    document = StoredDocument(unpack(index), lambda at, length: moved[at : at + length])
    assert gzip.decompress(moved) == json
    assert document.text() == "Hi."
    found = find_sentences(document, SentenceFilters(channel_id=1), 10_000)
    assert [each["begin_time"] for _, each in found] == [n * 1000 for n in range(3000)]
    assert [{**each, "sentences": [*each["sentences"]]} for each in document.transcripts(1)] == transcripts[1:]


async def test_open_circuits_get_the_current_codes(database_url: str) -> None:
    await asyncio.to_thread(migrate.downgrade, database_url, "20261123_1500")
    connection = await asyncpg.connect(database_url)  # type: ignore[no-untyped-call]
    await connection.execute(
        "INSERT INTO circuits (account, code, message, probe_at) VALUES"
        " ('beijing/a', 'account_refused', '', now()), ('beijing/b', 'account_in_arrears', '', now())"
    )
    await asyncio.to_thread(migrate.upgrade, database_url)
    rows = await connection.fetch("SELECT account, model, code FROM circuits ORDER BY account")
    assert [tuple(row) for row in rows] == [
        ("beijing/a", "", "account_key_refused"),
        ("beijing/b", "", "account_unpaid"),
    ]
    await connection.execute(
        "INSERT INTO circuits (account, model, code, message, probe_at)"
        " VALUES ('beijing/a', 'fun-asr', 'model_not_granted', '', now())"
    )
    await asyncio.to_thread(migrate.downgrade, database_url, "20261123_1500")
    rows = await connection.fetch("SELECT account, code FROM circuits ORDER BY account")
    await connection.close()
    assert [tuple(row) for row in rows] == [("beijing/a", "account_refused"), ("beijing/b", "account_in_arrears")]


async def test_the_index_of_metadata_can_be_reverted_while_jobs_are_stored(
    sessions: Sessions, database_url: str
) -> None:
    client, _ = await new_client(sessions, "tester")
    found = await add_job(sessions, client.id, [SUCCEEDED], metadata_={"team": "a", "call": "1"})
    await add_job(sessions, client.id, [SUCCEEDED], metadata_={"team": "b"})
    await add_job(sessions, client.id, [SUCCEEDED])
    await asyncio.to_thread(migrate.downgrade, database_url, "20261129_0040")
    await asyncio.to_thread(migrate.upgrade, database_url)
    await asyncio.to_thread(migrate.check, database_url)
    async with raw_connection(sessions) as connection:
        for metadata in ({"team": "a"}, {"call": "1", "team": "a"}):
            listed = await list_versions(connection, client.id, JobFilters(metadata=metadata), 10)
            assert [each.job_id for each in listed] == [found]
        # Without statistics of the index, the planner reads all jobs of a client that has very many.
        known = "SELECT attname FROM pg_stats WHERE tablename = 'ix_jobs_metadata'"
        assert len(await connection.fetch(known)) == 1


async def test_stored_files_are_in_the_usage(sessions: Sessions, database_url: str) -> None:
    client, _ = await new_client(sessions, "tester")
    billed = {**SUCCEEDED, "billed_s": 4, "cost": "0.00088"}
    await add_job(sessions, client.id, [billed, FAILED, QUEUED], metadata_={"team": "a"})
    await add_job(sessions, client.id, [SUCCEEDED], model="qwen-audio-3.1-asr-flash-filetrans")
    await asyncio.to_thread(migrate.downgrade, database_url, "20261128_2120")
    await asyncio.to_thread(migrate.upgrade, database_url)
    async with transaction(sessions) as session:
        rows = await session.execute(
            text("SELECT at, client, metadata, files, audio_ms, billed_s, cost, currency FROM usage ORDER BY currency")
        )
    assert [tuple(row) for row in rows] == [
        (NOW, "tester", {"team": "a"}, 1, 4726, 4, Decimal("0.00088"), "CNY"),
        (NOW, "tester", {}, 1, 4726, 0, 0, "USD"),
    ]
