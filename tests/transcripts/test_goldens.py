"""The captions of the samples, byte for byte, and what three independent readers make of them."""

import html
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import pysubs2
import pytest
import webvtt
from av.container import InputContainer
from av.subtitles.subtitle import AssSubtitle

from app.transcripts.captions import Cue
from tests.transcripts.golden_files import FOLDER, NAMES, golden_cues, goldens

Seen = tuple[int, int, str]
Reader = Callable[[str, str], list[Seen]]


def test_the_goldens_are_what_is_written_today() -> None:
    expected = dict(goldens())
    assert {path: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()} == expected


def ffmpeg(name: str, suffix: str) -> list[Seen]:
    contents = io.BytesIO(_golden(name, suffix).read_bytes())
    with av.open(contents, mode="r", format={"srt": "srt", "vtt": "webvtt"}[suffix]) as file:
        return list(_packets(file))


def _packets(file: InputContainer) -> Iterator[Seen]:
    for packet in file.demux(file.streams.subtitles[0]):
        # The last one only tells the decoder that there are no more.
        if packet.pts is not None and packet.duration is not None:
            lines = [rect.dialogue.decode() for rect in packet.decode() if isinstance(rect, AssSubtitle)]
            yield packet.pts, packet.pts + packet.duration, "\n".join(lines)  # both formats count milliseconds


def pysubs(name: str, suffix: str) -> list[Seen]:
    read = pysubs2.SSAFile.from_string(_golden(name, suffix).read_text(encoding="utf-8"), format_=suffix)
    return [(event.start, event.end, event.plaintext) for event in read]


def webvtt_py(name: str, suffix: str) -> list[Seen]:
    read = webvtt.from_string(_golden(name, suffix).read_text(encoding="utf-8"), strict=True)
    return [
        (caption.start_time.in_milliseconds(), caption.end_time.in_milliseconds(), html.unescape(caption.text))
        for caption in read.captions
    ]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reader", [ffmpeg, pysubs])
def test_subrip_is_read_as_it_was_meant(reader: Reader, name: str) -> None:
    meant = [(cue.begin_time, cue.end_time, _labelled(cue).replace("-->", "→")) for cue in golden_cues(name)]
    if meant or reader is not ffmpeg:  # FFmpeg takes an empty file for damage
        assert reader(name, "srt") == meant


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reader", [ffmpeg, webvtt_py])
def test_webvtt_is_read_as_it_was_meant(reader: Reader, name: str) -> None:
    assert reader(name, "vtt") == [(cue.begin_time, cue.end_time, "\n".join(cue.lines)) for cue in golden_cues(name)]


def _labelled(cue: Cue) -> str:
    return (f"{cue.speaker}: " if cue.speaker else "") + "\n".join(cue.lines)


def _golden(name: str, suffix: str) -> Path:
    return FOLDER / f"{name}.{suffix}"
