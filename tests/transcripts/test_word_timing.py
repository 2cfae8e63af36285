"""When each part of a sentence is heard."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.transcripts.word_timing import TimedSentence, time_words
from tests.transcripts.documents import hostile_transcripts, plausible_transcripts, sentence, spoken


def of(said: dict[str, Any], columns: int = 42) -> TimedSentence:
    found = time_words(said, columns)
    assert found
    return found


def times(found: TimedSentence) -> list[tuple[str, int, int]]:
    return [
        (found.passage.line(start, stop), found.begin(start), found.end(stop))
        for start, stop in pairwise(range(len(found.passage.at)))
    ]


def test_words_give_their_times_and_share_them_by_characters() -> None:
    said = spoken((0, 900, "阿里巴"), (1000, 1400, " Hello"), (1400, 1600, "，"))
    assert times(of(said)) == [("阿", 0, 300), ("里", 300, 600), ("巴", 600, 900), ("Hello，", 1000, 1600)]


def test_without_words_the_time_is_shared_by_width() -> None:
    assert times(of(sentence("你 ab", 1000, 2000))) == [("你", 1000, 1500), ("ab", 1500, 2000)]


def test_a_sentence_without_text_is_not_heard() -> None:
    assert time_words(sentence(" \u3000", 0, 1000), 42) is None


def test_words_that_say_nothing_count_for_nothing() -> None:
    said = spoken((0, 100, "你"), (9000, 9100, " "), (200, 300, "好"))
    assert times(of(said)) == [("你", 0, 100), ("好", 200, 300)]


@pytest.mark.parametrize(("least_ms", "found"), [(800, [2]), (801, []), (100, [1, 2])])
def test_silences_are_found_between_words(least_ms: int, found: list[int]) -> None:
    said = spoken((0, 100, "你"), (200, 300, "好"), (1100, 1200, "吗"))
    assert of(said).silences(least_ms) == found


@pytest.mark.parametrize(("moment", "found"), [(0, 1), (100, 1), (299, 1), (300, 2), (9000, 3)])
def test_what_has_been_said_by_a_moment(moment: int, found: int) -> None:
    said = spoken((0, 100, "你"), (200, 300, "好"), (1100, 1200, "吗"))
    assert of(said).said_by(moment, 3, 1) == found


@given(st.one_of(plausible_transcripts(), hostile_transcripts()), st.integers(2, 60))
def test_begins_ascend_and_nothing_ends_before_it_began(transcripts: list[dict[str, Any]], columns: int) -> None:
    for said in (each for channel in transcripts for each in channel["sentences"]):
        parts = times(found) if (found := time_words(said, columns)) else []
        assert all(0 <= begin <= end for _, begin, end in parts)
        assert all(left[1] <= right[1] for left, right in pairwise(parts))
