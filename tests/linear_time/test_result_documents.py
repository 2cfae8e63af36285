"""Result documents are stored and rendered in linear time."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from app.search.segments import Segments
from app.transcripts import captions, csv_tsv, paragraphs
from app.transcripts.captions import CaptionOptions
from app.transcripts.csv_tsv import SpokenSentence
from app.transcripts.document_reader import StoredDocument
from app.transcripts.normalise import normalise, write_document
from app.transcripts.responses import render_captions, render_text
from app.transcripts.seekable_gzip import GzipWriter
from tests.linear_time.measure import LARGE, SMALL, assert_linear, assert_linear_for


def document(*channels: list[dict[str, Any]], **others: Any) -> bytes:
    transcripts = [{"channel_id": number, "sentences": channel} for number, channel in enumerate(channels)]
    return json.dumps({"transcripts": transcripts, **others}).encode()


def said(text: str, begin_time: int = 0, end_time: int = 10, **others: Any) -> dict[str, Any]:
    return {"begin_time": begin_time, "end_time": end_time, "text": text, **others}


def stored(raw: bytes) -> StoredDocument:
    written = write_document(
        normalise(raw, file_url="https://example.com/a.wav", family="sensevoice"),
        GzipWriter(1),
        id="1",
        job_id="2",
        model="m",
        region="r",
        created_at=datetime(2026, 11, 23, 8, tzinfo=UTC),
        segments=Segments(),
    )
    return StoredDocument(written.index, lambda at, length: written.gzip[at : at + length])


WIDE = CaptionOptions(max_chars_per_line=500, max_lines=20, speakers=True)


def spoken(found: StoredDocument) -> list[SpokenSentence]:
    return [
        SpokenSentence(position.channel, sentence)
        for position, sentence in found.sentences(found.entries(), ahead=True)
    ]


FORMS: dict[str, Callable[[StoredDocument], object]] = {
    "text": lambda found: list(render_text(found, channel_id=None, speakers=True)),
    "srt": lambda found: list(render_captions(found, CaptionOptions(), captions.srt)),
    "wide srt": lambda found: list(render_captions(found, WIDE, captions.srt)),
    "words": lambda found: list(csv_tsv.words_csv(spoken(found))),
    "sentences": lambda found: list(csv_tsv.sentences_tsv(spoken(found))),
    "paragraphs": lambda found: list(paragraphs.paragraphs_json(spoken(found))),
    "markdown": lambda found: list(paragraphs.markdown(spoken(found), title="a", channels=True)),
}
UNITS = ["天", "A. ", "(", "\u0323\u0301", "\u2061", "<|HAPPY|> "]


def shapes(unit: str) -> Iterator[tuple[str, Callable[[int], bytes]]]:
    unit_bytes = len(unit.encode())

    def one(size: int) -> str:
        return "a" * 50 + unit * (size // unit_bytes)

    def words(size: int, text: str) -> list[dict[str, Any]]:
        times = range(size // 40)
        return [{"text": text, "begin_time": time, "end_time": 10**9, "punctuation": ""} for time in times]

    yield "one sentence", lambda size: document([said(one(size))])
    yield "sentences", lambda size: document([said(unit) for _ in range(size // 40)])
    yield "words", lambda size: document([said(unit * (size // 40), words=words(size, unit))])
    yield "a text", lambda size: document([], text=one(size))
    yield "other words", lambda size: document([said(unit * (size // 20) + "b", words=words(size, unit + "c"))])


@pytest.mark.parametrize("unit", UNITS)
def test_documents(unit: str) -> None:
    for shape, make in shapes(unit):
        small, large = make(SMALL), make(LARGE)
        assert_linear_for(stored, small, large, f"{shape} of {unit}")
        small_document, large_document = stored(small), stored(large)
        for name, form in FORMS.items():
            assert_linear_for(form, small_document, large_document, f"{name} of {shape} of {unit}")


DAMAGE: dict[str, Callable[[int], bytes]] = {
    "halves": lambda size: b'{"transcripts":[],"a":"%b"}' % (rb"\ud83d" * (size // 6)),
    "backslashes": lambda size: b'{"transcripts":[],"a":"%b\\ud83d"}' % (rb"\\" * (size // 2)),
    "depth": lambda size: b'{"transcripts":[],"a":%b}' % (b"[" * size),
    "keys": lambda size: b'{"transcripts":[],%b:1}' % b",".join(b'"%x":1' % number for number in range(size // 9)),
    "digits": lambda size: document([said("a", "9" * size)]),  # type: ignore[arg-type]
    "speakers": lambda size: document([said("a", speaker_id=str(number)) for number in range(size // 70)]),
    "channels": lambda size: document(*([said("a")] for _ in range(size // 90))),
    "empty channels": lambda size: document(*([] for _ in range(size // 40))),
    "backwards": lambda size: document([said("a", 10**6 - number) for number in range(size // 50)]),
    "properties": lambda size: document([], properties={f"{number:x}": [[]] for number in range(size // 16)}),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_documents(case: str) -> None:
    def read(raw: bytes) -> None:
        found = stored(raw)
        for form in FORMS.values():
            form(found)

    assert_linear(read, DAMAGE[case], case)
