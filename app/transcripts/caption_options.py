"""Layout and timing of captions: the defaults, and profiles that follow published guidelines. Pure."""

from dataclasses import dataclass, replace
from enum import StrEnum

MAX_CHARS_PER_LINE = 42
MAX_LINES = 2
# Two frames at 24 frames per second, the slowest common rate: 83.3 ms.
TWO_FRAMES_MS = 84


class SpeakerStyle(StrEnum):
    """The form in which a caption shows its speaker."""

    NAME = "name"
    DASH = "dash"


class CaptionProfile(StrEnum):
    """A published guideline for captions."""

    NETFLIX_ZH = "netflix-zh"
    NETFLIX_EN = "netflix-en"
    BBC = "bbc"


@dataclass(frozen=True, slots=True)
class CaptionOptions:
    """A Chinese character takes two columns, a Latin letter one. The defaults are limits that subtitlers use.

    A column limit that is too small for a character or for a speaker's label is exceeded. `min_cue_ms` and
    `columns_per_s` apply where the next cue leaves enough time, the other limits always. `gap_ms`: silence that ends a
    cue. `min_gap_ms`: time without a cue before the next one; a gap shorter than `closed_gap_ms` is reduced to it.
    `audio_end_ms`: no cue stays longer; None: unknown.
    """

    max_chars_per_line: int = MAX_CHARS_PER_LINE
    max_lines: int = MAX_LINES
    channel_id: int | None = None
    speakers: bool = False
    speaker_style: SpeakerStyle = SpeakerStyle.NAME
    max_cue_ms: int = 7000
    min_cue_ms: int = 1000
    gap_ms: int = 800
    min_gap_ms: int = 0
    closed_gap_ms: int = 0
    columns_per_s: int = 20
    audio_end_ms: int | None = None


# Sources of the limits, and of the gaps:
# - Netflix, Timed Text Style Guide: General Requirements: 5/6 s to 7 s, two lines, two frames between events. Subtitle
#   Timing Guidelines: gaps of less than half a second are closed to two frames. Chinese (Simplified) Timed Text Style
#   Guide: 16 characters per line, 9 characters per second. English (USA): 42 per line, 20 per second.
# - BBC Subtitle Guidelines: 37 characters per line (Teletext), two lines, 160 to 180 words per minute, of which the
#   middle is 17 columns per second with six columns for a word and its space; a pause is shown as a gap of at least one
#   second. The guidelines have no longest duration and no frame gap: both are those of the other profiles.
_NETFLIX = CaptionOptions(min_cue_ms=834, min_gap_ms=TWO_FRAMES_MS, closed_gap_ms=500)
PROFILES: dict[CaptionProfile, CaptionOptions] = {
    CaptionProfile.NETFLIX_ZH: replace(_NETFLIX, max_chars_per_line=32, columns_per_s=18),
    CaptionProfile.NETFLIX_EN: _NETFLIX,
    CaptionProfile.BBC: CaptionOptions(37, min_gap_ms=TWO_FRAMES_MS, closed_gap_ms=1000, columns_per_s=17),
}


def caption_options(
    profile: CaptionProfile | None, *, max_chars_per_line: int | None = None, max_lines: int | None = None
) -> CaptionOptions:
    """The options of a profile, or the defaults. A limit that is given goes before that of the profile."""
    options = PROFILES[profile] if profile else CaptionOptions()
    return replace(
        options,
        max_chars_per_line=max_chars_per_line or options.max_chars_per_line,
        max_lines=max_lines or options.max_lines,
    )
