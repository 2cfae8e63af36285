"""Stores transcripts in the database, with their segments indexed or not."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import func, insert, select

from app.db import Sessions, transaction
from app.identifiers import new_id
from app.queue.models import Job
from app.search.indexing import index_segments
from app.search.models import TranscriptSegment
from app.transcripts.models import Transcript
from app.transcripts.normalise import normalise
from app.transcripts.storage import insert_transcripts, prepare_transcript, segment_old_transcripts

URL = "https://example.com/a.wav"


async def add_transcript(
    sessions: Sessions, client_id: UUID, *channels: dict[str, Any], indexed: bool = True, model: str = "fun-asr"
) -> UUID:
    """Store a transcript in a job of its own; returns its id."""
    (transcript_id,) = await add_transcripts(sessions, client_id, [channels], indexed=indexed, model=model)
    return transcript_id


async def add_transcripts(
    sessions: Sessions,
    client_id: UUID,
    documents: Sequence[Sequence[dict[str, Any]]],
    *,
    indexed: bool = True,
    model: str = "fun-asr",
) -> list[UUID]:
    job_id = new_id()
    prepared = []
    for number, channels in enumerate(documents):
        raw = orjson.dumps({"file_url": URL, "properties": {}, "transcripts": channels})
        document = normalise(raw, file_url=URL, family="fun-asr")
        prepared.append(
            prepare_transcript(
                Transcript(
                    client_id=client_id, job_id=job_id, file_index=number, file_url=URL, model=model, region="beijing"
                ),
                raw=raw,
                document=document,
            )
        )
    job = {"model": model, "region": "beijing", "requested_region": "auto", "parameters": {}, "metadata_": {}}
    async with transaction(sessions) as session:
        await session.execute(insert(Job).values(id=job_id, client_id=client_id, files_total=1, files_queued=1, **job))
        await insert_transcripts(session, prepared)
    if indexed:
        await index_all(sessions)
    return [each.id for each in prepared]


async def index_all(sessions: Sessions) -> None:
    while await unindexed(sessions):
        async with transaction(sessions) as session:
            await segment_old_transcripts(session)
        await index_batch(sessions)


async def index_batch(sessions: Sessions) -> int:
    async with transaction(sessions) as session:
        return await index_segments(session)


async def unindexed(sessions: Sessions) -> int:
    query = select(func.count()).select_from(TranscriptSegment).where(TranscriptSegment.terms.is_(None))
    async with transaction(sessions) as session:
        return await session.scalar(query) or 0
