"""Lists read rows in proportion to their page, whatever the client and the others have stored."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from app.db import Sessions, raw_connection, raw_connection_of, transaction
from app.identifiers import lowest_id_at
from app.queue import queries
from app.queue.lifecycle import JobStatus
from app.queue.queries import JobFilters
from app.search.filters import TranscriptFilters
from app.transcripts.queries import list_transcripts
from tests.rows_read import pages_read, rows_read

pytestmark = pytest.mark.new_connections

JOBS, LIMIT = 2000, 21
# The entries of so many jobs fill pages of an index.
MANY_JOBS = 10_000
# A page of each of the groups that a filter selects.
MOST = 6 * LIMIT
MINE, OTHER = uuid4(), uuid4()
START = datetime(2026, 1, 1, tzinfo=UTC)

# A job a minute: mine are of fun-asr in Beijing, but for one in 1,000; one in 20 has failed. All of the other client
# have a pair that mine have not.
_FILL = """
    INSERT INTO clients (id, name, token_sha256)
    SELECT id, id, CAST(id AS text)::bytea FROM unnest(ARRAY[CAST(:mine AS uuid), CAST(:other AS uuid)]) AS given (id);

    INSERT INTO jobs (id, client_id, status, model, region, requested_region, parameters, metadata, files_total,
                      files_queued, files_succeeded, files_failed, finished_at, created_at)
    SELECT CAST(lpad(to_hex(CAST(:start_ms AS bigint) + n * 60000), 12, '0') || lpad('', 19, '0') || side AS uuid),
           CASE side WHEN '1' THEN CAST(:mine AS uuid) ELSE CAST(:other AS uuid) END,
           CASE n % 20 WHEN 0 THEN 'failed' ELSE 'succeeded' END,
           CASE n % 1000 WHEN 500 THEN 'paraformer-v2' ELSE 'fun-asr' END, 'beijing', 'auto', '{}',
           jsonb_build_object('call', CAST(n AS text), 'env', CASE side WHEN '1' THEN 'test' ELSE 'production' END),
           1, 0, CASE n % 20 WHEN 0 THEN 0 ELSE 1 END, CASE n % 20 WHEN 0 THEN 1 ELSE 0 END, now(),
           to_timestamp((CAST(:start_ms AS bigint) + n * 60000) / 1000)
    FROM generate_series(1, :jobs) AS n, unnest(ARRAY['1', '2']) AS side;

    INSERT INTO transcripts (id, client_id, job_id, file_index, file_url, model, region, audio_duration_ms, created_at)
    SELECT id, client_id, id, 0, 'https://example.com/a.wav', model, region, 1000, created_at FROM jobs
"""


def minute(number: int) -> datetime:
    return START + timedelta(minutes=number)


async def fill(sessions: Sessions, jobs: int = JOBS) -> None:
    values = {"mine": MINE, "other": OTHER, "jobs": jobs, "start_ms": int(START.timestamp() * 1000)}
    async with transaction(sessions) as session:
        for statement in _FILL.split(";"):
            await session.execute(text(statement), values)
        await session.execute(text("ANALYZE jobs, transcripts"))


@pytest.fixture
async def connection(sessions: Sessions) -> AsyncIterator[Any]:
    """A raw connection in a transaction, to a database with jobs and transcripts of two clients."""
    await fill(sessions)
    async with raw_connection(sessions) as connection, connection.transaction():
        yield connection


JOB_LISTS = [
    (JobFilters(), LIMIT),
    (JobFilters(model="fun-asr"), LIMIT),
    (JobFilters(model="paraformer-v2"), 2),
    (JobFilters(model="fun-asr-mtl"), 0),
    (JobFilters(region="beijing"), LIMIT),
    (JobFilters(region="singapore"), 0),
    (JobFilters(model="paraformer-v2", region="singapore"), 0),
    (JobFilters(statuses=[JobStatus.RUNNING]), 0),
    (JobFilters(statuses=[JobStatus.FAILED]), LIMIT),
    (JobFilters(statuses=[JobStatus.FAILED, JobStatus.RUNNING], model="fun-asr"), LIMIT),
    (JobFilters(statuses=[JobStatus.FAILED], model="paraformer-v2"), 2),
    (JobFilters(statuses=[JobStatus.SUCCEEDED]), LIMIT),
    (JobFilters(metadata={"env": "production"}), 0),
    (JobFilters(metadata={"env": "test"}), LIMIT),
    (JobFilters(metadata={"env": "test", "call": "7"}), 1),
    (JobFilters(metadata={"call": "7"}, model="fun-asr"), 1),
    (JobFilters(created_before=minute(-2000)), 0),
    (JobFilters(created_after=minute(JOBS + 3000)), 0),
    (JobFilters(model="fun-asr", before_id=lowest_id_at(minute(100))), LIMIT),
]
TRANSCRIPT_LISTS = [
    (TranscriptFilters(), LIMIT),
    (TranscriptFilters(model="paraformer-v2"), 2),
    (TranscriptFilters(model="fun-asr-mtl"), 0),
    (TranscriptFilters(region="singapore"), 0),
    (TranscriptFilters(created_before=minute(-2000)), 0),
    (TranscriptFilters(created_after=minute(JOBS + 3000)), 0),
    (TranscriptFilters(model="fun-asr", created_after=minute(JOBS + 3000)), 0),
    (TranscriptFilters(job_id=UUID(int=1)), 0),
]
REPEATS = 7  # PostgreSQL may switch to a generic plan after five


async def test_lists_of_jobs_read_few_rows(connection: Any) -> None:
    for filters, found in JOB_LISTS * REPEATS:
        before = await rows_read(connection, "jobs")
        listed = [each.job_id for each in await queries.list_versions(connection, MINE, filters, LIMIT)]
        assert len(listed) == found, filters
        assert listed == sorted(listed, reverse=True), filters
        assert await rows_read(connection, "jobs") - before <= MOST + 2 * LIMIT, filters


@pytest.mark.slow
async def test_a_list_by_metadata_reads_no_index_entries_of_other_clients(sessions: Sessions) -> None:
    """All jobs of the other client have the pair, and none of mine."""
    await fill(sessions, MANY_JOBS)
    others = JobFilters(metadata={"env": "production"})
    async with raw_connection(sessions) as connection:
        await connection.execute("VACUUM jobs")  # empties the pending list of the index
        for _ in range(REPEATS):
            async with connection.transaction():
                before = await pages_read(connection, "ix_jobs_metadata")
                assert not await queries.list_versions(connection, MINE, others, LIMIT)
                # The first page of the index for the plan, and again for the pending list; the way down to one entry.
                assert 0 < await pages_read(connection, "ix_jobs_metadata") - before <= 5


async def test_lists_of_transcripts_read_few_rows(connection: Any, sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        raw = await raw_connection_of(session)
        for filters, found in TRANSCRIPT_LISTS * REPEATS:
            before = await rows_read(raw, "transcripts")
            assert len(await list_transcripts(session, MINE, filters, None, LIMIT)) == found, filters
            assert await rows_read(raw, "transcripts") - before <= MOST + 2 * LIMIT, filters


async def test_time_filters_bound_the_ids_by_a_day(connection: Any, sessions: Sessions) -> None:
    """Ids and `created_at` may differ, so a list reads a day more than it shows."""
    filters = TranscriptFilters(created_after=minute(JOBS // 2), created_before=minute(JOBS // 2 + 10))
    async with transaction(sessions) as session:
        listed = await list_transcripts(session, MINE, filters, None, LIMIT)
    assert [each.created_at for each in listed] == [minute(JOBS // 2 + n) for n in range(9, 0, -1)]
