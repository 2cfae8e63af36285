"""The text of a transcript without times. Pure: works on the `transcripts` of a normalised document."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import merge
from typing import Any

from app.transcripts.line_breaking import width

# Players and editors stop at NUL and show other control characters as boxes, or not at all. Control characters that
# act as line ends become a space.
_CONTROLS = re.compile("\r(?=\n)|[\0-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]|([\x0b-\x0d\x1c-\x1f\x85])")
_HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")


class TimeOrdered:
    """Sentences that are in order of time already. They are read during iteration, not all at once."""

    def __init__(self, sentences: Iterable[Mapping[str, Any]]) -> None:
        self._sentences = sentences

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self._sentences)


def strip_controls(text: str) -> str:
    """The text without control characters except tabs and newlines. The JSON document is not stripped."""
    return text if text.isprintable() else _CONTROLS.sub(lambda found: " " if found[1] else "", text)


def text(
    transcripts: Sequence[Mapping[str, Any]], *, channel_id: int | None = None, speakers: bool = False
) -> Iterator[str]:
    """The text of one channel or of all, one line per channel, in pieces. A channel without text has no line.

    With `speakers`: the sentences of all channels in order of time, one line per speaker change: `Speaker 0: …`.
    """
    chosen = select_channel(transcripts, channel_id)
    if speakers:
        yield from _speaker_lines(chosen)
        return
    separator = ""
    for transcript in chosen:
        if words := strip_controls(transcript["text"]):
            yield separator + words
            separator = "\n"


def select_channel(transcripts: Sequence[Mapping[str, Any]], channel_id: int | None) -> list[Mapping[str, Any]]:
    """The transcripts of one channel, or all of them with None. An unknown channel has no transcripts."""
    return [
        transcript for transcript in transcripts if channel_id is None or transcript.get("channel_id") == channel_id
    ]


def by_time(transcript: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """The sentences by begin. Sentences that begin together keep the upstream's order."""
    sentences = transcript["sentences"]
    return sentences if isinstance(sentences, TimeOrdered) else sorted(sentences, key=_begin)


def join(texts: Iterable[str]) -> str:
    """Sentences as one text, with spaces only between scripts that use spaces; so none in Chinese."""
    joined: list[str] = []
    for part in texts:
        if joined and needs_space(joined[-1], part):
            joined.append(" ")
        if part:
            joined.append(part)
    return "".join(joined)


def needs_space(left: str, right: str) -> bool:
    """Whether a space belongs between two texts: between `Hi.` and `You`, but not between `好。` and `你`."""
    if not left or not right or left[-1].isspace() or right[0].isspace():
        return False
    return _is_spaced(left[-1]) and _is_spaced(right[0])


def _is_spaced(character: str) -> bool:
    """Whether the character's script puts spaces between words. Of the wide scripts only Hangul does."""
    return width(character) < 2 or _HANGUL.match(character) is not None


def speaker_label(transcript: Mapping[str, Any], sentence: Mapping[str, Any], *, channels: bool) -> str | None:
    """The speaker by the upstream's number, as in `speaker_id`: `Speaker 0`. None if it is unknown.

    With several `channels` the channel comes first (`Channel 1`, `Channel 1, Speaker 0`): upstream counts speakers
    per channel, and in a telephone call each channel is one person.
    """
    names = [f"Channel {transcript['channel_id']}"] if channels and "channel_id" in transcript else []
    speaker = sentence.get("speaker_id")
    if speaker is not None and (name := " ".join(strip_controls(str(speaker)).split())):
        names.append(f"Speaker {name}")
    return ", ".join(names) or None


def _speaker_lines(transcripts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    channels = [_labelled_texts(transcript, several=len(transcripts) > 1) for transcript in transcripts]
    speaking: str | None = ""  # differs from every label
    last, separator = "", ""
    for _, name, words in merge(*channels, key=lambda entry: entry[0]):
        if name != speaking:
            speaking, last = name, ""
        if not words:
            continue
        if last:
            yield " " + words if needs_space(last, words) else words
        else:
            yield f"{separator}{name}: {words}" if name else separator + words
        last, separator = words, "\n"


def _labelled_texts(transcript: Mapping[str, Any], *, several: bool) -> Iterator[tuple[int, str | None, str]]:
    for sentence in by_time(transcript):
        label = speaker_label(transcript, sentence, channels=several)
        yield _begin(sentence), label, strip_controls(sentence["text"])


def _begin(sentence: Mapping[str, Any]) -> int:
    begin: int = sentence["begin_time"]
    return begin
