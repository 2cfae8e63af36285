"""Breaks at the ends of words are those of the general search, where they are used."""

from itertools import accumulate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.transcripts.line_breaking import BreakableText, best_break, find_breaks, last_fitting_break
from app.transcripts.word_breaks import breaks_at_words

# Letters of the scripts that have breaks at spaces only, and all marks that the general search treats in its own way.
SPACED = st.text("abZ09éßж.,!?:;'\"-()[]{}%$/&", min_size=1, max_size=12)
ANY = st.text("abé中国，。”“’·«»(),.‘\u0301👍\xadж", min_size=1, max_size=6)
WORDS = st.lists(st.one_of(SPACED, st.sampled_from(["Mr.", "e.g.", "U.S.", "no", "(a", "b)", "x" * 60])), min_size=1)


def at_words(words: list[str], columns: int) -> tuple[BreakableText | None, BreakableText]:
    stops = list(accumulate(map(len, words)))
    text = " ".join(words)
    return breaks_at_words(text, words, columns), find_breaks(text, columns, frozenset(stops))[0]


@given(WORDS, st.integers(4, 60))
def test_spaced_words_have_the_breaks_of_the_general_search(words: list[str], columns: int) -> None:
    found, general = at_words(words, columns)
    assert found is None or found == general


@given(st.lists(ANY, min_size=2), st.integers(4, 60))
def test_words_of_any_characters_have_the_breaks_of_the_general_search(words: list[str], columns: int) -> None:
    found, general = at_words(words, columns)
    assert found is None or found == general


@given(st.lists(SPACED, min_size=2), st.data())
def test_spaces_at_the_ends_of_words_change_nothing(words: list[str], data: st.DataObject) -> None:
    """Fun-ASR's words begin with a space, Paraformer's end with one, and qwen's have none."""
    spelled = [word.join(data.draw(st.tuples(*[st.sampled_from(["", " "])] * 2))) for word in words]
    text = " ".join(words)
    assert breaks_at_words(text, spelled, 42) == breaks_at_words(text, words, 42)


SPACES = st.sampled_from(["", " ", "  "])


@example(["a ", " b", "c"])  # as many spaces as borders between words
@example([" a ", "b", " c"])
@example([" a", "  b"])
@given(st.lists(st.tuples(SPACES, SPACED, SPACES).map("".join), min_size=2))
def test_texts_with_other_spaces_than_one_between_words_are_left_to_the_general_search(words: list[str]) -> None:
    text = "".join(words).strip(" ")
    found = breaks_at_words(text, words, 42)
    if found is not None:
        assert text == " ".join(word.strip(" ") for word in words)
        assert found == find_breaks(text, 42, frozenset(accumulate(len(word.strip(" ")) for word in words)))[0]


@pytest.mark.parametrize("words", [["a", "b", " c"], ["a", "b ", "c"], ["a b", " c"], ["a\xa0", "b", " c"]])
def test_words_without_a_space_between_them_are_left_to_the_general_search(words: list[str]) -> None:
    assert breaks_at_words("".join(words), words, 42) is None


@pytest.mark.parametrize(
    "words",
    [["Hello", "world."], ["Straße", "и", "café,", "ok?"], ["It's", "5%", '"well-known"', "(so)", "e.g.", "x/y"]],
)
def test_ordinary_words_are_the_breaks(words: list[str]) -> None:
    assert at_words(words, 42)[0] is not None


@pytest.mark.parametrize(
    "words", [["a", "(", "b"], ["a", ",", "b"], ["a(", "b"], ["x" * 43, "a"], ["so", "(a", "b", "["]]
)
def test_spaces_within_a_line_and_long_words_are_left_to_the_general_search(words: list[str]) -> None:
    assert at_words(words, 42)[0] is None


@st.composite
def sources(draw: st.DrawFn) -> BreakableText:
    """Parts of one to twelve columns, with or without a space at their end, and any costs."""
    parts = draw(st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=40))
    begins = [0, *accumulate(columns + space for columns, space in parts)]
    ends = [0, *(begin - space for begin, (_, space) in zip(begins[1:], parts, strict=True))]
    costs = [0, *(draw(st.sampled_from([0, 3, 12, 30])) for _ in parts)]
    return BreakableText("", begins, begins, ends, costs)


@given(sources(), st.data(), st.floats(-5, 300), st.sampled_from([0.3, 1]))
def test_the_best_break_has_the_least_cost_and_is_the_last_of_them(
    source: BreakableText, data: st.DataObject, target: float, distance_cost: float
) -> None:
    start = data.draw(st.integers(0, source.last - 1))
    lowest = data.draw(st.integers(start + 1, source.last))
    highest = data.draw(st.integers(lowest, source.last))

    def cost(index: int) -> float:
        return abs(source.ends[index] - source.begins[start] - target) * distance_cost + source.costs[index]

    least = min(cost(index) for index in range(lowest, highest + 1))
    expected = max(index for index in range(lowest, highest + 1) if cost(index) == least)
    assert best_break(source, start, lowest, highest, target, distance_cost=distance_cost) == expected


@given(sources(), st.integers(1, 60), st.integers(1, 60), st.integers(1, 4))
def test_lines_take_as_many_parts_as_fit_and_at_least_one_with_a_width(
    source: BreakableText, columns: int, first: int, lines: int
) -> None:
    end = 0
    for available in [first, *[columns] * (lines - 1)]:
        visible = [at for at in range(end + 1, source.last + 1) if source.begins[at] > source.begins[end]]
        fitting = [at for at in range(source.last + 1) if source.ends[at] <= source.begins[end] + available]
        end = max(visible[0] if visible else source.last, *fitting)
    assert last_fitting_break(source, 0, source.last, columns, first, lines=lines) == end
