"""Words as CSV and sentences as TSV, read back by Python's csv module."""

import csv
import io
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given

from app.transcripts.csv_tsv import SENTENCE_COLUMNS, WORD_COLUMNS, SpokenSentence, sentences_tsv, words_csv
from tests.transcripts.documents import hostile_transcripts, plausible_transcripts, sentence, spoken, transcript
from tests.transcripts.golden_files import golden_transcripts

Transcripts = Sequence[dict[str, Any]]


def listed(*transcripts: dict[str, Any]) -> list[SpokenSentence]:
    return [SpokenSentence(each.get("channel_id"), item) for each in transcripts for item in each["sentences"]]


def read_csv(pieces: Iterable[str]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO("".join(pieces), newline=""), strict=True))


def read_tsv(pieces: Iterable[str]) -> list[dict[str, str]]:
    header, *lines = "".join(pieces).removesuffix("\n").split("\n")
    rows = csv.reader(lines, delimiter="\t", strict=True)
    return [dict(zip(header.split("\t"), row, strict=True)) for row in rows]


def test_words_are_rows_in_rfc_4180() -> None:
    words = golden_transcripts("funasr_two_channels_synthetic")
    assert "".join(words_csv(listed(*words[:1]))).split("\r\n")[:4] == [
        "channel_id,speaker_id,begin_time,end_time,text,punctuation",
        "0,,760,1000,Hello,",
        "0,,1000,1120,World,，",
        "0,,1400,1920,这里是,",
    ]


def test_each_sample_has_all_its_words() -> None:
    for name in ("paraformer_male2_seed", "funasr_diarized_synthetic", "qwen3_filetrans_words_docs_shape"):
        transcripts = golden_transcripts(name)
        rows = read_csv(words_csv(listed(*transcripts)))
        text = "".join(row["text"] + row["punctuation"] for row in rows)
        assert text == "".join(each["text"] for each in transcripts).replace(" ", ""), name


def test_csv_of_a_model_without_words_is_only_the_header() -> None:
    transcripts = golden_transcripts("sensevoice_seed")
    assert "".join(words_csv(listed(*transcripts))) == ",".join(WORD_COLUMNS) + "\r\n"


def test_commas_and_quotes_are_quoted() -> None:
    said = transcript(spoken((0, 5, 'he said "no, thanks"'), (5, 9, "a\r\nb"), speaker_id='x,"y"'))
    rows = read_csv(words_csv(listed(said)))
    assert [(row["speaker_id"], row["text"]) for row in rows] == [('x,"y"', 'he said "no, thanks"'), ('x,"y"', "a b")]


def test_a_word_without_times_has_empty_cells() -> None:
    said = transcript(sentence("Hi.", 0, 9, words=[{"text": "Hi", "punctuation": "."}]))
    assert list(words_csv(listed(said)))[1] == "0,,,,Hi,.\r\n"


@pytest.mark.parametrize(
    ("said", "cell"),
    [
        ("=1+1", "'=1+1"),
        ('=HYPERLINK("http://example.com")', '\'=HYPERLINK("http://example.com")'),
        ("\t=1", "'=1"),
        ("@SUM(1)", "'@SUM(1)"),
        ("＝1", "'＝1"),
        ("＋1+cmd", "'＋1+cmd"),
        ("-2+3+cmd|' /C calc'!A0", "'-2+3+cmd|' /C calc'!A0"),
        ("-5", "-5"),
        ("+86", "+86"),
        ("-3.5%", "-3.5%"),
        ("-", "-"),
        ("a=b", "a=b"),
        ("\u200b=1+1", "'\u200b=1+1"),
        ("\ufeff\u2060 @SUM(1)", "'\ufeff\u2060 @SUM(1)"),
        ("\u3164＝1", "'\u3164＝1"),
        ("\u200b-5", "\u200b-5"),
        ("\u200bHi", "\u200bHi"),
    ],
)
def test_formulas_get_an_apostrophe_and_numbers_do_not(said: str, cell: str) -> None:
    talk = transcript(spoken((0, 5, said), speaker_id=said, emotion=[said]))
    (word,) = read_csv(words_csv(listed(talk)))
    (line,) = read_tsv(sentences_tsv(listed(talk)))
    assert (word["text"], word["speaker_id"]) == (cell, cell)
    assert (line["text"], line["speaker_id"], line["emotion"]) == (cell, cell, cell)


