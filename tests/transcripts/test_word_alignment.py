"""Words keep their times where upstream rewrote the text after it had timed the words."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.transcripts.captions import CaptionOptions
from app.transcripts.word_alignment import TimedWord, align, matches
from app.transcripts.word_timing import time_words
from tests.transcripts.documents import as_read, cues, sentence, transcript

Timed = Sequence[tuple[str, int, int]]

PAUSED = [("我们", 0, 400), ("明天", 400, 800), ("去", 800, 1200), ("后天", 7200, 7600), ("回来", 7600, 8000)]


def said(text: str, words: Timed, **others: Any) -> dict[str, Any]:
    listed = [{"text": word, "begin_time": begin, "end_time": end} for word, begin, end in words]
    return sentence(text, words[0][1], max(end for _, _, end in words), words=listed, **others)


def captions(text: str, words: Timed) -> list[tuple[int, int, str]]:
    found = cues([transcript(said(text, words))], CaptionOptions())
    return [(cue.begin_time, cue.end_time, " ".join(cue.lines)) for cue in found]


@pytest.mark.parametrize(
    "text",
    [
        "我们明天去，后天回来。",
        "我们明天去 后天回来",
        "我们，明天去——“后天”回来！！",
        "我们明天去\ufffd后天回来",
        "我们明日去，后天回来。",
    ],
)
def test_a_text_with_other_marks_keeps_its_pauses(text: str) -> None:
    (begin, end, _), (second, last, line) = captions(text, PAUSED)
    assert (begin, end, second, last) == (0, 1200, 7200, 8200)
    assert "回来" in line


def test_fillers_that_are_not_in_the_text_only_take_time() -> None:
    fillers = [("嗯", 0, 400), *((word, begin + 400, end + 400) for word, begin, end in PAUSED[:3]), ("呃", 7000, 7200)]
    assert captions("我们明天去，后天回来。", [*fillers, *PAUSED[3:]])[1][:2] == (7200, 8200)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I DON'T Know… today", ["i", "don’t", "know", "today"]),
        ("我有２０个，today", ["我", "有", "20", "个", "today"]),
        ("Cafe\u0301 au lait, today", ["Café", "au", "lait", "today"]),
        ("It costs 20 now, today", ["It", "costs", "twenty", "now", "today"]),
        ("这***的 today", ["这", "该死", "的", "today"]),
        ("٢٠٢٦ year today", ["2026", "year", "today"]),
    ],
)
def test_case_width_quotes_figures_and_masks_do_not_matter(text: str, words: list[str]) -> None:
    timed = [(word, 500 * at, 500 * at + 500) for at, word in enumerate(words[:-1])]
    found = captions(text, [*timed, (words[-1], 9000, 9500)])
    assert found[-1][0] == 9000
    assert found[-1][2] == "today"


def test_text_that_no_word_spells_takes_the_time_of_the_words_that_are_not_in_the_text() -> None:
    words = [
        TimedWord("costs", 0, 500),
        TimedWord("twenty", 700, 900),
        TimedWord("one", 900, 1300),
        TimedWord("now", 2000, 2500),
    ]
    assert align("costs 21 now", words, 0, 2500) == [(5, 0, 500), (7, 700, 1300), (10, 2000, 2500)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("今天天氣很好", ["今天", "天气", "很", "好"]),
        ("我们第2很好", ["我们", "第二", "很", "好"]),
        ("他有***很好", ["他有", "坏人", "很", "好"]),
    ],
)
def test_a_word_that_is_half_rewritten_keeps_the_pause_after_it(text: str, words: list[str]) -> None:
    times = [(1000, 1300), (1300, 1800), (6000, 6400), (6400, 7000)]
    found = captions(text, [(word, *each) for word, each in zip(words, times, strict=True)])
    assert [(begin, end) for begin, end, _ in found] == [(1000, 2000), (6000, 7000)]


def test_a_word_that_is_half_rewritten_keeps_the_pause_before_it() -> None:
    found = captions("你好氣天，很好", [("你好", 0, 800), ("气天", 6000, 6500), ("很好", 6500, 7000)])
    assert [(begin, end) for begin, end, _ in found] == [(0, 1000), (6000, 7000)]


def test_words_without_times_lie_between_their_neighbours() -> None:
    said_words = said("你好吗？", [("你", 0, 400), ("好", 400, 800), ("吗", 2000, 2400)])
    del said_words["words"][1]["begin_time"]
    found = time_words(as_read(said_words), 42)
    assert found
    assert [found.begin(index) for index in range(3)] == [0, 400, 2000]
    assert found.end(2) == 2000


def test_words_that_all_begin_at_once_are_no_clock() -> None:
    assert captions("一二三四。", [(word, 1000, 3000) for word in "一二三四。"]) == [(1000, 3000, "一二三四。")]
    found = time_words(as_read(said("一二三四", [(word, 1000, 3000) for word in "一二三四"])), 42)
    assert found
    assert [found.begin(index) for index in range(4)] == [1000, 1500, 2000, 2500]


WORDS = ["会议", "好", "的", "我", "我们", "today", "the", "a", "and", "café", "20", "안녕", "สวัสดี", "don't"]


@st.composite
def edited(draw: st.DrawFn) -> tuple[str, list[TimedWord], list[int]]:
    """A text that has at least half of the words, in order; the words; and the numbers of those that were kept."""
    spoken = draw(st.lists(st.sampled_from(WORDS), min_size=2, max_size=30))
    time, words = 0, []
    for word in spoken:
        begin = time + draw(st.sampled_from([0, 0, 100, 3000]))
        time = begin + draw(st.sampled_from([100, 400]))
        words.append(TimedWord(word, begin, time))
    numbers = range(len(words))
    kept = sorted(draw(st.lists(st.sampled_from(numbers), min_size=-(-len(words) // 2), unique=True)))
    insert = st.sampled_from(["", " ", "，", "。 ", " “", "新的", " 99 ", "\ufffd", " other ", "***"])
    pieces = [f" {words[number].text.upper()} {draw(insert)}" for number in kept]
    return " ".join((draw(insert) + "".join(pieces)).split()), words, kept


@given(edited())
def test_matched_words_keep_their_times_between_their_neighbours(drawn: tuple[str, list[TimedWord], list[int]]) -> None:
    text, words, kept = drawn
    pieces = align(text, words, 0, words[-1].end)
    assert pieces
    assert pieces[-1].stop == len(text.replace(" ", ""))
    assert all(left.stop < right.stop and left.begin <= right.begin for left, right in pairwise(pieces))
    assert all(0 <= piece.begin <= piece.end <= words[-1].end for piece in pieces)
    spoken = {word.text for word in words}
    # Two words, or a word and inserted text, share characters. The text does not show which of them was spoken.
    ambiguous = {"我", "我们"} <= spoken or ("的" in spoken and "新的" in text)
    if len(spoken) == len(words) and not ambiguous:
        times = {(piece.begin, piece.end) for piece in pieces}
        assert all((words[number].begin, words[number].end) in times for number in kept)


@given(st.lists(st.integers(0, 5), max_size=40), st.lists(st.integers(0, 5), max_size=40))
def test_matches_are_equal_and_ascend(left: list[int], right: list[int]) -> None:
    found = matches(left, right)
    assert all(left[one] == right[other] for one, other in found)
    assert all(one < two and other < last for (one, other), (two, last) in pairwise(found))


@given(st.lists(st.integers(0, 3), max_size=30))
def test_equal_sequences_match_as_a_whole(items: list[int]) -> None:
    assert matches(items, items) == [(at, at) for at in range(len(items))]
