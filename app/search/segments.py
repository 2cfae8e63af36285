"""A transcript in segments: runs of sentences, small enough to read one for a hit, large enough to be few. Pure.

A segment holds what a hit shows, so one row answers; compressed, and so that no stretch of it is legible in a file.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import msgspec

from app.search.folding import BORDER, CHANNEL_BORDER, clean, fold
from app.search.terms import text_terms

SEGMENT_CHARACTERS = 3000
# The last sentences of a channel, so many or the end of the last, stand in the next segment again: a phrase may begin
# in them and go on.
OVERLAP_CHARACTERS = 400

# zlib stores what it cannot compress as it is, and short texts of rare characters are such: in other bytes, then.
_HIDE = bytes(byte ^ 0xA5 for byte in range(256))
# Two thirds of the time of level 6, and as small where it matters: a text of 4 kB has few repetitions.
_LEVEL = 1

# Channel, begin, end, speaker.
SentenceRow = tuple[int, int, int, Any]


@dataclass(frozen=True, slots=True)
class PreparedSegment:
    """What `service.insert_segments` writes."""

    number: int
    texts: bytes


@dataclass(frozen=True, slots=True)
class Segment:
    """`channels`: the sentences of each, parted by BORDER. The rest is read when there is a hit: most have none."""

    head: bytes
    channels: Sequence[str]

    def read_head(self) -> tuple[int, list[SentenceRow]]:
        """How many sentences were in the segment before already, and are here for what begins in them and goes on;
        and what belongs to the sentences of all channels, in order."""
        return _DECODER.decode(self.head)


class Segments:
    """Takes the sentences of one transcript in the order of the document."""

    def __init__(self, characters: int = SEGMENT_CHARACTERS, overlap_characters: int = OVERLAP_CHARACTERS) -> None:
        self._most_characters = characters
        self._overlap_characters = overlap_characters
        self._prepared: list[PreparedSegment] = []
        self._rows: list[tuple[SentenceRow, str]] = []
        self._overlap = 0
        self._characters = 0

    def add(self, channel_id: int, sentence: Mapping[str, Any]) -> None:
        """`sentence` has the upstream's keys, mended as `transcripts.document` does."""
        text = clean(sentence.get("text") or "")
        if not text:
            return
        if self._characters and self._characters + len(text) > self._most_characters:
            self._close(going_on_with=channel_id)
        row = (channel_id, sentence["begin_time"], sentence["end_time"], sentence.get("speaker_id"))
        self._rows.append((row, text))
        self._characters += len(text)

    def add_channel(self, channel: Mapping[str, Any]) -> None:
        """One of the document's `transcripts`."""
        channel_id = channel.get("channel_id", 0)
        for sentence in channel["sentences"]:
            self.add(channel_id, sentence)
        if not channel["sentences"]:
            self.add_text(channel_id, channel.get("text") or "")

    def add_text(self, channel_id: int, text: str) -> None:
        """What a channel without sentences says: found all the same, at no certain time."""
        self.add(channel_id, {"begin_time": 0, "end_time": 0, "text": text})

    def finish(self) -> list[PreparedSegment]:
        if self._characters:
            self._close(going_on_with=None)
        return self._prepared

    def _close(self, *, going_on_with: int | None) -> None:
        channels = [BORDER.join(text for _, text in group) for _, group in groupby(self._rows, key=_channel_of)]
        head = msgspec.json.encode((self._overlap, [row for row, _ in self._rows]))
        self._prepared.append(PreparedSegment(len(self._prepared), pack(Segment(head, channels))))
        self._rows = self._last_rows(going_on_with)
        self._overlap = len(self._rows)
        self._characters = 0

    def _last_rows(self, channel_id: int | None) -> list[tuple[SentenceRow, str]]:
        """Of the channel, at least one, be it cut."""
        left = self._overlap_characters
        rows: list[tuple[SentenceRow, str]] = []
        for row, text in reversed(self._rows):
            if row[0] != channel_id or (rows and len(text) > left):
                break
            rows.append((row, text[-self._overlap_characters :]))
            left -= len(text)
        return rows[::-1]


def pack(segment: Segment) -> bytes:
    plain = CHANNEL_BORDER.join([segment.head.decode(), *segment.channels]).encode()
    return zlib.compress(plain.translate(_HIDE), _LEVEL)


def unpack(texts: bytes) -> Segment:
    head, *channels = zlib.decompress(texts).translate(_HIDE).decode().split(CHANNEL_BORDER)
    return Segment(head.encode(), channels)


def segment_terms(segment: Segment) -> set[int]:
    return set().union(*(text_terms(fold(channel)) for channel in segment.channels))


def _channel_of(row: tuple[SentenceRow, str]) -> int:
    return row[0][0]


# Segments from before only ever had one sentence again, and say whether.
_DECODER = msgspec.json.Decoder(tuple[int | bool, list[SentenceRow]])
