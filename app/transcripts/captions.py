"""Subtitles from a transcript: which words share a cue, on which lines, and how long it stays. Pure and streaming.

Cues follow each other in order of time and never overlap, whatever the upstream's times are: two channels that
speak at once take turns on the screen. Limits as subtitlers use them: two lines of 42 columns, at most 7 s,
at least 1 s, 20 columns a second.
"""

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import merge
from itertools import pairwise
from typing import Any, NamedTuple

from app.transcripts.line_breaking import Stretch, choose, joined, reach, width, wrap
from app.transcripts.text import in_time, label, needs_blank, select
from app.transcripts.word_timing import TimedSentence, time_words

MAX_CHARS_PER_LINE = 42
MAX_LINES = 2
# A cue that ends amid a phrase is worse than a short one: half a line before the fair share still is good for a comma,
# a line for a full stop.
CUE_PULL = 0.3
# Sentences of one cue. Each is copied with those before it, and nobody says as many in a second.
MAX_JOINED = 20
# Nobody reads what is shown for less.
MIN_CUE_MS = 300
# Nobody is shown later than so long after having spoken only so that others are seen.
MAX_LATE_MS = 5000


@dataclass(frozen=True, slots=True)
class CaptionOptions:
    """How captions are to look. Columns: a Chinese character takes two of them, a Latin letter one.

    A column limit too small for a character or a speaker's label is exceeded by it. `min_cue_ms` and
    `columns_per_s` are kept where the next cue leaves the time for it, the other limits always.
    """

    max_chars_per_line: int = MAX_CHARS_PER_LINE
    max_lines: int = MAX_LINES
    channel_id: int | None = None
    speakers: bool = False
    max_cue_ms: int = 7000
    min_cue_ms: int = 1000
    gap_ms: int = 800
    columns_per_s: int = 20


class Cue(NamedTuple):
    """One caption. Times in milliseconds, begin < end. `speaker` is the label to show, None unless asked for."""

    begin_time: int
    end_time: int
    lines: list[str]
    speaker: str | None
    channel_id: int | None


@dataclass(slots=True)
class _Draft:
    """A cue before the cues around it are known: its times may still overlap with theirs."""

    begin_time: int
    end_time: int
    stretch: Stretch
    speaker: str | None
    channel_id: int | None
    sentences: int = 1
    # It had to wait for another channel's, so it may have no time left of its own.
    late: bool = False


def cues(transcripts: Sequence[Mapping[str, Any]], options: CaptionOptions) -> Iterator[Cue]:
    """The captions of one channel, or of all channels interleaved by time, from a normalised document."""
    chosen = select(transcripts, options.channel_id)
    channels = [_channel(transcript, options, several=len(chosen) > 1) for transcript in chosen]
    for draft in _in_turn(merge(*channels, key=lambda draft: draft.begin_time), options):
        lines = wrap(draft.stretch, options.max_chars_per_line, _first_line(draft.speaker, options))
        speaker = draft.speaker if options.speakers else None
        yield Cue(draft.begin_time, draft.end_time, lines, speaker, draft.channel_id)


def srt(cues: Iterable[Cue]) -> Iterator[str]:
    """SubRip, a piece per cue. A speaker is written `Speaker 0: …`.

    SubRip has no escapes: an arrow in the text, which readers take for a time line, becomes `→`.
    """
    for number, cue in enumerate(cues, 1):
        lines = _labelled(cue).replace("-->", "→")
        yield f"{number}\n{_clock(cue.begin_time, ',')} --> {_clock(cue.end_time, ',')}\n{lines}\n\n"


def vtt(cues: Iterable[Cue]) -> Iterator[str]:
    """WebVTT, the header and then a piece per cue. A speaker is a voice: `<v Speaker 0>…`."""
    yield "WEBVTT\n"
    for cue in cues:
        voice = f"<v {html.escape(cue.speaker, quote=False)}>" if cue.speaker else ""
        lines = html.escape("\n".join(cue.lines), quote=False)
        yield f"\n{_clock(cue.begin_time, '.')} --> {_clock(cue.end_time, '.')}\n{voice}{lines}\n"


def text(cues: Iterable[Cue], *, blank_lines: bool) -> Iterator[str]:
    """The captions' lines without their times, a piece per cue. `blank_lines`: separate cues by a blank line."""
    for number, cue in enumerate(cues):
        gap = "" if number == 0 else "\n\n" if blank_lines else "\n"
        yield gap + _labelled(cue)


def _labelled(cue: Cue) -> str:
    return (f"{cue.speaker}: " if cue.speaker else "") + "\n".join(cue.lines)


def _clock(time_ms: int, point: str) -> str:
    hours, minutes, seconds = time_ms // 3_600_000, time_ms // 60_000 % 60, time_ms // 1000 % 60
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{time_ms % 1000:03}"


