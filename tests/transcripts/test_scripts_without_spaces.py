"""Thai, Lao, Burmese, Khmer and Tibetan: lines end after words, and never inside a syllable."""

import re
import unicodedata
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.transcripts.captions import CaptionOptions
from app.transcripts.line_breaking import split, width
from tests.transcripts.documents import FIELD, cues, sentence, transcript
from tests.transcripts.golden_files import golden_transcripts

NEVER_FIRST = "ะาำๅๆฯະາຳ"
NEVER_LAST = "เแโใไເແໂໃໄ\u17d2\u1039"
BURMESE_END = re.compile("[\u1000-\u1021]\u1037?\u103a")


def lines(transcripts: list[dict[str, Any]], **options: Any) -> list[str]:
    return [line for cue in cues(transcripts, CaptionOptions(**options)) for line in cue.lines]


@pytest.mark.parametrize("columns", [20, 30, 42])
def test_thai_lines_end_after_words(columns: int) -> None:
    transcripts = golden_transcripts("20-result-thai-words")
    ends, at = set(), 0
    for word in (word for item in transcripts[0]["sentences"] for word in item["words"]):
        at += len(word["text"].strip())
        ends.add(at)
    at = 0
    for line in lines(transcripts, max_chars_per_line=columns):
        at += len(line)
        assert at in ends
        assert width(line) <= columns


@given(
    st.text("กขคงเแโไะาำๆฯ่้ิัເກະາຳកខ\u17d2\u17b6\u17c6កမန်မာ\u1039ပ့း", min_size=1, max_size=80),
    st.integers(4, 30),
)
def test_no_line_begins_or_ends_inside_a_syllable(said: str, columns: int) -> None:
    if unicodedata.category(said[0]).startswith("M") or said[-1] in NEVER_LAST:
        return
    parts = split(said, columns)
    assert "".join(parts) == said
    for left, right in pairwise(parts):
        assert right[0] not in NEVER_FIRST
        assert not unicodedata.category(right[0]).startswith("M")
        assert not BURMESE_END.match(right)
        assert left[-1] not in NEVER_LAST


@pytest.mark.parametrize(
    ("said", "words", "parts"),
    [
        ("สวัสดีครับ", {6, 10}, ["สวัสดี", "ครับ"]),
        ("เร็วๆนี้", {4, 5, 8}, ["เร็วๆ", "นี้"]),
        ("ສະບາຍດີ", {7}, ["ສະບາຍດີ"]),
        ("ខ្មែរ\u200bភាសា", None, ["ខ្មែរ\u200b", "ភាសា"]),
        ("བོད་སྐད་", None, ["བོད་", "སྐད་"]),
    ],
)
def test_words_and_separators_are_breaks(said: str, words: set[int] | None, parts: list[str]) -> None:
    assert split(said, 42, words) == parts


@pytest.mark.parametrize("blank", ["\u00a0", "\u202f"])
def test_no_break_spaces_stay_and_are_no_break(blank: str) -> None:
    said = f"Le prix est de 12{blank}000{blank}euros, dit{blank}: «{blank}Oui{blank}» et 中{blank}文"
    found = lines([transcript(sentence(said, 0, 9000))], max_chars_per_line=14, max_lines=9)
    assert blank.join(found).count(blank) >= said.count(blank)
    assert f"12{blank}000{blank}euros," in found
    assert any(f"中{blank}文" in line for line in found)


def test_the_reported_documents_are_here() -> None:
    assert len(list(FIELD.glob("*.json"))) >= 8
