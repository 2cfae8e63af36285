"""Times of the parts of a sentence."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.transcripts.word_breaks import MAX_WORD_COLUMNS
from app.transcripts.word_timing import TimedByCharacter, TimedByWord, TimedSentence, time_words
from tests.transcripts.documents import as_read, hostile_transcripts, plausible_transcripts, sentence, spoken


def of(said: dict[str, Any], columns: int = 42) -> TimedSentence:
    found = time_words(as_read(said), columns)
    assert found
    return found


def times(found: TimedSentence) -> list[tuple[str, int, int]]:
    return [
        (found.source.line(start, stop), found.begin(start), found.end(stop))
        for start, stop in pairwise(range(len(found.source.at)))
    ]


def test_word_times_are_divided_by_characters() -> None:
    said = spoken((0, 900, "阿里巴"), (1000, 1400, " Hello"), (1400, 1600, "，"))
    assert times(of(said)) == [("阿", 0, 300), ("里", 300, 600), ("巴", 600, 900), ("Hello，", 1000, 1600)]


def test_without_words_the_time_is_divided_by_width() -> None:
    assert times(of(sentence("你 ab", 1000, 2000))) == [("你", 1000, 1500), ("ab", 1500, 2000)]


def test_a_sentence_without_text_has_no_times() -> None:
    assert time_words(as_read(sentence(" \u3000", 0, 1000)), 42) is None


def test_words_without_text_are_ignored() -> None:
    said = spoken((0, 100, "你"), (9000, 9100, " "), (200, 300, "好"))
    assert times(of(said)) == [("你", 0, 100), ("好", 200, 300)]


@pytest.mark.parametrize(("min_ms", "found"), [(800, [2]), (801, []), (100, [1, 2])])
def test_pauses_are_found_between_words(min_ms: int, found: list[int]) -> None:
    said = spoken((0, 100, "你"), (200, 300, "好"), (1100, 1200, "吗"))
    assert of(said).pauses(min_ms) == found


@pytest.mark.parametrize(("moment", "found"), [(0, 1), (100, 1), (299, 1), (300, 2), (9000, 3)])
def test_last_break_before_a_moment(moment: int, found: int) -> None:
    said = spoken((0, 100, "你"), (200, 300, "好"), (1100, 1200, "吗"))
    assert of(said).last_break_before(moment, 3, 1) == found


def test_begins_ascend_where_words_overlap() -> None:
    said = spoken((0, 2000, "阿里巴巴"), (100, 2000, "吗"))
    begins = [begin for _, begin, _ in times(of(said))]
    assert begins == sorted(begins)


@given(st.one_of(plausible_transcripts(), hostile_transcripts()), st.integers(2, 60))
def test_begins_ascend_and_ends_are_not_before_begins(transcripts: list[dict[str, Any]], columns: int) -> None:
    for said in (each for channel in transcripts for each in channel["sentences"]):
        parts = times(found) if (found := time_words(as_read(said), columns)) else []
        assert all(0 <= begin <= end for _, begin, end in parts)
        assert all(left[1] <= right[1] for left, right in pairwise(parts))


WORDS = st.tuples(
    st.sampled_from(["a", "well", "known", "so,", "now.", "Mr.", "don't"]), st.integers(-300, 900), st.integers(0, 900)
)


@given(st.lists(st.tuples(st.integers(-300, 900), st.integers(0, 900)), min_size=2, max_size=20))
def test_times_of_words_stay_unless_they_are_before_an_earlier_word(paces: list[tuple[int, int]]) -> None:
    timed, time_ms = [], 1000
    for pause, duration in paces:
        begin = max(0, time_ms + pause)
        time_ms = begin + duration
        timed.append((begin, time_ms, " so"))
    assume(len({begin for begin, _, _ in timed}) > 1)
    assume(time_ms >= timed[0][0])
    found = of(spoken(*timed))
    assert isinstance(found, TimedByWord)
    low, high = timed[0][0], time_ms
    latest = low
    for number, (begin, end, _) in enumerate(timed):
        latest = min(max(latest, begin), high)
        assert found.begin(number) == latest
        assert found.end(number + 1) == min(max(latest, end), high)


@given(st.lists(WORDS, min_size=2, max_size=20), st.integers(0, 10_000))
def test_words_as_breaks_have_the_times_of_the_general_form(words: list[tuple[str, int, int]], moment: int) -> None:
    timed, time_ms = [], 1000
    for text, pause, duration in words:
        begin = max(0, time_ms + pause)
        time_ms = begin + duration
        timed.append((begin, time_ms, f" {text}"))
    said = spoken(*timed)
    by_word, general = of(said, MAX_WORD_COLUMNS), of(said, MAX_WORD_COLUMNS - 1)
    assume(isinstance(by_word, TimedByWord))
    assert isinstance(general, TimedByCharacter)
    assert times(by_word) == times(general)
    assert by_word.pauses(400) == general.pauses(400)
    last = by_word.source.last
    assert by_word.last_break_before(moment, last, 1) == general.last_break_before(moment, last, 1)
