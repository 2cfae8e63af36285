"""The words of a transcript without their times. Pure: works on the `transcripts` of a normalised document."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import merge
from typing import Any

from app.transcripts.line_breaking import width

# Players and editors stop at NUL and show the others as boxes, or as nothing. Those that are line ends of some kind
# part words.
_CONTROLS = re.compile("\r(?=\n)|[\0-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]|([\x0b-\x0d\x1c-\x1f\x85])")
_HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")


class TimeOrdered:
    """Sentences that come in order of time already: read as they are needed, and never all of them at once."""

    def __init__(self, sentences: Iterable[Mapping[str, Any]]) -> None:
        self._sentences = sentences

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self._sentences)


def strip_controls(text: str) -> str:
    """Without control characters but tabs and newlines. The JSON document has what the upstream sent."""
    return text if text.isprintable() else _CONTROLS.sub(lambda found: " " if found[1] else "", text)


def text(
    transcripts: Sequence[Mapping[str, Any]], *, channel_id: int | None = None, speakers: bool = False
) -> Iterator[str]:
    """The text of all channels, or of one, joined by newlines, in pieces; a channel without words takes no line.

    With `speakers` the sentences of all channels in order of time, one line for each turn: `Speaker 0: …`.
    """
    chosen = select(transcripts, channel_id)
    if speakers:
        yield from _turns(chosen)
        return
    parted = ""
    for transcript in chosen:
        if words := strip_controls(transcript["text"]):
            yield parted + words
            parted = "\n"


def select(transcripts: Sequence[Mapping[str, Any]], channel_id: int | None) -> list[Mapping[str, Any]]:
    """The transcripts of one channel, or all of them. A channel that is not there has none."""
    return [
        transcript for transcript in transcripts if channel_id is None or transcript.get("channel_id") == channel_id
    ]


def in_time(transcript: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """The sentences by begin; those that begin together keep the upstream's order."""
    sentences = transcript["sentences"]
    return sentences if isinstance(sentences, TimeOrdered) else sorted(sentences, key=_begin)


def join(texts: Iterable[str]) -> str:
    """Sentences as one text: a blank only between scripts that have blanks, so none in Chinese."""
    joined: list[str] = []
    for part in texts:
        if joined and needs_blank(joined[-1], part):
            joined.append(" ")
        if part:
            joined.append(part)
    return "".join(joined)


def needs_blank(left: str, right: str) -> bool:
    """Whether two texts that are put together need a blank between them: `Hi.` and `You`, but not `好。` and `你`."""
    if not left or not right or left[-1].isspace() or right[0].isspace():
        return False
    return _is_spaced(left[-1]) and _is_spaced(right[0])


def _is_spaced(character: str) -> bool:
    """Whether its script puts blanks between words. Of the wide ones only Hangul does."""
    return width(character) < 2 or _HANGUL.match(character) is not None


def label(transcript: Mapping[str, Any], sentence: Mapping[str, Any], *, channels: bool) -> str | None:
    """Who speaks, by the upstream's own number (from 0), as `speaker_id` has it elsewhere: `Speaker 0`.

    With several `channels` the channel leads (`Channel 1`, `Channel 1, Speaker 0`): the upstream counts speakers
    per channel, and on a telephone call each channel is somebody.
    """
    names = [f"Channel {transcript['channel_id']}"] if channels and "channel_id" in transcript else []
    speaker = sentence.get("speaker_id")
    if speaker is not None and (name := " ".join(strip_controls(str(speaker)).split())):
        names.append(f"Speaker {name}")
    return ", ".join(names) or None


def _turns(transcripts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    channels = [_named(transcript, several=len(transcripts) > 1) for transcript in transcripts]
    speaking: str | None = ""  # nobody's name
    last, parted = "", ""
    for _, name, words in merge(*channels, key=lambda entry: entry[0]):
        if name != speaking:
            speaking, last = name, ""
        if not words:
            continue
        if last:
            yield " " + words if needs_blank(last, words) else words
        else:
            yield f"{parted}{name}: {words}" if name else parted + words
        last, parted = words, "\n"


def _named(transcript: Mapping[str, Any], *, several: bool) -> Iterator[tuple[int, str | None, str]]:
    for sentence in in_time(transcript):
        yield _begin(sentence), label(transcript, sentence, channels=several), strip_controls(sentence["text"])


def _begin(sentence: Mapping[str, Any]) -> int:
    begin: int = sentence["begin_time"]
    return begin
