"""The captions of the samples byte for byte, read by three independent parsers."""

import html
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pysubs2
import pytest
import webvtt

from app.transcripts.captions import Cue
from app.transcripts.text import labelled
from tests.transcripts.ffmpeg import ReadCue, read_by_ffmpeg
from tests.transcripts.golden_files import FOLDER, NAMES, golden_cues, goldens
from tests.transcripts.imsc import read_by_ttconv

Reader = Callable[[str, str], list[ReadCue]]


def test_golden_files_equal_the_current_output() -> None:
    expected = dict(goldens())
    assert {path: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()} == expected


def ffmpeg(name: str, suffix: str) -> list[ReadCue]:
    return read_by_ffmpeg(_golden(name, suffix).read_text(encoding="utf-8"), suffix)


def pysubs(name: str, suffix: str) -> list[ReadCue]:
    read = pysubs2.SSAFile.from_string(_golden(name, suffix).read_text(encoding="utf-8"), format_=suffix)
    return [(event.start, event.end, event.plaintext) for event in read]


def webvtt_py(name: str, suffix: str) -> list[ReadCue]:
    read = webvtt.from_string(_golden(name, suffix).read_text(encoding="utf-8"), strict=True)
    return [
        (caption.start_time.in_milliseconds(), caption.end_time.in_milliseconds(), html.unescape(caption.text))
        for caption in read.captions
    ]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reader", [ffmpeg, pysubs])
def test_other_parsers_read_the_same_subrip_cues(reader: Reader, name: str) -> None:
    expected = [(cue.begin_time, cue.end_time, _plain(_labelled(cue))) for cue in golden_cues(name)]
    if expected or reader is not ffmpeg:  # FFmpeg rejects an empty file
        assert [(begin, end, _plain(text)) for begin, end, text in reader(name, "srt")] == expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reader", [ffmpeg, webvtt_py])
def test_other_parsers_read_the_same_webvtt_cues(reader: Reader, name: str) -> None:
    assert reader(name, "vtt") == [(cue.begin_time, cue.end_time, "\n".join(cue.lines)) for cue in golden_cues(name)]


@pytest.mark.parametrize("name", NAMES)
def test_an_imsc_reader_reads_the_same_ttml_cues(name: str) -> None:
    assert read_by_ttconv(_golden(name, "ttml").read_text(encoding="utf-8")) == [
        (cue.begin_time, cue.end_time, _labelled(cue)) for cue in golden_cues(name)
    ]


def _labelled(cue: Cue) -> str:
    return labelled(cue.speaker, "\n".join(cue.lines))


def _plain(text: str) -> str:
    """NFKC turns the look-alikes of markup back."""
    return unicodedata.normalize("NFKC", text.replace("-->", "→"))


def _golden(name: str, suffix: str) -> Path:
    return FOLDER / f"{name}.{suffix}"
