"""Captions from a transcript: which words share a cue, on which lines, and how long a cue stays. Pure and streaming.

Cues are in order of time and never overlap, whatever times upstream sent: if two channels speak at once, their cues
alternate.
"""

import html
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from heapq import merge
from itertools import pairwise
from typing import Any

import msgspec

from app.transcripts.caption_options import CaptionOptions, SpeakerStyle
from app.transcripts.cue_timing import MAX_DELAY_MS, MIN_CUE_MS, Draft, without_overlaps
from app.transcripts.line_breaking import (
    BreakableText,
    TextSpan,
    best_break,
    join_spans,
    last_fitting_break,
    width,
    wrap,
)
from app.transcripts.sentence_borders import has_words, settle_marks
from app.transcripts.text import BORDER_CHARACTERS, by_time, labelled, needs_space, select_channel, speaker_label
from app.transcripts.word_timing import TimedSentence, time_words

__all__ = ["MAX_DELAY_MS", "MIN_CUE_MS", "CaptionOptions", "Cue", "cues", "srt", "text", "ttml", "vtt"]

# Cost of a column of distance when a sentence is divided into cues. A cue that ends within a phrase is worse than a
# short cue: half a line of distance is worth a comma, a line is worth a full stop.
CUE_DISTANCE_COST = 0.3
# Written before the first word of another speaker, without a space, as in Netflix's style guides ("Dual Speakers").
DASH = "-"
# At the bottom, centred, white. Two lines of 42 columns fit the region at the default size of the text.
_TTML_HEAD = """\
<?xml version="1.0" encoding="UTF-8"?>
<tt xmlns="http://www.w3.org/ns/ttml" xmlns:ttp="http://www.w3.org/ns/ttml#parameter"\
 xmlns:tts="http://www.w3.org/ns/ttml#styling" xml:lang="" xml:space="preserve" ttp:timeBase="media"\
 ttp:contentProfiles="http://www.w3.org/ns/ttml/profile/imsc1.1/text">
<head><styling><style xml:id="default" tts:fontFamily="proportionalSansSerif" tts:fontSize="100%"\
 tts:textAlign="center" tts:color="white"/></styling>\
<layout><region xml:id="bottom" tts:origin="5% 10%" tts:extent="90% 80%" tts:displayAlign="after"/></layout></head>
<body region="bottom" style="default"><div>
"""
_NOT_XML = re.compile("[\ufffe\uffff\ud800-\udfff\0-\x08\x0b\x0c\x0e-\x1f]")
_LOOKALIKE_TAGS = {ord("<"): "＜", ord(">"): "＞"}
_LOOKALIKE_BRACES = {ord("{"): "｛", ord("}"): "｝"}
_COLONS_OF_A_TIME_LINE = 4
_CLOCK = re.compile(r"(?<=\d):(?=\d{1,2}:\d{1,2}[.,]\d)")
_ESCAPES = re.compile(r"\\(?=[Nnh])|(?<=｛)\\")
# The last digits of clocks.
_UP_TO_60 = [f"{number:02}" for number in range(60)]
_UP_TO_1000 = [f"{number:03}" for number in range(1000)]
# Sentences that share one cue. Each is copied with those before it, so the number must be bounded.
MAX_JOINED = 20


class Cue(msgspec.Struct, frozen=True, gc=False):
    """One caption. Times in milliseconds, begin < end. `speaker`: the label to show; None without `speakers`."""

    begin_time: int
    end_time: int
    lines: list[str]
    speaker: str | None
    channel_id: int | None


def cues(transcripts: Sequence[Mapping[str, Any]], options: CaptionOptions) -> Iterator[Cue]:
    """The captions of one channel, or of all channels interleaved by time, from a normalised document."""
    chosen = select_channel(transcripts, options.channel_id)
    channels = [_channel_drafts(transcript, options, several=len(chosen) > 1) for transcript in chosen]
    speaking: str | None = None
    for number, draft in enumerate(without_overlaps(merge(*channels, key=lambda draft: draft.begin_time), options)):
        lines = wrap(draft.span, options.max_chars_per_line, draft.first_line_columns)
        speaker = draft.speaker if options.speakers else None
        if speaker and options.speaker_style is SpeakerStyle.DASH:
            if number and speaker != speaking:
                lines[0] = DASH + lines[0]
            speaking, speaker = speaker, None
        yield Cue(draft.begin_time, draft.end_time, lines, speaker, draft.channel_id)


