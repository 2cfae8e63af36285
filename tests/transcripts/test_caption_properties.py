"""Properties of the captions of any transcript, plausible or hostile."""

import html
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import pairwise, zip_longest
from operator import itemgetter
from typing import Any

import orjson
import pysubs2
import webvtt
from hypothesis import example, given
from hypothesis import strategies as st

from app.transcripts.captions import MAX_DELAY_MS, CaptionOptions, Cue, srt, vtt
from app.transcripts.line_breaking import width
from app.transcripts.normalise import normalise
from app.transcripts.sentence_borders import settle_marks
from app.transcripts.text import labelled as with_label
from tests.transcripts.documents import cues, hostile_transcripts, plausible_transcripts, sentence, transcript
from tests.transcripts.ffmpeg import read_by_ffmpeg

ANY = st.one_of(plausible_transcripts(), hostile_transcripts())
OPTIONS = st.builds(
    CaptionOptions,
    max_chars_per_line=st.integers(4, 60),
    max_lines=st.integers(1, 4),
    speakers=st.booleans(),
)
READABLE = st.builds(CaptionOptions, max_chars_per_line=st.integers(28, 60), max_lines=st.integers(1, 3))
CLOSING = "，。！？、；：」』）》〉】”,.!?;:)]}"
WORD = re.compile(r"[A-Za-zé가-힣]+")
TIMES = re.compile(r"(\d{2,}):(\d\d):(\d\d)[,.](\d{3}) --> (\d{2,}):(\d\d):(\d\d)[,.](\d{3})")


def without_spaces(text: str) -> str:
    return "".join(text.split())


def visible(text: str) -> str:
    """The text without spaces and control characters; empty if no character has a width."""
    text = "".join(character for character in without_spaces(text) if unicodedata.category(character) != "Cc")
    return text if any(map(width, text)) else ""


def spoken_text(transcripts: Sequence[dict[str, Any]]) -> list[str]:
    """Each channel's visible text in order of its sentences' begins, without white space and lone marks."""
    return [
        "".join(
            visible(item["text"]) for item in settle_marks(sorted(channel["sentences"], key=itemgetter("begin_time")))
        )
        for channel in transcripts
    ]


def letters(texts: Iterable[str]) -> str:
    return "".join(character for text in texts for character in text if character.isalnum())


@given(ANY, OPTIONS)
def test_captions_are_in_order_and_never_overlap(transcripts: list[dict[str, Any]], options: CaptionOptions) -> None:
    found = list(cues(transcripts, options))
    assert all(0 <= cue.begin_time < cue.end_time for cue in found)
    assert all(left.end_time <= right.begin_time for left, right in pairwise(found))


@given(ANY, OPTIONS)
def test_the_text_is_preserved(transcripts: list[dict[str, Any]], options: CaptionOptions) -> None:
    found = list(cues(transcripts, options))
    for channel, text in zip(transcripts, spoken_text(transcripts), strict=True):
        lines = [line for cue in found if cue.channel_id == channel["channel_id"] for line in cue.lines]
        assert without_spaces("".join(lines)) == text
        said = [item["text"] for item in sorted(channel["sentences"], key=itemgetter("begin_time"))]
        assert letters(lines) == letters(said)


@given(ANY, OPTIONS)
def test_lines_and_their_number_are_within_the_limits(
    transcripts: list[dict[str, Any]], options: CaptionOptions
) -> None:
    for cue in cues(transcripts, options):
        assert 1 <= len(cue.lines) <= options.max_lines
        assert all(width(line) <= options.max_chars_per_line for line in cue.lines)
        assert all(line and line == line.strip() and len(line.splitlines()) == 1 for line in cue.lines)


@given(ANY, OPTIONS)
def test_captions_stay_no_longer_than_the_limit(transcripts: list[dict[str, Any]], options: CaptionOptions) -> None:
    assert all(cue.end_time - cue.begin_time <= options.max_cue_ms for cue in cues(transcripts, options))


