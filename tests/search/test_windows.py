"""Searches among so many candidates that the index is looked up by windows of segments."""

from uuid import UUID

import pytest
from sqlalchemy import text

from app.clients.service import CurrentClient
from app.db import Sessions, transaction
from app.search.filters import TranscriptFilters
from app.search.indexing import labels
from app.search.query import parse
from app.search.searching import FEW, FIRST_WALK, FIRST_WINDOW, HitPosition, search
from app.search.segments import Segments

# More than a window of segments. The newest have nothing to find, the others have it once in EVERY.
SEGMENTS, NEWEST, EVERY = FIRST_WINDOW + 800, 2 * FIRST_WALK, 16
MATCHES = [n for n in range(SEGMENTS - NEWEST, 0, -1) if n % EVERY == 0]
LIMIT = 50

_FILL = """
    INSERT INTO jobs (id, client_id, model, region, requested_region, parameters, metadata, files_total, files_queued)
    VALUES (CAST(:client_id AS uuid), :client_id, 'fun-asr', 'beijing', 'auto', '{}', '{}', 1, 1);

    INSERT INTO transcripts (id, client_id, job_id, file_index, file_url, model, region, audio_duration_ms, created_at)
    SELECT CAST(lpad(to_hex(n), 32, '0') AS uuid), :client_id, :client_id, 0, 'https://example.com/a.wav', 'fun-asr',
           'beijing', 1000, now()
    FROM generate_series(1, :segments) AS n;

    INSERT INTO transcript_segments (transcript_id, number, client_id, texts, terms)
    SELECT CAST(lpad(to_hex(n), 32, '0') AS uuid), 0, :client_id,
           CASE WHEN matches THEN CAST(:found AS bytea) ELSE CAST(:other AS bytea) END,
           CASE WHEN matches THEN CAST(:found_terms AS int[]) ELSE CAST(:other_terms AS int[]) END
    FROM generate_series(1, :segments) AS n,
         LATERAL (SELECT n % :every = 0 AND n <= :segments - :newest) AS given (matches)
"""


def segment(sentence: str) -> bytes:
    segments = Segments()
    segments.add(0, {"begin_time": 0, "end_time": 1000, "text": sentence})
    return segments.finish()[0].texts


@pytest.fixture
async def client_id(api_client: tuple[CurrentClient, str], sessions: Sessions) -> UUID:
    client_id = api_client[0].id
    own = labels(client_id)
    values = {
        "client_id": client_id,
        "segments": SEGMENTS,
        "newest": NEWEST,
        "every": EVERY,
        "found": segment("退款"),
        "other": segment("你好"),
        "found_terms": [*own, *parse("退款").terms],
        "other_terms": [*own, *parse("你好").terms],
    }
    async with transaction(sessions) as session:
        for statement in _FILL.split(";"):
            await session.execute(text(statement), values)
    return client_id


@pytest.mark.slow
async def test_pages_over_windows_have_each_hit_once_and_newest_first(sessions: Sessions, client_id: UUID) -> None:
    assert len(MATCHES) > FEW
    position: HitPosition | None = HitPosition()
    hits: list[int] = []
    while position is not None:
        async with transaction(sessions) as session:
            found = await search(session, client_id, parse("退款"), TranscriptFilters(), limit=LIMIT, start=position)
        hits += [hit.transcript_id.int for hit in found.hits]
        position = found.next
    assert hits == MATCHES
