"""A claim reads few rows, however many clients wait."""

import pytest
from sqlalchemy import text

from app.db import Sessions, raw_connection_of, transaction
from app.queue.submit_queues import MAX_CLIENTS, SubmitQueue
from tests.queue.claims import claim_task
from tests.rows_read import rows_read

pytestmark = pytest.mark.new_connections

CLIENTS = 4 * MAX_CLIENTS

_FILL = """
    INSERT INTO clients (id, name, token_sha256)
    SELECT CAST(lpad(to_hex(n), 32, '0') AS uuid), n, CAST(CAST(n AS text) AS bytea)
    FROM generate_series(1, :clients) AS n;

    INSERT INTO jobs (id, client_id, model, region, requested_region, parameters, metadata, files_total, files_queued)
    SELECT id, id, 'fun-asr', 'beijing', 'beijing', '{}', '{}', 1, 1 FROM clients;

    INSERT INTO files (job_id, index, client_id, region, model, group_key, url)
    SELECT id, 0, id, 'beijing', 'fun-asr', CAST(lpad('7', 32, '0') AS uuid), 'https://example.com/' || id
    FROM jobs
"""


async def test_a_claim_reads_the_oldest_files_of_the_next_clients_only(sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        for statement in _FILL.split(";"):
            await session.execute(text(statement), {"clients": CLIENTS})
        await session.execute(text("ANALYZE files"))
    submit_queue = SubmitQueue("beijing/a", "beijing", "fun-asr", max_files=1, submits_per_s=10)
    async with transaction(sessions) as session:
        raw = await raw_connection_of(session)
        before = await rows_read(raw, "files")
        claim = await claim_task(session, submit_queue)
        read = await rows_read(raw, "files") - before
    assert claim is not None
    # Each client once, to know that it waits; then the heads of the next, and the files that may be picked.
    assert read <= CLIENTS + MAX_CLIENTS + 2 * (2 * 1 + 20)
