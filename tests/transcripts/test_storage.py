"""Preparing and storing transcripts."""

import hashlib
import zlib
from uuid import UUID

import orjson
import pytest
from sqlalchemy import func, insert, select

from app.clients.models import Client
from app.db import Sessions, transaction
from app.identifiers import new_id
from app.queue.models import Job
from app.transcripts.models import Transcript, TranscriptBody
from app.transcripts.normalise import Document, empty_document, normalise
from app.transcripts.storage import PreparedTranscript, insert_transcripts, prepare_transcript
from tests.transcripts.documents import sentence

URL = "https://example.com/a.wav"
RAW = orjson.dumps(
    {
        "file_url": URL,
        "properties": {"original_duration_in_milliseconds": 4726},
        "transcripts": [{"channel_id": 0, "text": "你好。", "sentences": []}],
    }
)
DOCUMENT = normalise(RAW, file_url=URL, family="fun-asr")


def prepare(job_id: UUID, client_id: UUID, *, file_index: int = 0, document: Document = DOCUMENT) -> PreparedTranscript:
    return prepare_transcript(
        Transcript(
            client_id=client_id,
            job_id=job_id,
            file_index=file_index,
            file_url=document.file_url,
            model="fun-asr",
            region="beijing",
        ),
        raw=RAW,
        document=document,
    )


@pytest.fixture
async def job(sessions: Sessions) -> tuple[UUID, UUID]:
    client_id, job_id = new_id(), new_id()
    async with transaction(sessions) as session:
        await session.execute(insert(Client).values(id=client_id, name="acme", token_sha256=b"x"))
        row = {
            "client_id": client_id,
            "model": "fun-asr",
            "region": "beijing",
            "requested_region": "auto",
            "parameters": {},
            "metadata_": {},
        }
        await session.execute(insert(Job).values(id=job_id, files_total=2, files_queued=2, **row))
    return job_id, client_id


def test_a_prepared_transcript_has_the_upstream_bytes_and_the_document() -> None:
    prepared = prepare(new_id(), new_id())
    assert zlib.decompress(prepared.raw.gzip, 31) == RAW
    assert prepared.raw.sha256 == hashlib.sha256(RAW).digest()
    served = orjson.loads(zlib.decompress(prepared.document.gzip, 31))
    assert list(served) == [
        "id", "job_id", "file_url", "model", "region", "created_at", "text", "properties", "transcripts",
    ]  # fmt: skip
    assert (served["id"], served["text"]) == (str(prepared.id), "你好。")
    assert prepared.row.audio_duration_ms == 4726


def test_a_silent_file_has_duration_zero() -> None:
    assert prepare(new_id(), new_id(), document=empty_document(URL)).row.audio_duration_ms == 0


def test_a_missing_duration_becomes_the_end_of_speech() -> None:
    told = {"transcripts": [{"sentences": [sentence("Hi.", 0, 900), sentence("Ho.", 100, 200)]}]}
    document = normalise(orjson.dumps(told), file_url=URL, family="qwen3-asr")
    assert prepare(new_id(), new_id(), document=document).row.audio_duration_ms == 900


def test_a_transcript_of_hours_is_compressed() -> None:
    words = [{"begin_time": n, "end_time": n + 1, "text": "语音", "punctuation": ""} for n in range(40_000)]
    told = {"transcripts": [{"sentences": [{"begin_time": 0, "end_time": 9, "words": words}]}]}
    long = normalise(orjson.dumps(told), file_url=URL, family="fun-asr")
    prepared = prepare(new_id(), new_id(), document=long)
    assert len(prepared.document.gzip) < prepared.document.size_bytes / 5


async def test_transcripts_are_inserted_with_their_bodies(sessions: Sessions, job: tuple[UUID, UUID]) -> None:
    prepared = [prepare(*job, file_index=index) for index in range(2)]
    async with transaction(sessions) as session:
        await insert_transcripts(session, prepared)
    async with transaction(sessions) as session:
        rows = (await session.execute(select(Transcript).order_by(Transcript.file_index))).scalars().all()
        stored = await session.scalar(select(func.count()).select_from(TranscriptBody))
    assert [row.id for row in rows] == [item.id for item in prepared]
    assert rows[0].created_at == prepared[0].row.created_at
    assert stored == 2


async def test_inserting_nothing_is_no_statement(sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        await insert_transcripts(session, [])
