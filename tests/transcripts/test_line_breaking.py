from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.transcripts.line_breaking import AFTER_COMMA, AFTER_STOP, AFTER_WORD, measure, split, width

CLOSING = "，。！？、；：」』）》〉】”…,.!?;:)]}%ーっ々"


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("", 0),
        ("Hello", 5),
        ("你好", 4),
        ("Hello，", 7),
        ("e\u0301", 1),
        ("👍🏽", 2),
        ("中\x07b", 3),
        ("中\x85", 2),
        ("한국", 4),
    ],
)
def test_width_counts_wide_characters_double(text: str, columns: int) -> None:
    assert width(text) == columns


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Hello World，这里是", ["Hello ", "World，", "这", "里", "是"]),
        ("Hello world, 这里。", ["Hello ", "world, ", "这", "里。"]),
        ("don’t break 3.14% or a-b", ["don’t ", "break ", "3.14% ", "or ", "a-b"]),
        ("他说：「你好！」走了", ["他", "说：", "「你", "好！」", "走", "了"]),
        ("他说“你好”。", ["他", "说", "“你", "好”。"]),
        ('说"你好"。', ["说", '"你', '好"。']),
        ("foo(中文)bar", ["foo", "(中", "文)", "bar"]),
        ("Bonjour ! « Oui » non", ["Bonjour ! ", "« Oui » ", "non"]),
        ("ラーメンちょっと", ["ラー", "メ", "ン", "ちょっ", "と"]),
        ("안녕하세요 저는", ["안녕하세요 ", "저는"]),
        ("か\u3099き", ["か\u3099", "き"]),
        ("现在3点15分", ["现", "在", "3", "点", "15", "分"]),
        ("，你", ["，", "你"]),
        (
            "((",
            [
                "((",
            ],
        ),
    ],
)
def test_lines_break_where_the_script_allows(text: str, parts: list[str]) -> None:
    assert split(text, 42) == parts


@pytest.mark.parametrize(
    ("text", "columns", "parts"),
    [
        ("abcdefghij", 4, ["abcd", "efgh", "ij"]),
        ("abcd，", 4, ["abc", "d，"]),
        ("你好，", 3, ["你", "好", "，"]),
        ("👨‍👩‍👧👨‍👩‍👧", 2, ["👨‍👩‍👧", "👨‍👩‍👧"]),
        ("🇨🇳🇫🇷", 2, ["🇨🇳", "🇫🇷"]),
        ("你", 1, ["你"]),
    ],
)
def test_a_part_wider_than_the_line_is_cut_between_characters(text: str, columns: int, parts: list[str]) -> None:
    assert split(text, columns) == parts


@given(st.text() | st.text("a 中。(「)」,\u0301👍\u200d🇨\"'"), st.integers(1, 60))
def test_parts_joined_are_the_text_and_fit_a_line(text: str, columns: int) -> None:
    tidy = " ".join(text.split())
    parts = split(tidy, columns)
    assert "".join(parts) == tidy
    assert all(part.strip(" ") for part in parts)
    assert all(width(part.strip(" ")) <= max(columns, 2) for part in parts)


@given(st.text("ab 中文。，」「!ー", max_size=40))
def test_only_the_first_part_may_begin_with_a_closing_mark(text: str) -> None:
    parts = split(" ".join(text.split()), 200)
    assert not any(part[0] in CLOSING for part in parts[1:])


@given(st.text("ab 中文。，」「!", max_size=40))
def test_words_are_not_divided(text: str) -> None:
    for left, right in pairwise(split(" ".join(text.split()), 200)):
        assert not (left[-1] in "ab" and right[0] in "ab")


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "(" * 50_000,
        "「" * 50_000,
        "a" * 50_000,
        "。" * 50_000,
        "a。" * 25_000,
        "( " * 25_000,
        '"中' * 25_000,
        ". " * 25_000,
    ],
)
def test_hostile_text_is_split_in_linear_time(text: str) -> None:
    assert "".join(split(text.strip(), 42)) == text.strip()


@pytest.mark.parametrize(
    ("part", "rank"),
    [
        ("好。", AFTER_STOP),
        ("好。」", AFTER_STOP),
        ("End. ", AFTER_STOP),
        ("(Mr. ", AFTER_WORD),
        ("e.g. ", AFTER_WORD),
        ("J. ", AFTER_WORD),
        ("好，", AFTER_COMMA),
        ("well, ", AFTER_COMMA),
        ("好", AFTER_WORD),
        ("」", AFTER_WORD),
        ("", AFTER_WORD),
    ],
)
def test_breaks_after_punctuation_are_better(part: str, rank: int) -> None:
    assert measure(part).rank == rank
