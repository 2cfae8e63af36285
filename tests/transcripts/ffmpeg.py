"""Reads captions with FFmpeg's parsers and decoders, which PyAV contains."""

import io
from collections.abc import Iterator

import av
from av.container import InputContainer
from av.subtitles.subtitle import AssSubtitle

ReadCue = tuple[int, int, str]


def read_by_ffmpeg(captions: str, suffix: str) -> list[ReadCue]:
    """Begin and end in milliseconds, and the text, of each cue of an .srt or .vtt file."""
    with av.open(io.BytesIO(captions.encode()), mode="r", format={"srt": "srt", "vtt": "webvtt"}[suffix]) as file:
        return list(_packets(file))


def _packets(file: InputContainer) -> Iterator[ReadCue]:
    for packet in file.demux(file.streams.subtitles[0]):
        # The last packet is empty and only ends the stream.
        if packet.pts is not None and packet.duration is not None:
            lines = [rect.dialogue.decode() for rect in packet.decode() if isinstance(rect, AssSubtitle)]
            yield packet.pts, packet.pts + packet.duration, "\n".join(lines)  # both formats count milliseconds
