"""Storing, indexing and deleting segments."""

import asyncio
from pathlib import Path
from uuid import UUID

import asyncpg
import httpx
import pytest
from sqlalchemy import func, select, text, update

from app.clients.service import CurrentClient
from app.db import Sessions, transaction
from app.search.indexing import BATCH, index_segments, insert_segments
from app.search.models import TranscriptSegment
from tests.search.search_case import sentences
from tests.search.segment_store import add_transcript, add_transcripts, index_all, index_batch, unindexed


@pytest.fixture
def client_id(api_client: tuple[CurrentClient, str]) -> UUID:
    return api_client[0].id


async def found(api: httpx.AsyncClient, q: str) -> int:
    response = await api.get("/v1/search", params={"q": q})
    return len(response.json()["items"])


async def test_the_poller_indexes_new_segments_in_batches(sessions: Sessions, client_id: UUID) -> None:
    await add_transcripts(sessions, client_id, [[sentences("你好")]] * (BATCH + 1), indexed=False)
    await index_batch(sessions)
    assert await unindexed(sessions) == 1
    await index_batch(sessions)
    assert await unindexed(sessions) == 0


async def test_pollers_share_the_indexing(sessions: Sessions, client_id: UUID) -> None:
    await add_transcripts(sessions, client_id, [[sentences("你好")]] * 30, indexed=False)
    async with transaction(sessions) as mine, transaction(sessions) as yours:
        assert [await index_segments(mine, 20), await index_segments(yours, 20)] == [20, 10]


async def test_a_stored_text_without_sentences_is_found(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    await add_transcript(sessions, client_id, {"channel_id": 0, "text": "你好。", "sentences": []})
    assert await found(api, "你好") == 1


async def test_a_transcript_older_than_search_is_segmented_and_found(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    """The migration inserts one placeholder per transcript; the poller replaces it by segments."""
    await add_transcript(sessions, client_id, sentences("你好", "甲" * 3000, "再见"))
    silent = await add_transcript(sessions, client_id)
    async with transaction(sessions) as session:
        await session.execute(text("DELETE FROM transcript_segments"))
        await session.execute(
            text("INSERT INTO transcript_segments (transcript_id, number, client_id)"
                 " SELECT id, 0, client_id FROM transcripts")
        )  # fmt: skip
    assert await found(api, "你好") == 0
    await index_all(sessions)
    assert (await found(api, "你好"), await found(api, "再见"), await unindexed(sessions)) == (1, 1, 0)
    async with transaction(sessions) as session:
        left = select(func.count()).select_from(TranscriptSegment).where(TranscriptSegment.transcript_id == silent)
        assert await session.scalar(left) == 0


async def test_a_candidate_without_the_text_is_no_hit(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    """The index only names candidates; here every segment has all terms."""
    await add_transcript(sessions, client_id, sentences("你好"))
    await add_transcript(sessions, client_id, sentences("再见"))
    async with transaction(sessions) as session:
        all_terms = await session.scalars(select(TranscriptSegment.terms))
        await session.execute(
            update(TranscriptSegment).values(terms=[term for terms in all_terms for term in terms or []])
        )
    assert await found(api, "你好") == 1


async def test_inserting_nothing_is_no_statement(sessions: Sessions, statements: list[str]) -> None:
    async with transaction(sessions) as session:
        await insert_segments(session, [])
    assert statements == []


@pytest.mark.parametrize("of", ["transcript", "job"])
async def test_deleted_text_is_in_no_database_file(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID, database_url: str, of: str
) -> None:
    phrases = ["quokka xylophone", "quokka", "龘靐齉爩", "龘靐"]
    transcript_id = await add_transcript(sessions, client_id, sentences("说龘靐齉爩 quokka xylophone", *["你好"] * 20))
    job_id = (await api.get(f"/v1/transcripts/{transcript_id}")).json()["job_id"]
    assert [await found(api, phrase) for phrase in phrases] == [1, 1, 1, 1]
    async with transaction(sessions) as session:
        await session.execute(text("UPDATE jobs SET status = 'succeeded', files_queued = 0, files_succeeded = 1,"
                                   " finished_at = now()"))  # fmt: skip
    gone = await api.delete(f"/v1/jobs/{job_id}" if of == "job" else f"/v1/transcripts/{transcript_id}")
    assert gone.status_code == 204
    assert [await found(api, phrase) for phrase in phrases] == [0, 0, 0, 0]
    async with transaction(sessions) as session:
        assert await session.scalar(select(func.count()).select_from(TranscriptSegment)) == 0
    contents = await _files(database_url)
    wanted = [phrase.encode(coding) for phrase in phrases for coding in ("utf-8", "utf-16-le", "utf-16-be")]
    assert [phrase for phrase in wanted if phrase in contents] == []


async def _files(database_url: str) -> bytes:
    """The contents of the database's files after a checkpoint: heaps, TOAST and indexes."""
    connection = await asyncpg.connect(database_url)  # type: ignore[no-untyped-call]
    try:
        await connection.execute("CHECKPOINT")
        folder = Path(await connection.fetchval("SHOW data_directory"))
        oid = await connection.fetchval("SELECT oid FROM pg_database WHERE datname = current_database()")
    finally:
        await connection.close()
    return await asyncio.to_thread(_contents, folder / "base" / str(oid))


def _contents(folder: Path) -> bytes:
    if not folder.exists():
        pytest.skip("the server's files are not on this machine")
    return b"".join(path.read_bytes() for path in folder.iterdir())
