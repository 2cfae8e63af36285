"""The words of a transcript without their times. Pure: works on the `transcripts` of a normalised document."""

import re
from collections.abc import Iterable, Mapping, Sequence
from heapq import merge
from typing import Any

from app.transcripts.lines import width

_HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")


def text(transcripts: Sequence[Mapping[str, Any]], *, channel_id: int | None = None, speakers: bool = False) -> str:
    """The text of all channels, or of one, joined by newlines; a channel without words takes no line.

    With `speakers` the sentences of all channels in order of time, one line for each turn: `Speaker 0: …`.
    """
    chosen = select(transcripts, channel_id)
    if speakers:
        return "\n".join(_turns(chosen))
    return "\n".join(transcript["text"] for transcript in chosen if transcript["text"])


def select(transcripts: Sequence[Mapping[str, Any]], channel_id: int | None) -> list[Mapping[str, Any]]:
    """The transcripts of one channel, or all of them. A channel that is not there has none."""
    return [
        transcript for transcript in transcripts if channel_id is None or transcript.get("channel_id") == channel_id
    ]


def in_time(transcript: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The sentences by begin; those that begin together keep the upstream's order."""
    return sorted(transcript["sentences"], key=_begin)


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
    if speaker is not None and str(speaker).strip():
        names.append(f"Speaker {' '.join(str(speaker).split())}")
    return ", ".join(names) or None


def _turns(transcripts: Sequence[Mapping[str, Any]]) -> list[str]:
    several = len(transcripts) > 1
    channels = [
        [
            (sentence["begin_time"], label(transcript, sentence, channels=several), sentence)
            for sentence in in_time(transcript)
        ]
        for transcript in transcripts
    ]
    turns: list[tuple[str | None, list[str]]] = []
    for _, name, sentence in merge(*channels, key=lambda entry: entry[0]):
        if not turns or turns[-1][0] != name:
            turns.append((name, []))
        turns[-1][1].append(sentence["text"])
    return [f"{name}: {join(texts)}" if name else join(texts) for name, texts in turns if any(texts)]


def _begin(sentence: Mapping[str, Any]) -> int:
    begin: int = sentence["begin_time"]
    return begin
