"""Captions from a transcript: which words share a cue, on which lines, and how long a cue stays. Pure and streaming.

Cues are in order of time and never overlap, whatever times upstream sent: if two channels speak at once, their cues
alternate. The limits are those that subtitlers use: two lines of 42 columns, 1 to 7 s, 20 columns per second.
"""

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import merge
from itertools import pairwise
from typing import Any, NamedTuple

from app.transcripts.line_breaking import TextSpan, best_break, join_spans, last_fitting_break, width, wrap
from app.transcripts.text import by_time, needs_space, select_channel, speaker_label
from app.transcripts.word_timing import TimedSentence, time_words

MAX_CHARS_PER_LINE = 42
MAX_LINES = 2
# Cost of a column of distance when a sentence is divided into cues. A cue that ends within a phrase is worse than a
# short cue: half a line of distance is worth a comma, a line is worth a full stop.
CUE_DISTANCE_COST = 0.3
# Sentences that share one cue. Each is copied with those before it, so the number must be bounded.
MAX_JOINED = 20
# A cue cannot be read in less time.
MIN_CUE_MS = 300
# Longest delay of a cue that makes room for another channel's cue.
MAX_DELAY_MS = 5000


@dataclass(frozen=True, slots=True)
class CaptionOptions:
    """Layout and timing of captions. A Chinese character takes two columns, a Latin letter one.

    A column limit that is too small for a character or for a speaker's label is exceeded. `min_cue_ms` and
    `columns_per_s` apply where the next cue leaves enough time, the other limits always.
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
    """One caption. Times in milliseconds, begin < end. `speaker`: the label to show; None without `speakers`."""

    begin_time: int
    end_time: int
    lines: list[str]
    speaker: str | None
    channel_id: int | None


@dataclass(slots=True)
class _Draft:
    """A cue before its final times are known: they may still overlap with those of its neighbours."""

    begin_time: int
    end_time: int
    span: TextSpan
    speaker: str | None
    channel_id: int | None
    sentences: int = 1
    # The cue before it took part of its time.
    delayed: bool = False


def cues(transcripts: Sequence[Mapping[str, Any]], options: CaptionOptions) -> Iterator[Cue]:
    """The captions of one channel, or of all channels interleaved by time, from a normalised document."""
    chosen = select_channel(transcripts, options.channel_id)
    channels = [_channel_drafts(transcript, options, several=len(chosen) > 1) for transcript in chosen]
    for draft in _without_overlaps(merge(*channels, key=lambda draft: draft.begin_time), options):
        lines = wrap(draft.span, options.max_chars_per_line, _first_line_columns(draft.speaker, options))
        speaker = draft.speaker if options.speakers else None
        yield Cue(draft.begin_time, draft.end_time, lines, speaker, draft.channel_id)


def srt(cues: Iterable[Cue]) -> Iterator[str]:
    """SubRip, one string per cue. A speaker is written `Speaker 0: …`.

    SubRip has no escapes. An arrow in the text becomes `→`, because players would read it as a time line.
    """
    for number, cue in enumerate(cues, 1):
        lines = _labelled(cue).replace("-->", "→")
        yield f"{number}\n{_clock(cue.begin_time, ',')} --> {_clock(cue.end_time, ',')}\n{lines}\n\n"


def vtt(cues: Iterable[Cue]) -> Iterator[str]:
    """WebVTT: the header, then one string per cue. A speaker is a voice: `<v Speaker 0>…`."""
    yield "WEBVTT\n"
    for cue in cues:
        voice = f"<v {html.escape(cue.speaker, quote=False)}>" if cue.speaker else ""
        lines = html.escape("\n".join(cue.lines), quote=False)
        yield f"\n{_clock(cue.begin_time, '.')} --> {_clock(cue.end_time, '.')}\n{voice}{lines}\n"


def text(cues: Iterable[Cue], *, blank_lines: bool) -> Iterator[str]:
    """The lines of the captions without times, one string per cue. `blank_lines`: a blank line separates cues."""
    for number, cue in enumerate(cues):
        separator = "" if number == 0 else "\n\n" if blank_lines else "\n"
        yield separator + _labelled(cue)


def _labelled(cue: Cue) -> str:
    return (f"{cue.speaker}: " if cue.speaker else "") + "\n".join(cue.lines)


def _clock(time_ms: int, point: str) -> str:
    hours, minutes, seconds = time_ms // 3_600_000, time_ms // 60_000 % 60, time_ms // 1000 % 60
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{time_ms % 1000:03}"


def _first_line_columns(speaker: str | None, options: CaptionOptions) -> int:
    """Columns of the first line after SubRip's label, but at least half of the line."""
    if not options.speakers or not speaker:
        return options.max_chars_per_line
    return options.max_chars_per_line - min(width(speaker) + 2, options.max_chars_per_line // 2)


def _channel_drafts(transcript: Mapping[str, Any], options: CaptionOptions, *, several: bool) -> Iterator[_Draft]:
    """The drafts of one channel. Their begins ascend even where sentences overlap.

    Each sentence begins a cue, unless the cue before it is too short to be read and has room for the sentence.
    """
    channel_id = transcript.get("channel_id")
    earliest = 0
    current: _Draft | None = None
    for sentence in by_time(transcript):
        speaker = speaker_label(transcript, sentence, channels=several)
        first = _first_line_columns(speaker, options)
        timed = time_words(sentence, first)
        if timed is None:
            continue
        for span in _cue_spans(timed, first, options):
            earliest = begin = max(earliest, timed.begin(span.start))
            end = max(begin, min(timed.end(span.stop), begin + options.max_cue_ms))
            draft = _Draft(begin, end, span, speaker, channel_id)
            both = _joined(current, draft, options) if current else None
            if current and not both:
                yield current
            current = both or draft
    if current:
        yield current


def _cue_spans(timed: TimedSentence, first: int, options: CaptionOptions) -> Iterator[TextSpan]:
    """Divides a sentence into cues of similar width that end after punctuation where possible."""
    source = timed.source
    for begin, stop in pairwise([0, *timed.pauses(options.gap_ms), source.last]):
        start = begin
        while start < stop:
            end = _cue_limit(timed, start, stop, first, options)
            if end < stop:
                rest = TextSpan(source, start, stop).columns
                fair = rest / -(-rest // max(1, TextSpan(source, start, end).columns))
                end = best_break(source, start, start + 1, end, fair, distance_cost=CUE_DISTANCE_COST)
            yield TextSpan(source, start, end)
            start = end


def _cue_limit(timed: TimedSentence, start: int, stop: int, first: int, options: CaptionOptions) -> int:
    """The last break such that the text from `start` fits the lines and the time of one cue."""
    end = min(stop, last_fitting_break(timed.source, start, options.max_chars_per_line, first, options.max_lines))
    return timed.last_break_before(timed.begin(start) + options.max_cue_ms, end, start + 1)


def _joined(current: _Draft, draft: _Draft, options: CaptionOptions) -> _Draft | None:
    """Both as one cue, if the first alone is too short to be read, there is no pause between them, and both fit."""
    too_short = draft.begin_time - current.begin_time < options.min_cue_ms
    near = draft.begin_time - current.end_time < options.gap_ms
    if not (too_short and near and current.speaker == draft.speaker and current.sentences < MAX_JOINED):
        return None
    both = join_spans(current.span, draft.span, _needs_space(current.span, draft.span))
    end = max(current.end_time, draft.end_time)
    first = _first_line_columns(current.speaker, options)
    limit = last_fitting_break(both.source, 0, options.max_chars_per_line, first, options.max_lines)
    if limit != both.stop or end - current.begin_time > options.max_cue_ms:
        return None
    return replace(current, end_time=end, span=both, sentences=current.sentences + 1)


def _needs_space(left: TextSpan, right: TextSpan) -> bool:
    """Whether a space is missing between the two spans."""
    before, after = left.source, right.source
    if before.begins[left.stop] > before.ends[left.stop]:
        return False
    return needs_space(before.line(left.stop - 1, left.stop), after.line(right.start, right.start + 1))


def _without_overlaps(drafts: Iterable[_Draft], options: CaptionOptions) -> Iterator[_Draft]:
    """Sets the times of the drafts: each stays as long as it takes to read, or until the next one begins."""
    upcoming = iter(drafts)
    current, following = next(upcoming, None), next(upcoming, None)
    while current and following:
        third = next(upcoming, None)
        current.end_time = _end(current, following, third, options)
        yield current
        following.delayed = current.end_time > following.begin_time
        following.begin_time = max(current.end_time, following.begin_time)
        following.end_time = max(following.begin_time, following.end_time)
        current, following = following, third
    if current:
        current.end_time = _preferred_end(current, options)
        yield current


def _end(current: _Draft, following: _Draft, third: _Draft | None, options: CaptionOptions) -> int:
    """The end of a cue. It may delay the next cue for a while, so that it can be seen and read itself."""
    spoken = max(current.end_time, current.begin_time + 1)
    min_end = min(current.begin_time + min(MIN_CUE_MS, options.max_cue_ms), following.end_time + MAX_DELAY_MS)
    too_short = following.begin_time - current.begin_time < options.min_cue_ms
    if following.begin_time >= spoken and not (current.delayed and too_short):
        end = min(_preferred_end(current, options), following.begin_time)
        # Within one channel each cue begins with its first word, so the next cue is not delayed.
        return end if current.channel_id == following.channel_id else max(end, min_end)
    if not too_short:
        return following.begin_time
    later = min(_readable_end(current, following, third, options), following.end_time + options.min_cue_ms)
    shared = current.begin_time + _shared_ms(current, following, spoken, options)
    return max(following.begin_time, shared, later, min_end)


def _shared_ms(current: _Draft, following: _Draft, spoken: int, options: CaptionOptions) -> int:
    """Overlapping or delayed cues divide the remaining time in proportion to their width."""
    remaining_ms = max(spoken, following.end_time) - current.begin_time
    return min(max(1, _proportion(current, following, remaining_ms)), options.max_cue_ms)


def _readable_end(current: _Draft, following: _Draft, third: _Draft | None, options: CaptionOptions) -> int:
    """The end if both cues divide the time that they take to read, up to the begin of the third cue."""
    reading_ms = _reading_ms(current, options) + _reading_ms(following, options)
    available_ms = min(reading_ms, third.begin_time - current.begin_time) if third else reading_ms
    return min(current.begin_time + _proportion(current, following, available_ms), _preferred_end(current, options))


def _proportion(current: _Draft, following: _Draft, time_ms: int) -> int:
    return time_ms * current.span.columns // max(1, current.span.columns + following.span.columns)


def _preferred_end(current: _Draft, options: CaptionOptions) -> int:
    """The end once the cue has been spoken and can have been read, within the maximum duration of a cue."""
    spoken = max(current.end_time, current.begin_time + 1)
    return max(spoken, current.begin_time + _reading_ms(current, options))


def _reading_ms(draft: _Draft, options: CaptionOptions) -> int:
    reading_ms = max(options.min_cue_ms, draft.span.columns * 1000 // max(1, options.columns_per_s))
    return min(reading_ms, options.max_cue_ms)