def srt(cues: Iterable[Cue]) -> Iterator[str]:
    """SubRip, one string per cue. A speaker is written `Speaker 0: …`.

    SubRip has no escapes. Characters that readers would take for markup or for a time line are written as look-alikes.
    """
    for number, cue in enumerate(cues, 1):
        lines = _without_markup(_labelled(cue))
        yield f"{number}\n{_clock(cue.begin_time, ',')} --> {_clock(cue.end_time, ',')}\n{lines}\n\n"


def _without_markup(text: str) -> str:
    """The text with look-alikes in place of `-->`, `<…>`, `{` and backslashes before N, n and h.

    FFmpeg and players remove `<…>` also if it is no tag of HTML, obey `{\\an8}`, and drop text after a `{`; `\\N` ends
    a line. Some readers take any line with two clocks for a time line. NFKC turns the look-alikes of brackets and
    colons back into the characters that were said.
    """
    if ":" in text and text.count(":") >= _COLONS_OF_A_TIME_LINE:
        lines = text.split("\n")
        text = "\n".join(_CLOCK.sub("：", line) if len(_CLOCK.findall(line)) > 1 else line for line in lines)
    if not ("<" in text or "{" in text or "\\" in text or "-->" in text):
        return text
    text = text.replace("-->", "→")
    start, end = text.find("<"), text.rfind(">")
    if 0 <= start < end:
        text = text[:start] + text[start : end + 1].translate(_LOOKALIKE_TAGS) + text[end + 1 :]
    if "{" in text:
        text = text.translate(_LOOKALIKE_BRACES)
    return _ESCAPES.sub("＼", text)


def vtt(cues: Iterable[Cue]) -> Iterator[str]:
    """WebVTT: the header, then one string per cue. A speaker is a voice: `<v Speaker 0>…`."""
    yield "WEBVTT\n"
    for cue in cues:
        voice = f"<v {html.escape(cue.speaker, quote=False)}>" if cue.speaker else ""
        lines = html.escape("\n".join(cue.lines), quote=False)
        yield f"\n{_clock(cue.begin_time, '.')} --> {_clock(cue.end_time, '.')}\n{voice}{lines}\n"


def ttml(cues: Iterable[Cue]) -> Iterator[str]:
    """TTML in the text profile of IMSC 1.1, one string per cue. A speaker is written as in SubRip.

    The language is empty, because one transcript may contain several.
    """
    yield _TTML_HEAD
    for cue in cues:
        text = _labelled(cue)
        if not text.replace("\n", "").isprintable():
            text = _NOT_XML.sub("", text)
        lines = html.escape(text, quote=False).replace("\n", "<br/>")
        yield f'<p begin="{_clock(cue.begin_time, ".")}" end="{_clock(cue.end_time, ".")}">{lines}</p>\n'
    yield "</div></body>\n</tt>\n"


def text(cues: Iterable[Cue], *, blank_lines: bool) -> Iterator[str]:
    """The lines of the captions without times, one string per cue. `blank_lines`: a blank line separates cues."""
    for number, cue in enumerate(cues):
        separator = "" if number == 0 else "\n\n" if blank_lines else "\n"
        yield separator + _labelled(cue)


def _labelled(cue: Cue) -> str:
    text = "\n".join(cue.lines)
    return labelled(cue.speaker, text) if cue.speaker else text


def _clock(time_ms: int, point: str) -> str:
    """`01:02:03,456`. Format specifications would take five times as long."""
    return f"{_minutes(time_ms // 60_000)}{_UP_TO_60[time_ms // 1000 % 60]}{point}{_UP_TO_1000[time_ms % 1000]}"


@lru_cache(maxsize=64)
def _minutes(time_min: int) -> str:
    return f"{time_min // 60:02}:{time_min % 60:02}:"


