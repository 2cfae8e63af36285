"""Snippets of sentences."""

import re
from html import unescape

from hypothesis import given
from hypothesis import strategies as st

from app.search.matching import SNIPPET_LENGTH, snippet
from tests.search.search_case import found


def test_a_short_text_is_not_cut() -> None:
    assert snippet("退款政策", [(0, 2)]) == "<mark>退款</mark>政策"


def test_a_long_text_is_cut_around_the_first_match() -> None:
    result = snippet("甲" * 200 + "退款" + "乙" * 200, [(200, 202), (390, 391)])
    assert result == "…" + "甲" * 30 + "<mark>退款</mark>" + "乙" * 88 + "…"


def test_text_outside_marks_is_escaped() -> None:
    assert snippet("a <b> & 'c'", [(3, 4)]) == "a &lt;<mark>b</mark>&gt; &amp; 'c'"


def test_overlapping_marks_become_one() -> None:
    assert snippet("abcdef", [(2, 4), (1, 3), (4, 5)]) == "a<mark>bcde</mark>f"


def test_snippets_show_the_original_text_if_folding_changes_its_length() -> None:
    assert found("kg", "５㎏ a") == []
    assert found("ガラス", "赤いｶﾞﾗｽの") == ["赤い<mark>ｶﾞﾗｽ</mark>の"]
    assert found("strasse", "Die Straße.") == ["Die <mark>Straße</mark>."]
    assert found("film", "ﬁlm noir") == ["<mark>ﬁlm</mark> noir"]
    assert found("f", "ﬁlm noir") == ["<mark>ﬁ</mark>lm noir"]


def test_snippets_show_the_folded_text_if_it_cannot_be_mapped_back() -> None:
    assert found("학교", "\u1112\u1161\u11a8\u1100\u116d A") == ["<mark>학교</mark> a"]


@given(st.text(max_size=300), st.lists(st.tuples(st.integers(0, 299), st.integers(1, 300)), min_size=1))
def test_a_snippet_is_a_part_of_the_text(text: str, spans: list[tuple[int, int]]) -> None:
    marks = [(start, min(stop, len(text))) for start, stop in spans if start < min(stop, len(text))]
    if not marks:
        return
    plain = unescape(re.sub("</?mark>", "", snippet(text, marks)).removeprefix("…").removesuffix("…"))
    assert len(plain) <= SNIPPET_LENGTH
    assert plain in unescape(text) or "&" in text or "…" in text or "<" in text
