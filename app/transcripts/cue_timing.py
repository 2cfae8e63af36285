"""Final times of cues: how long each stays, and which of two that overlap is delayed. Pure and streaming."""

from collections.abc import Iterable, Iterator

import msgspec

from app.transcripts.caption_options import CaptionOptions
from app.transcripts.line_breaking import TextSpan

# A cue cannot be read in less time.
MIN_CUE_MS = 300
# Longest delay of a cue that makes room for another channel's cue.
MAX_DELAY_MS = 5000


class Draft(msgspec.Struct, gc=False):
    """A cue before its final times are known: they may still overlap with those of its neighbours."""

    begin_time: int
    end_time: int
    span: TextSpan
    first_line_columns: int
    speaker: str | None
    channel_id: int | None
    sentences: int = 1
    # The cue before it took part of its time.
    delayed: bool = False


def without_overlaps(drafts: Iterable[Draft], options: CaptionOptions) -> Iterator[Draft]:
    """Sets the times of the drafts: each stays as long as it takes to read, or until the next one begins.

    No cue stays longer than the audio, unless the words themselves are later.
    """
    audio_end_ms, min_gap_ms = options.audio_end_ms, options.min_gap_ms
    upcoming = iter(drafts)
    current, following = next(upcoming, None), next(upcoming, None)
    while current:
        third = next(upcoming, None)
        end = _end(current, following, third, options) if following else _preferred_end(current, options)
        if following and min_gap_ms:
            end = _with_gap(current.begin_time, end, following.begin_time, options)
        if audio_end_ms is not None and current.begin_time < audio_end_ms < end:
            end = audio_end_ms
        current.end_time = end
        yield current
        earliest = end + min_gap_ms
        if following and earliest > following.begin_time:
            following.delayed = True
            following.begin_time, following.end_time = earliest, max(earliest, following.end_time)
        current, following = following, third


def _with_gap(begin: int, end: int, next_begin: int, options: CaptionOptions) -> int:
    """The end that leaves the gap before the next cue. A cue stays visible, so the next one may be delayed.

    The next cue is delayed by the gap as well if both overlap.
    """
    # An end after the begin of the next cue is a choice of `_end`, which bounds the delay. A longer cue would add to
    # the delay of all later cues.
    if end > next_begin:
        return end
    latest = max(next_begin - options.min_gap_ms, begin + MIN_CUE_MS)
    if next_begin - end < options.closed_gap_ms and latest - begin <= options.max_cue_ms:
        return latest
    return min(end, latest)


def _end(current: Draft, following: Draft, third: Draft | None, options: CaptionOptions) -> int:
    """The end of a cue. It may delay the next cue for a while, so that it can be seen and read itself."""
    begin, next_begin = current.begin_time, following.begin_time
    spoken = current.end_time if current.end_time > begin else begin + 1
    too_short = next_begin - begin < options.min_cue_ms
    if next_begin <= spoken and not too_short:
        return next_begin
    apart = next_begin >= spoken and not (current.delayed and too_short)
    preferred_end = _preferred_end(current, options)
    end = preferred_end if preferred_end < next_begin else next_begin  # noqa: FURB136 - seven times as fast as `min`
    # Within one channel each cue begins with its first word, so the next cue is not delayed.
    if apart and current.channel_id == following.channel_id:
        return end
    min_end = min(begin + min(MIN_CUE_MS, options.max_cue_ms), following.end_time + MAX_DELAY_MS)
    if apart:
        return max(end, min_end)
    later = min(_readable_end(current, following, third, options), following.end_time + options.min_cue_ms)
    shared = begin + _shared_ms(current, following, spoken, options)
    return max(next_begin, shared, later, min_end)


def _shared_ms(current: Draft, following: Draft, spoken: int, options: CaptionOptions) -> int:
    """Overlapping or delayed cues divide the remaining time in proportion to their width."""
    remaining_ms = max(spoken, following.end_time) - current.begin_time
    return min(max(1, _proportion(current, following, remaining_ms)), options.max_cue_ms)


def _readable_end(current: Draft, following: Draft, third: Draft | None, options: CaptionOptions) -> int:
    """The end if both cues divide the time that they take to read, up to the begin of the third cue."""
    reading_ms = _reading_ms(current, options) + _reading_ms(following, options)
    available_ms = min(reading_ms, third.begin_time - current.begin_time) if third else reading_ms
    return min(current.begin_time + _proportion(current, following, available_ms), _preferred_end(current, options))


def _proportion(current: Draft, following: Draft, time_ms: int) -> int:
    return time_ms * current.span.columns // max(1, current.span.columns + following.span.columns)


def _preferred_end(current: Draft, options: CaptionOptions) -> int:
    """The end once the cue has been spoken and can have been read, within the maximum duration of a cue."""
    read = current.begin_time + (_reading_ms(current, options) or 1)
    return read if read > current.end_time else current.end_time  # noqa: FURB136 - seven times as fast as `max`


def _reading_ms(draft: Draft, options: CaptionOptions) -> int:
    reading_ms = draft.span.columns * 1000 // (options.columns_per_s or 1)
    if options.min_cue_ms <= reading_ms <= options.max_cue_ms:
        return reading_ms
    return min(max(options.min_cue_ms, reading_ms), options.max_cue_ms)
