"""Divides a transcript into segments: runs of sentences, small enough to be read for one hit, large enough to be few.

Pure. A segment holds everything that a hit shows, so one row is enough. It is compressed and obscured, so that no part
of the text is legible in the database's files.
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
# The last sentences of a channel, or the end of a long one, are repeated in the next segment, because a phrase may
# begin in one segment and continue in the next.
OVERLAP_CHARACTERS = 400

# zlib stores short texts of rare characters uncompressed, so all bytes are replaced before.
_OBSCURE = bytes(byte ^ 0xA5 for byte in range(256))
# Two thirds of the time of level 6 for about the same size: a text of 4 kB has few repetitions.
_LEVEL = 1

# Channel, begin, end, speaker.
SentenceRow = tuple[int, int, int, Any]


@dataclass(frozen=True, slots=True)
class PreparedSegment:
    """A segment for `indexing.insert_segments`."""

    number: int
    texts: bytes


@dataclass(frozen=True, slots=True)
class Segment:
    """`channels`: the sentences of each, separated by BORDER. `head` is parsed only if there is a hit."""

    head: bytes
    channels: Sequence[str]

    def read_head(self) -> tuple[int, list[SentenceRow]]:
        """The number of sentences repeated from the previous segment, and the rows of all sentences in order."""
        return _DECODER.decode(self.head)


class Segments:
    """Builds the segments of one transcript from its sentences in the order of the document."""

    def __init__(self, characters: int = SEGMENT_CHARACTERS, overlap_characters: int = OVERLAP_CHARACTERS) -> None:
        self._max_characters = characters
        self._overlap_characters = overlap_characters
        self._prepared: list[PreparedSegment] = []
        self._rows: list[tuple[SentenceRow, str]] = []
        self._overlap = 0
        self._characters = 0

    def add(self, channel_id: int, sentence: Mapping[str, Any]) -> None:
        """Add a sentence with the upstream's keys, checked already. Sentences without text are skipped."""
        text = clean(sentence.get("text") or "")
        if not text:
            return
        if self._characters and self._characters + len(text) > self._max_characters:
            self._close(next_channel=channel_id)
        row = (channel_id, sentence["begin_time"], sentence["end_time"], sentence.get("speaker_id"))
        self._rows.append((row, text))
        self._characters += len(text)

    def add_channel(self, channel: Mapping[str, Any]) -> None:
        """Add all sentences of an entry of `transcripts`."""
        channel_id = channel.get("channel_id", 0)
        for sentence in channel["sentences"]:
            self.add(channel_id, sentence)
        if not channel["sentences"]:
            self.add_text(channel_id, channel.get("text") or "")

    def add_text(self, channel_id: int, text: str) -> None:
        """Add the text of a channel without sentences. Its time is unknown and stored as 0."""
        self.add(channel_id, {"begin_time": 0, "end_time": 0, "text": text})

    def finish(self) -> list[PreparedSegment]:
        if self._characters:
            self._close(next_channel=None)
        return self._prepared

    def _close(self, *, next_channel: int | None) -> None:
        by_channel = groupby(self._rows, key=lambda row: row[0][0])
        channels = [BORDER.join(text for _, text in group) for _, group in by_channel]
        head = msgspec.json.encode((self._overlap, [row for row, _ in self._rows]))
        self._prepared.append(PreparedSegment(len(self._prepared), pack(Segment(head, channels))))
        self._rows = self._last_rows(next_channel)
        self._overlap = len(self._rows)
        self._characters = 0

    def _last_rows(self, channel_id: int | None) -> list[tuple[SentenceRow, str]]:
        """The rows that the next segment repeats: at least one of the channel, cut if it is long."""
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
    return zlib.compress(plain.translate(_OBSCURE), _LEVEL)


def unpack(texts: bytes) -> Segment:
    head, *channels = zlib.decompress(texts).translate(_OBSCURE).decode().split(CHANNEL_BORDER)
    return Segment(head.encode(), channels)


def segment_terms(segment: Segment) -> set[int]:
    return set().union(*(text_terms(fold(channel)) for channel in segment.channels))


# Old segments repeat at most one sentence and store a boolean.
_DECODER = msgspec.json.Decoder(tuple[int | bool, list[SentenceRow]])
