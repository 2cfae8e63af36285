"""Searches among so many segments that the index is looked up by windows of them, and the rows that they read."""

import random
from uuid import UUID

import pytest
from sqlalchemy import text

from app.clients.service import CurrentClient
from app.db import Sessions, raw_connection_of, transaction
from app.search import candidates, searching
from app.search.candidates import COMMON, FIRST_WALK, READ_BATCH, WINDOWS, HitPosition
from app.search.filters import TranscriptFilters
from app.search.indexing import labels
from app.search.query import parse
from app.search.searching import SearchResult, search
from app.search.segments import Segments
from tests.rows_read import rows_read

pytestmark = [pytest.mark.slow, pytest.mark.new_connections]

# More than a window of segments. One in EVERY has the words, but for the newest.
SEGMENTS, NEWEST, EVERY = WINDOWS[0] + 800, 64, 50
MATCHES = [n for n in range(SEGMENTS - NEWEST, 0, -1) if n % EVERY == 0]
LIMIT = 50
# A segment is as large as one of a minute of speech: eight are on a page.
SPEECH = "".join(map(chr, random.Random(7).choices(range(0x5000, 0x5400), k=500)))

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
    segments.add(0, {"begin_time": 0, "end_time": 1000, "text": f"{sentence}。{SPEECH}"})
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
        for statement in [*_FILL.split(";"), "ANALYZE transcript_segments"]:
            await session.execute(text(statement), values)
    return client_id


@pytest.fixture(autouse=True)
def _limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many candidates to read all at once, and a page that no slow machine cuts short."""
    monkeypatch.setattr(candidates, "FEW", len(MATCHES) // 2)
    monkeypatch.setattr(searching, "READ_S", 60.0)
    monkeypatch.setattr(searching, "LOOK_UP_S", 60.0)


async def page(sessions: Sessions, client_id: UUID, q: str, start: HitPosition) -> tuple[SearchResult, int]:
    """A page of hits, and the rows of segments that were read for it."""
    async with transaction(sessions) as session:
        raw = await raw_connection_of(session)
        before = await rows_read(raw, "transcript_segments")
        found = await search(session, client_id, parse(q), TranscriptFilters(), limit=LIMIT, start=start)
        return found, await rows_read(raw, "transcript_segments") - before


async def test_pages_over_windows_have_each_hit_once_and_newest_first(sessions: Sessions, client_id: UUID) -> None:
    position: HitPosition | None = HitPosition()
    hits: list[int] = []
    while position is not None:
        found, _ = await page(sessions, client_id, "退款", position)
        hits += [hit.transcript_id.int for hit in found.hits]
        position = found.next
    assert hits == MATCHES


async def test_a_window_reads_the_rows_of_its_candidates_only(sessions: Sessions, client_id: UUID) -> None:
    assert 1 / EVERY < COMMON
    found, rows = await page(sessions, client_id, "退款", HitPosition())
    assert len(found.hits) == LIMIT
    # The walk; the entries up to the window's end, of pages that no vacuum has seen; the window's candidates, to check
    # their terms; and those of two batches, with their texts.
    assert rows <= FIRST_WALK + WINDOWS[0] + 1 + len(MATCHES) + 2 * READ_BATCH


async def test_words_that_no_segment_has_end_the_walk_early(sessions: Sessions, client_id: UUID) -> None:
    found, rows = await page(sessions, client_id, "送货", HitPosition())
    assert (found.hits, found.next) == ([], None)
    assert rows <= FIRST_WALK + READ_BATCH


async def test_a_walk_ends_when_the_page_is_full(sessions: Sessions, client_id: UUID) -> None:
    found, rows = await page(sessions, client_id, "你好", HitPosition())
    assert len(found.hits) == LIMIT
    assert rows <= 2 * READ_BATCH