def test_cells_that_excel_would_divide_are_quoted() -> None:
    said = transcript(spoken((0, 5, "x;=1+1"), speaker_id="a;=2"))
    assert list(words_csv(listed(said)))[1] == '0,"a;=2",0,5,"x;=1+1",\r\n'


@pytest.mark.parametrize("character", [chr(code) for code in range(0x10000) if unicodedata.category(chr(code)) == "Cf"])
def test_formula_behind_an_invisible_character_gets_an_apostrophe(character: str) -> None:
    if not unicodedata.name(character).startswith(("ARABIC", "SYRIAC")):  # number and verse signs have a width
        said = transcript(spoken((0, 5, f"{character}=1+1")))
        assert read_csv(words_csv(listed(said)))[0]["text"] == f"'{character}=1+1"


def test_tsv_has_a_line_per_sentence_with_emotion_and_event() -> None:
    assert "".join(sentences_tsv(listed(*golden_transcripts("sensevoice_synthetic_many_tags")))) == (
        "begin_time\tend_time\tchannel_id\tspeaker_id\ttext\temotion\tevent\n"
        "0\t7480\t0\t\tSenior staff, my fellow classmates.\tHAPPY\tApplause,Speech\n"
        "11880\t17640\t0\t\t\t\tBGM,Laughter\n"
    )


def test_the_single_emotion_of_qwen_is_one_cell() -> None:
    (line,) = read_tsv(sentences_tsv(listed(transcript(sentence("Hi.", 0, 9, emotion="neutral")))))
    assert line["emotion"] == "neutral"


def test_a_tsv_cell_that_begins_with_a_quotation_mark_is_quoted() -> None:
    """Python's reader of tables with tabs and those of spreadsheets take the mark for the begin of a quoted cell."""
    said = ['"Yes sure,', 'I said so."', '"', '"a" "b"', "plain"]
    written = "".join(sentences_tsv(listed(transcript(*(sentence(text, 0, 9) for text in said)))))
    rows = list(csv.DictReader(io.StringIO(written, newline=""), delimiter="\t", strict=True))
    assert [row["text"] for row in rows] == said
    assert 'I said so."' in written


@given(plausible_transcripts())
def test_csv_has_all_words_in_order(transcripts: Transcripts) -> None:
    rows = read_csv(words_csv(listed(*transcripts)))
    said = [word for each in transcripts for item in each["sentences"] for word in item.get("words", [])]
    assert [(row["text"], row["punctuation"]) for row in rows] == [
        (word["text"].strip(), word["punctuation"].strip()) for word in said
    ]


@pytest.mark.slow
@given(hostile_transcripts())
def test_any_sentence_becomes_one_row_with_all_columns(transcripts: Transcripts) -> None:
    spoken_ = listed(*transcripts)
    rows = read_csv(words_csv(spoken_))
    lines = read_tsv(sentences_tsv(spoken_))
    assert len(rows) == sum(len(item.get("words", [])) for _, item in spoken_)
    assert len(lines) == len(spoken_)
    assert all(tuple(row) == WORD_COLUMNS and None not in row.values() for row in rows)
    assert all(tuple(line) == SENTENCE_COLUMNS for line in lines)


@pytest.mark.slow
def test_150_000_words_are_all_written() -> None:
    words = [(time_ms, time_ms + 240, ["Hello ", "world, ", "这", "里", "是 "][time_ms % 5]) for time_ms in range(20)]
    talk = listed(transcript(*[spoken(*words)] * 7500))
    assert sum(piece.count("\r\n") for piece in words_csv(talk)) == 150_001
    assert sum(1 for _ in sentences_tsv(talk)) == 7501


def test_pieces_are_generated_one_by_one() -> None:
    def endless() -> Iterable[SpokenSentence]:
        while True:
            yield SpokenSentence(0, spoken((0, 5, "Hi")))

    for pieces in (words_csv(endless()), sentences_tsv(endless())):
        assert [next(iter(pieces)).count("\n") for _ in range(3)] == [1, 1, 1]
