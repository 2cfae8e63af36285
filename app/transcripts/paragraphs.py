"""Paragraphs of consecutive sentences of one speaker, as JSON and as Markdown. Pure and streaming."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson

from app.transcripts.csv_tsv import SpokenSentence
from app.transcripts.line_breaking import width
from app.transcripts.text import join, speaker_label, strip_controls

# A silence of this length ends a paragraph.
PAUSE_MS = 2000
# About 100 English words or 300 Chinese characters: half a minute to two minutes of speech.
MAX_COLUMNS = 600

# `>`, `-` and similar signs have a meaning only at the begin of a line. Spoken text never stands there.
_MARKS = re.compile(r"([\\`*_\[\]<~$#]|&(?=[#A-Za-z]))")


@dataclass(slots=True)
class Paragraph:
    """Times in milliseconds. A sentence longer than MAX_COLUMNS is a paragraph of its own."""

    begin_time: int
    end_time: int
    channel_id: int | None
    speaker_id: int | str | None
    texts: list[str] = field(default_factory=list)
    columns: int = 0

    @property
    def text(self) -> str:
        return join(self.texts)


def paragraphs(spoken: Iterable[SpokenSentence]) -> Iterator[Paragraph]:
    """A paragraph ends at another channel or speaker, at a pause, or at its maximum length. Skips empty sentences."""
    current: Paragraph | None = None
    for channel_id, sentence in spoken:
        text = " ".join(strip_controls(sentence["text"]).split())
        if not text:
            continue
        columns = width(text)
        if current is None or not _continues(current, channel_id, sentence, columns):
            if current:
                yield current
            begin = sentence["begin_time"]
            current = Paragraph(begin, begin, channel_id, sentence.get("speaker_id"))
        current.texts.append(text)
        current.columns += columns
        current.end_time = max(current.end_time, sentence["end_time"])
    if current:
        yield current


def paragraphs_json(spoken: Iterable[SpokenSentence]) -> Iterator[bytes]:
    """`{"items": […]}`, one piece per paragraph."""
    start = b'{"items":['
    for paragraph in paragraphs(spoken):
        yield start + orjson.dumps(
            {
                "begin_time": paragraph.begin_time,
                "end_time": paragraph.end_time,
                "channel_id": paragraph.channel_id,
                "speaker_id": paragraph.speaker_id,
                "text": paragraph.text,
                "sentences": len(paragraph.texts),
            }
        )
        start = b","
    yield (start if start != b"," else b"") + b"]}"


def markdown(spoken: Iterable[SpokenSentence], *, title: str, channels: bool, speakers: bool = True) -> Iterator[str]:
    """CommonMark: the title, then each paragraph with its speaker in bold and its begin as `[hh:mm:ss]`.

    `channels`: the document has several, so each speaker is labelled with the channel, as in captions.
    """
    yield f"# {_escaped(title)}\n"
    for paragraph in paragraphs(spoken):
        speaker = {"speaker_id": paragraph.speaker_id}
        channel = {} if paragraph.channel_id is None else {"channel_id": paragraph.channel_id}
        label = speaker_label(channel, speaker, channels=channels) if speakers else None
        bold_label = f"**{_escaped(label)}** " if label else ""
        yield f"\n{bold_label}[{_clock(paragraph.begin_time)}] {_escaped(paragraph.text)}\n"


def title_of(file_url: str) -> str:
    """The file's name without the query string, which may be a signature. The host if the URL has no file name."""
    parts = urlsplit(file_url)
    name = unquote(parts.path.rstrip("/").rpartition("/")[2])
    return " ".join(strip_controls(name).split()) or parts.hostname or "transcript"


def _continues(current: Paragraph, channel_id: int | None, sentence: Any, columns: int) -> bool:
    return (
        current.channel_id == channel_id
        and current.speaker_id == sentence.get("speaker_id")
        and sentence["begin_time"] - current.end_time < PAUSE_MS
        and current.columns + columns <= MAX_COLUMNS
    )


def _escaped(text: str) -> str:
    return _MARKS.sub(r"\\\1", text)


def _clock(time_ms: int) -> str:
    minutes, seconds = divmod(time_ms // 1000, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"