@given(ANY, OPTIONS)
def test_captions_stay_until_readable_or_until_the_next_begins(
    transcripts: list[dict[str, Any]], options: CaptionOptions
) -> None:
    for cue, following in zip_longest(found := list(cues(transcripts, options)), found[1:]):
        columns = sum(width(line) for line in cue.lines)
        wanted = max(options.min_cue_ms, columns * 1000 // options.columns_per_s)
        if following is None or following.begin_time > cue.end_time:
            assert cue.end_time - cue.begin_time >= min(wanted, options.max_cue_ms)


@given(plausible_transcripts(max_channels=4), OPTIONS)
def test_alternating_channels_are_delayed_for_a_limited_time(
    transcripts: list[dict[str, Any]], options: CaptionOptions
) -> None:
    """However much the channels overlap, the last caption begins soon after the end of speech.

    A caption that cannot begin within the longest delay begins 1 ms after the caption before it.
    """
    ends = [item["end_time"] for channel in transcripts for item in channel["sentences"]]
    found = list(cues(transcripts, options))
    latest = max(ends, default=0) + MAX_DELAY_MS
    late = [cue.begin_time for cue in found if cue.begin_time > latest]
    assert late == list(range(latest + 1, latest + 1 + len(late)))


@given(plausible_transcripts(), st.integers(44, 60))
def test_a_label_fits_into_the_first_line(transcripts: list[dict[str, Any]], columns: int) -> None:
    for cue in cues(transcripts, CaptionOptions(max_chars_per_line=columns, speakers=True)):
        assert width(f"{cue.speaker}: {cue.lines[0]}" if cue.speaker else cue.lines[0]) <= columns


@given(plausible_transcripts(), READABLE)
def test_lines_have_whole_words_and_begin_with_no_closing_mark(
    transcripts: list[dict[str, Any]], options: CaptionOptions
) -> None:
    for channel in transcripts:
        lines = [line for cue in cues([channel], options) for line in cue.lines]
        texts = [item["text"] for item in channel["sentences"]]
        assert WORD.findall("\n".join(lines)) == WORD.findall("\n".join(texts))
        assert not any(line[0] in CLOSING for line in lines)


@given(plausible_transcripts())
def test_a_caption_begins_when_its_first_word_does(transcripts: list[dict[str, Any]]) -> None:
    for channel in transcripts:
        timed = {**channel, "sentences": [item for item in channel["sentences"] if "words" in item]}
        begins = {word["begin_time"] for item in timed["sentences"] for word in item["words"]}
        assert all(cue.begin_time in begins for cue in cues([timed], CaptionOptions()))


def in_ms(groups: Sequence[str]) -> int:
    hours, minutes, seconds, milliseconds = map(int, groups)
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + milliseconds


@given(ANY, OPTIONS)
def test_webvtt_py_reads_back_what_was_written(transcripts: list[dict[str, Any]], options: CaptionOptions) -> None:
    found = list(cues(transcripts, options))
    read = webvtt.from_string("".join(vtt(found)), strict=True).captions
    assert [caption.start_time.in_milliseconds() for caption in read] == [cue.begin_time for cue in found]
    assert [caption.end_time.in_milliseconds() for caption in read] == [cue.end_time for cue in found]
    for caption, cue in zip(read, found, strict=True):
        assert html.unescape(caption.text) == "\n".join(cue.lines)
        assert html.unescape(caption.voice or "") == (cue.speaker or "")


@given(plausible_transcripts(), OPTIONS)
def test_pysubs2_reads_back_what_was_written(transcripts: list[dict[str, Any]], options: CaptionOptions) -> None:
    found = list(cues(transcripts, options))
    for format_, written in (("srt", srt(found)), ("vtt", vtt(found))):
        read = pysubs2.SSAFile.from_string("".join(written), format_=format_)
        assert [(event.start, event.end) for event in read] == [(cue.begin_time, cue.end_time) for cue in found]
        if format_ == "srt":
            assert [event.plaintext for event in read] == [labelled(cue) for cue in found]


@given(plausible_transcripts(), OPTIONS)
def test_ffmpeg_reads_back_what_was_written(transcripts: list[dict[str, Any]], options: CaptionOptions) -> None:
    found = list(cues(transcripts, options))
    assert read_by_ffmpeg("".join(vtt(found)), "vtt") == [
        (cue.begin_time, cue.end_time, "\n".join(cue.lines)) for cue in found
    ]
    if found:  # FFmpeg's SubRip reader rejects an empty file
        assert read_by_ffmpeg("".join(srt(found)), "srt") == [
            (cue.begin_time, cue.end_time, labelled(cue)) for cue in found
        ]


def labelled(cue: Cue) -> str:
    return with_label(cue.speaker, "\n".join(cue.lines))


MARKUP = st.text("ab {}<>/\\N&;:!-中\"'", min_size=1, max_size=40)


@given(MARKUP, MARKUP)
@example("12:30:15.5 to 12:31:16.25", "1:2:3,4")
@example("00:00:01,000 --> 00:00:02,000", "")
def test_readers_of_subrip_lose_nothing_that_looks_like_markup(said: str, name: str) -> None:
    """What was said comes out, except that signs of markup are look-alikes, which NFKC turns back."""
    talk = transcript(sentence(f"a{said}b", 0, 5000, speaker_id=f"x{name}"))
    found = list(cues([talk], CaptionOptions(max_chars_per_line=200, speakers=True)))
    written = "".join(srt(found))
    expected = plain(labelled(found[0]))
    assert [plain(text) for _, _, text in read_by_ffmpeg(written, "srt")] == [expected]
    assert [plain(event.plaintext) for event in pysubs2.SSAFile.from_string(written, format_="srt")] == [expected]
    read = webvtt.from_buffer(io.StringIO(written), format="srt")
    assert [plain(caption.text) for caption in read.captions] == [expected]


def plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).replace("-->", "→").replace(" ", "")


@given(ANY, OPTIONS)
def test_srt_has_a_number_a_time_line_and_text_in_every_block(
    transcripts: list[dict[str, Any]], options: CaptionOptions
) -> None:
    found = list(cues(transcripts, options))
    written = "".join(srt(found))
    blocks = written.split("\n\n")
    assert blocks.pop() == ""
    assert len(blocks) == len(found)
    for number, (block, cue) in enumerate(zip(blocks, found, strict=True), 1):
        head, times, text = block.split("\n", 2)
        match = TIMES.fullmatch(times)
        assert match
        assert head == str(number)
        assert (in_ms(match.groups()[:4]), in_ms(match.groups()[4:])) == (cue.begin_time, cue.end_time)
        assert unicodedata.normalize("NFKC", text) == unicodedata.normalize("NFKC", labelled(cue).replace("-->", "→"))


@given(hostile_transcripts(), OPTIONS)
def test_captions_of_a_normalised_document_are_in_order(
    transcripts: list[dict[str, Any]], options: CaptionOptions
) -> None:
    document = normalise(orjson.dumps({"transcripts": transcripts}), file_url="u", family="fun-asr")
    found = list(cues(document.transcripts, options))
    assert all(left.end_time <= right.begin_time for left, right in pairwise(found))
