"""Documents of early versions are served as others, before and after a poller has indexed them."""

import gzip
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select, text, update

from app.db import Sessions, transaction
from app.transcripts.block_indexing import index_old_documents
from app.transcripts.models import TranscriptBody
from tests.search.search_case import sentences
from tests.search.segment_store import add_transcript

pytestmark = pytest.mark.new_connections

FORMS = ["", "/raw", "/sentences?limit=2", "/text", "/srt", "/vtt?speakers=true"]


async def make_old(sessions: Sessions, transcript_id: UUID) -> None:
    """Store the document in one block without an index."""
    mine = TranscriptBody.transcript_id == transcript_id
    async with transaction(sessions) as session:
        document_gzip = await session.scalar(select(TranscriptBody.document_gzip).where(mine))
        assert document_gzip is not None
        old = {"document_gzip": gzip.compress(gzip.decompress(document_gzip)), "document_index": None}
        await session.execute(update(TranscriptBody).where(mine).values(old))


async def forms(api: httpx.AsyncClient, transcript_id: UUID) -> list[tuple[int, str, str]]:
    responses = [await api.get(f"/v1/transcripts/{transcript_id}{form}") for form in FORMS]
    return [(each.status_code, each.headers["ETag"], each.text) for each in responses]


async def test_an_old_document_has_the_same_forms_before_and_after_its_indexing(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    transcript_id = await add_transcript(sessions, client_id, sentences("你好", "再见", "Good day."))
    expected = await forms(api, transcript_id)
    assert {status for status, _, _ in expected} == {200}
    await make_old(sessions, transcript_id)
    assert await forms(api, transcript_id) == expected
    for documents in (1, 0):
        async with transaction(sessions) as session:
            assert await index_old_documents(session) == documents
    assert await forms(api, transcript_id) == expected


async def test_old_documents_are_found_by_their_index_alone(sessions: Sessions, client_id: UUID) -> None:
    """So the poller may look for them again and again among a million transcripts."""
    await add_transcript(sessions, client_id, sentences("你好"))
    async with transaction(sessions) as session:
        await session.execute(text("SET LOCAL enable_seqscan = off"))
        query = "SELECT transcript_id FROM transcript_bodies WHERE document_index IS NULL ORDER BY 1 DESC LIMIT 50"
        plan = "\n".join(await session.scalars(text(f"EXPLAIN {query}")))
    assert "ix_transcript_bodies_unindexed" in plan