def _first_line_columns(speaker: str | None, options: CaptionOptions) -> int:
    """Columns of the first line after SubRip's label, but at least half of the line."""
    if not options.speakers or not speaker:
        return options.max_chars_per_line
    if options.speaker_style is SpeakerStyle.DASH:
        return max(1, options.max_chars_per_line - len(DASH))
    return options.max_chars_per_line - min(width(speaker) + 2, options.max_chars_per_line // 2)


def _channel_drafts(transcript: Mapping[str, Any], options: CaptionOptions, *, several: bool) -> Iterator[Draft]:
    """The drafts of one channel. Their begins ascend even where sentences overlap.

    Each sentence begins a cue, unless the cue before it is too short to be read and has room for the sentence.
    """
    channel_id = transcript.get("channel_id")
    earliest = 0
    current: Draft | None = None
    for sentence in settle_marks(by_time(transcript)):
        speaker = speaker_label(transcript, sentence, channels=several)
        first = _first_line_columns(speaker, options)
        timed = time_words(sentence, first)
        if timed is None:
            continue
        for spoken, span in _cue_spans(timed, first, options):
            earliest = begin = spoken if spoken > earliest else earliest  # noqa: FURB136 - seven times as fast as `max`
            end = timed.end(span.stop)
            if not begin <= end <= begin + options.max_cue_ms:
                end = max(begin, min(end, begin + options.max_cue_ms))
            draft = Draft(begin, end, span, first, speaker, channel_id)
            if current:
                too_short = begin - current.begin_time < options.min_cue_ms
                both = _joined(current, draft, options) if too_short else None
                if both:
                    draft = both
                else:
                    yield current
            current = draft
    if current:
        yield current


def _cue_spans(timed: TimedSentence, first: int, options: CaptionOptions) -> Iterator[tuple[int, TextSpan]]:
    """Divides a sentence into cues of similar width that end after punctuation where possible. Yields begins too."""
    source, max_cue_ms = timed.source, options.max_cue_ms
    begins, ends = source.begins, source.ends
    for start, stop in pairwise(_with_words(source, [0, *timed.pauses(options.gap_ms), source.last])):
        at = start
        while at < stop:
            begin, column, end = timed.begin(at), begins[at], stop
            if ends[stop] - column > first:  # else one line is enough
                end = last_fitting_break(source, at, stop, options.max_chars_per_line, first, lines=options.max_lines)
            end = timed.last_break_before(begin + max_cue_ms, end, at + 1)
            if end < stop:
                rest = begins[stop] - column
                fair = rest / -(-rest // (begins[end] - column or 1))
                end = best_break(source, at, at + 1, end, fair, distance_cost=CUE_DISTANCE_COST)
            yield begin, TextSpan(source, at, end)
            at = end


def _with_words(source: BreakableText, breaks: list[int]) -> list[int]:
    """The breaks, without those next to a text of marks alone: such a text is no cue."""
    if len(breaks) == 2:
        return breaks
    kept = breaks[:1]
    for index in breaks[1:-1]:
        if has_words(source.line(kept[-1], index)):
            kept.append(index)
    if len(kept) > 1 and not has_words(source.line(kept[-1], breaks[-1])):
        kept.pop()
    return [*kept, breaks[-1]]


def _joined(current: Draft, draft: Draft, options: CaptionOptions) -> Draft | None:
    """Both as one cue. None if there is a pause between them, or another speaker, or too little room."""
    near = draft.begin_time - current.end_time < options.gap_ms
    if not (near and current.speaker == draft.speaker and current.sentences < MAX_JOINED):
        return None
    both = join_spans(current.span, draft.span, _needs_space(current.span, draft.span))
    end = max(current.end_time, draft.end_time)
    columns, first = options.max_chars_per_line, current.first_line_columns
    limit = last_fitting_break(both.source, 0, both.stop, columns, first, lines=options.max_lines)
    if limit != both.stop or end - current.begin_time > options.max_cue_ms:
        return None
    return msgspec.structs.replace(current, end_time=end, span=both, sentences=current.sentences + 1)


def _needs_space(left: TextSpan, right: TextSpan) -> bool:
    """Whether a space is missing between the two spans."""
    before, after = left.source, right.source
    if before.begins[left.stop] > before.ends[left.stop]:
        return False
    said = before.text[before.at[left.start] : before.at[left.stop]]
    return needs_space(said[-BORDER_CHARACTERS:], after.text[after.at[right.start] :][:BORDER_CHARACTERS])