def _first_line(speaker: str | None, options: CaptionOptions) -> int:
    """The columns that SubRip's label leaves of the first line, and never less than half of them."""
    if not options.speakers or not speaker:
        return options.max_chars_per_line
    return options.max_chars_per_line - min(width(speaker) + 2, options.max_chars_per_line // 2)


def _channel(transcript: Mapping[str, Any], options: CaptionOptions, *, several: bool) -> Iterator[_Draft]:
    """The drafts of one channel, begins in ascending order even where the sentences overlap.

    A sentence begins a cue, unless what came before is too short to be read and leaves room for it.
    """
    channel_id = transcript.get("channel_id")
    earliest = 0
    held: _Draft | None = None
    for sentence in in_time(transcript):
        speaker = label(transcript, sentence, channels=several)
        first = _first_line(speaker, options)
        spoken = time_words(sentence, first)
        if spoken is None:
            continue
        for stretch in _cut(spoken, first, options):
            earliest = begin = max(earliest, spoken.begin(stretch.start))
            end = max(begin, min(spoken.end(stretch.stop), begin + options.max_cue_ms))
            draft = _Draft(begin, end, stretch, speaker, channel_id)
            both = _together(held, draft, options) if held else None
            if held and not both:
                yield held
            held = both or draft
    if held:
        yield held


def _cut(spoken: TimedSentence, first: int, options: CaptionOptions) -> Iterator[Stretch]:
    """A sentence in stretches that are each one cue: evenly filled, and ended after punctuation where possible."""
    passage = spoken.passage
    for begin, stop in pairwise([0, *spoken.silences(options.gap_ms), passage.last]):
        start = begin
        while start < stop:
            end = _reach(spoken, start, stop, first, options)
            if end < stop:
                rest = Stretch(passage, start, stop).columns
                fair = rest / -(-rest // max(1, Stretch(passage, start, end).columns))
                end = choose(passage, start, start + 1, end, fair, pull=CUE_PULL)
            yield Stretch(passage, start, end)
            start = end


def _reach(spoken: TimedSentence, start: int, stop: int, first: int, options: CaptionOptions) -> int:
    """The last break up to which all from `start` fits on a cue's lines and into its time."""
    end = min(stop, reach(spoken.passage, start, options.max_chars_per_line, first, options.max_lines))
    return spoken.said_by(spoken.begin(start) + options.max_cue_ms, end, start + 1)


def _together(held: _Draft, draft: _Draft, options: CaptionOptions) -> _Draft | None:
    """Both as one cue, if the first flashes by, nothing parts them and they fit together."""
    hasty = draft.begin_time - held.begin_time < options.min_cue_ms
    near = draft.begin_time - held.end_time < options.gap_ms
    if not (hasty and near and held.speaker == draft.speaker and held.sentences < MAX_JOINED):
        return None
    both = joined(held.stretch, draft.stretch, _blank_between(held.stretch, draft.stretch))
    end = max(held.end_time, draft.end_time)
    first = _first_line(held.speaker, options)
    fits = reach(both.passage, 0, options.max_chars_per_line, first, options.max_lines) == both.stop
    if not fits or end - held.begin_time > options.max_cue_ms:
        return None
    return replace(held, end_time=end, stretch=both, sentences=held.sentences + 1)


def _blank_between(left: Stretch, right: Stretch) -> bool:
    """Whether one is missing there."""
    before, after = left.passage, right.passage
    if before.begins[left.stop] > before.ends[left.stop]:
        return False
    return needs_blank(before.line(left.stop - 1, left.stop), after.line(right.start, right.start + 1))


def _in_turn(drafts: Iterable[_Draft], options: CaptionOptions) -> Iterator[_Draft]:
    """The drafts one after the other: each stays as long as it takes to read, or until the next one begins."""
    ahead = iter(drafts)
    held, following = next(ahead, None), next(ahead, None)
    while held and following:
        third = next(ahead, None)
        held.end_time = _end(held, following, third, options)
        yield held
        following.late = held.end_time > following.begin_time
        following.begin_time = max(held.end_time, following.begin_time)
        following.end_time = max(following.begin_time, following.end_time)
        held, following = following, third
    if held:
        held.end_time = _wanted_end(held, options)
        yield held


def _end(held: _Draft, following: _Draft, third: _Draft | None, options: CaptionOptions) -> int:
    """When one cue gives way to the next, which may wait for a while so that this one is seen, and read."""
    spoken = max(held.end_time, held.begin_time + 1)
    least = min(held.begin_time + min(MIN_CUE_MS, options.max_cue_ms), following.end_time + MAX_LATE_MS)
    hasty = following.begin_time - held.begin_time < options.min_cue_ms
    if following.begin_time >= spoken and not (held.late and hasty):
        end = min(_wanted_end(held, options), following.begin_time)
        # Of one channel each cue begins with its first word.
        return end if held.channel_id == following.channel_id else max(end, least)
    if not hasty:
        return following.begin_time
    more = min(_free_end(held, following, third, options), following.end_time + options.min_cue_ms)
    return max(following.begin_time, held.begin_time + _share(held, following, spoken, options), more, least)


def _share(held: _Draft, following: _Draft, spoken: int, options: CaptionOptions) -> int:
    """Who is talked over or late shares the time with the other, by width."""
    return min(max(1, _part(held, following, max(spoken, following.end_time) - held.begin_time)), options.max_cue_ms)


def _free_end(held: _Draft, following: _Draft, third: _Draft | None, options: CaptionOptions) -> int:
    """The same with the time that both take to be read, as far as nobody needs it before."""
    free = _reading(held, options) + _reading(following, options)
    part = _part(held, following, min(free, third.begin_time - held.begin_time) if third else free)
    return min(held.begin_time + part, _wanted_end(held, options))


def _part(held: _Draft, following: _Draft, time_ms: int) -> int:
    return time_ms * held.stretch.columns // max(1, held.stretch.columns + following.stretch.columns)


def _wanted_end(held: _Draft, options: CaptionOptions) -> int:
    """Until it has been spoken and can have been read, within the longest time that a cue may stay."""
    spoken = max(held.end_time, held.begin_time + 1)
    return max(spoken, held.begin_time + _reading(held, options))


def _reading(draft: _Draft, options: CaptionOptions) -> int:
    reading = max(options.min_cue_ms, draft.stretch.columns * 1000 // max(1, options.columns_per_s))
    return min(reading, options.max_cue_ms)
