"""Stores transcripts in the database as the poller does."""

from typing import Any
from uuid import UUID

from sqlalchemy import insert

from app.db import Sessions, transaction
from app.identifiers import new_id
from app.queue.models import Job
from app.transcripts.models import Transcript
from app.transcripts.normalise import normalise
from app.transcripts.storage import PreparedTranscript, insert_transcripts, prepare_transcript
from tests.transcripts.documents import sample

URL = "https://example.com/a.wav"


async def store(
    sessions: Sessions,
    client_id: UUID,
    raw: bytes = b"",
    *,
    job_id: UUID | None = None,
    file_url: str = URL,
    **changes: Any,
) -> PreparedTranscript:
    """The transcript of a Fun-ASR sample, or of other bytes. `changes`: columns of its row."""
    prepared = prepare(
        raw or sample("funasr_two_channels_synthetic"), client_id, job_id=job_id or new_id(), file_url=file_url
    )
    for name, value in changes.items():
        setattr(prepared.row, name, value)
    return await store_prepared(sessions, prepared, with_job=job_id is None)


def prepare(raw: bytes, client_id: UUID, *, job_id: UUID, file_url: str = URL) -> PreparedTranscript:
    return prepare_transcript(
        Transcript(
            client_id=client_id, job_id=job_id, file_index=0, file_url=file_url, model="fun-asr", region="beijing"
        ),
        raw=raw,
        document=normalise(raw, file_url=file_url, family="fun-asr"),
    )


async def store_prepared(
    sessions: Sessions, prepared: PreparedTranscript, *, with_job: bool = True
) -> PreparedTranscript:
    async with transaction(sessions) as session:
        if with_job:
            await session.execute(insert(Job).values(id=prepared.row.job_id, client_id=prepared.row.client_id, **JOB))
        await insert_transcripts(session, [prepared])
    return prepared


JOB: dict[str, Any] = {
    "model": "fun-asr", "region": "beijing", "requested_region": "auto", "parameters": {}, "metadata_": {},
    "files_total": 1, "files_queued": 1,
}  # fmt: skip
