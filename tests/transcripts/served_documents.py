"""Documents as they are normalised, stored and served, for tests."""

import gzip
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from app.transcripts.normalise import Document, normalise, write_document
from app.transcripts.seekable_gzip import GzipWriter, Written
from tests.transcripts.documents import sentence, transcript

URL = "https://client.example/录音.wav"
ID = UUID("01980000-0000-7000-8000-000000000001")
# Values that are no times.
ODD_TIMES = ["", "soon", "7 60", "٣", "1e3", "00:00:01.200", "12s", "9" * 20, True, None, [], {}, 1e300, 10**18]


def normalised(document: object, family: str = "fun-asr") -> Document:
    return normalise(orjson.dumps(document), file_url=URL, family=family)


def one_sentence(**fields: Any) -> dict[str, Any]:
    return {"transcripts": [transcript({**sentence("Hi.", 0, 1000), **fields})]}


def written(document: Document, created_at: datetime = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)) -> Written:
    return write_document(
        document, GzipWriter(6), id=ID, job_id=str(ID), model="fun-asr", region="beijing", created_at=created_at
    )


def served(document: Document, created_at: datetime = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)) -> bytes:
    return gzip.decompress(written(document, created_at).gzip)
