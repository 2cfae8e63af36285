"""Profiles: the limits of published guidelines, and options that no guideline has."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given

from app.transcripts.caption_options import (
    PROFILES,
    TWO_FRAMES_MS,
    CaptionOptions,
    CaptionProfile,
    SpeakerStyle,
    caption_options,
)
from app.transcripts.captions import Cue, srt, vtt
from app.transcripts.cue_timing import MAX_DELAY_MS, MIN_CUE_MS
from app.transcripts.line_breaking import width
from tests.transcripts.documents import cues, hostile_transcripts, plausible_transcripts, sentence, transcript

LIMITS = {
    CaptionProfile.NETFLIX_ZH: (32, 18, 834),
    CaptionProfile.NETFLIX_EN: (42, 20, 834),
    CaptionProfile.BBC: (37, 17, 1000),
}
profiles = pytest.mark.parametrize("profile", PROFILES)


def captions(*transcripts: dict[str, Any], **options: Any) -> list[Cue]:
    return list(cues(transcripts, CaptionOptions(**options)))


@profiles
def test_profiles_have_the_documented_limits(profile: CaptionProfile) -> None:
    options = caption_options(profile)
    assert (options.max_chars_per_line, options.columns_per_s, options.min_cue_ms) == LIMITS[profile]
    assert (options.max_lines, options.max_cue_ms, options.min_gap_ms) == (2, 7000, TWO_FRAMES_MS)
    narrow = caption_options(profile, max_chars_per_line=20, max_lines=3)
    assert (narrow.max_chars_per_line, narrow.max_lines, narrow.min_gap_ms) == (20, 3, TWO_FRAMES_MS)


@profiles
@given(plausible_transcripts())
def test_captions_of_a_profile_are_within_its_limits(
    profile: CaptionProfile, transcripts: list[dict[str, Any]]
) -> None:
    options = caption_options(profile)
    found = list(cues(transcripts, options))
    assert all(cue.end_time - cue.begin_time <= options.max_cue_ms for cue in found)
    assert all(len(cue.lines) <= options.max_lines for cue in found)
    assert all(width(line) <= options.max_chars_per_line for cue in found for line in cue.lines)
    for cue, following in pairwise(found):
        gap_ms = following.begin_time - cue.end_time
        assert gap_ms >= options.min_gap_ms
        columns = sum(map(width, cue.lines))
        readable_ms = min(max(options.min_cue_ms, columns * 1000 // options.columns_per_s), options.max_cue_ms)
        if gap_ms > options.min_gap_ms:
            assert cue.end_time - cue.begin_time >= readable_ms


@pytest.mark.slow
@profiles
@given(hostile_transcripts())
def test_captions_of_any_document_keep_the_gap(profile: CaptionProfile, transcripts: list[dict[str, Any]]) -> None:
    found = list(cues(transcripts, caption_options(profile)))
    assert all(cue.begin_time < cue.end_time for cue in found)
    assert all(left.end_time + TWO_FRAMES_MS <= right.begin_time for left, right in pairwise(found))


def test_short_gaps_are_closed_to_two_frames() -> None:
    talk = transcript(sentence("First sentence.", 0, 2000), sentence("Second one.", 2300, 4000))
    found = list(cues([talk], caption_options(CaptionProfile.NETFLIX_EN)))
    assert [(cue.begin_time, cue.end_time) for cue in found] == [(0, 2216), (2300, 4000)]


def test_a_caption_that_is_talked_over_can_be_read() -> None:
    long = transcript(sentence("你好，欢迎致电客服中心，请问有什么可以帮您？", 0, 8000))
    short = transcript(sentence("喂？", 500, 1500), channel_id=1)
    options = caption_options(CaptionProfile.NETFLIX_ZH)
    found = list(cues([long, short], options))
    assert found[0].end_time - found[0].begin_time >= options.min_cue_ms
    assert [cue.channel_id for cue in found[:2]] == [0, 1]


@pytest.mark.parametrize("profile", list(CaptionProfile))
def test_channels_that_speak_at_once_do_not_delay_captions_more_and_more(profile: CaptionProfile) -> None:
    talk = [
        transcript(
            *(sentence("他说得很快啊", 1000 * at, 1000 * at + 980) for at in range(100)),
            channel_id=channel,
        )
        for channel in range(4)
    ]
    *_, last = cues(talk, caption_options(profile))
    assert last.end_time < 100_000 + 2 * MAX_DELAY_MS


def test_a_cue_is_visible_before_a_gap() -> None:
    assert MIN_CUE_MS > TWO_FRAMES_MS


def test_no_caption_outlasts_the_audio() -> None:
    talk = transcript(sentence("Yes.", 500, 600))
    assert [(cue.begin_time, cue.end_time) for cue in captions(talk, audio_end_ms=900)] == [(500, 900)]
    assert [(cue.begin_time, cue.end_time) for cue in captions(talk, audio_end_ms=400)] == [(500, 1500)]


def test_a_dash_marks_a_change_of_speaker() -> None:
    talk = transcript(
        sentence("Ready?", 0, 2000, speaker_id=0),
        sentence("Sure.", 2000, 4000, speaker_id=1),
        sentence("Let us go.", 4000, 6000, speaker_id=1),
        sentence("好。", 6000, 8000, speaker_id=0),
    )
    found = captions(talk, speakers=True, speaker_style=SpeakerStyle.DASH)
    assert [cue.lines for cue in found] == [["Ready?"], ["-Sure."], ["Let us go."], ["-好。"]]
    assert "Speaker" not in "".join([*srt(found), *vtt(found)])


def test_a_short_last_word_does_not_stand_alone_on_a_line() -> None:
    words = "Everybody who came to the meeting said that it was very good of us to do so"
    for stop in range(43, len(words)):
        if words[stop - 1] != " ":
            (cue, *_) = captions(transcript(sentence(words[:stop], 0, 6000)))
            assert len(cue.lines) == 1 or min(map(width, cue.lines)) * 2 >= max(map(width, cue.lines))
