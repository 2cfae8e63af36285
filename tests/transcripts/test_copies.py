"""Copies of transcripts: another head in front of the same contents, in gzip streams of any number of blocks."""

import gzip
import hashlib
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.transcripts.copies import with_head
from app.transcripts.document_reader import SentenceFilters, StoredDocument, find_sentences
from app.transcripts.normalise import normalise, write_document
from app.transcripts.seekable_gzip import GzipWriter, Written
from tests.transcripts.documents import hostile_transcripts, sentence, transcript

NOW = datetime(2026, 11, 28, 20, tzinfo=UTC)


def write(channels: list[dict[str, Any]], *, block_bytes: int, url: str, number: int = 1) -> Written:
    raw = orjson.dumps({"file_url": "https://e/raw.wav", "properties": {"a": 1.50}, "transcripts": channels})
    return write_document(
        normalise(raw, file_url=url, family="fun-asr"),
        GzipWriter(6, block_bytes=block_bytes),
        id=UUID(int=number),
        job_id=UUID(int=number + 1),
        model="fun-asr",
        region="beijing",
        created_at=NOW.replace(minute=number),
    )


def changes(*, url: str, number: int) -> dict[str, Any]:
    minute = NOW.replace(minute=number)
    return {"id": UUID(int=number), "job_id": UUID(int=number + 1), "file_url": url, "created_at": minute}


def check(channels: list[dict[str, Any]], block_bytes: int, url: str) -> None:
    original = write(channels, block_bytes=block_bytes, url="https://e/a.wav")
    copy = with_head(original.gzip, original.index, changes(url=url, number=7))
    expected = write(channels, block_bytes=block_bytes, url=url, number=7)
    json = gzip.decompress(copy.gzip)
    assert json == gzip.decompress(expected.gzip)
    assert (copy.sha256, copy.size_bytes) == (hashlib.sha256(json).digest(), len(json))
    document = StoredDocument(copy.index, lambda at, length: copy.gzip[at : at + length])
    other = StoredDocument(expected.index, lambda at, length: expected.gzip[at : at + length])
    assert (document.file_url, document.text()) == (url, other.text())
    assert list(find_sentences(document, SentenceFilters(), 10**6)) == find_sentences(other, SentenceFilters(), 10**6)
    assert [dict(each) | {"sentences": []} for each in document.transcripts()] == [
        dict(each) | {"sentences": []} for each in other.transcripts()
    ]


@pytest.mark.slow
@given(hostile_transcripts(), st.integers(1, 4000), st.sampled_from(["u:", "https://e/" + "录音" * 200]))
def test_copy_equals_the_document_written_with_the_other_head(
    channels: list[dict[str, Any]], block_bytes: int, url: str
) -> None:
    check(channels, block_bytes, url)


@pytest.mark.parametrize("sentences", [0, 1, 3000])
def test_copy_of_a_document_of_one_block_or_many(sentences: int) -> None:
    spoken = [sentence(f"Number {n}.", n * 1000, n * 1000 + 900) for n in range(sentences)]
    check([transcript(*spoken), transcript(*spoken, channel_id=1)], 64 * 1024, "https://e/b.wav")


def test_copy_of_a_copy_is_a_document_too() -> None:
    original = write([transcript(sentence("Hi.", 0, 900))], block_bytes=10, url="https://e/a.wav")
    copy = with_head(original.gzip, original.index, changes(url="https://e/much-longer-name.wav", number=3))
    back = with_head(copy.gzip, copy.index, changes(url="https://e/a.wav", number=1))
    assert gzip.decompress(back.gzip) == gzip.decompress(original.gzip)
