"""Texts are folded, indexed and searched in linear time."""

from functools import partial

import pytest

from app.search.folding import clean, fold, open_borders, origins
from app.search.matching import matches
from app.search.query import Query, parse
from app.search.segments import Segment, Segments, segment_terms, unpack
from tests.linear_time.measure import LARGE, SMALL, Read, assert_linear_for, assert_linear_in, copies, repeated

MARKS = ["\u0323\u0301", "\u3099", "\uff9e", "\u0345\u0301", "\u1161", "\u1100", "\u0e31", "\U0001d165\u0301"]
LETTERS = [
    "a",
    "a ",
    ".",
    " ",
    "天",
    "天a",
    "㍿",
    "ﷺ",
    "ﬀ",
    "\x1e",
    '"',
    "“",
    "a.",
    "\xad",
    "é",
    "e\u0301",
    "_",
    "\x1d",
    "한",
    "İ",
]
FOLDING: dict[str, Read] = {
    "fold": fold,
    "origins": origins,
    "open_borders": lambda text: open_borders(fold(text)),
    "clean": clean,
    "parse": parse,
}


@pytest.mark.parametrize("name", FOLDING)
def test_folding(name: str) -> None:
    assert_linear_in(FOLDING[name], [*MARKS, *LETTERS])
    assert_linear_in(FOLDING[name], MARKS, before="か")


QUERIES = {q: parse(q) for q in ('"a a a a"', "天天天地", '"天 a"', "f", "\u3099")}
SPOKEN = [*MARKS[:2], "a ", ".", "天", "ﬀ", "e\u0301", "a . ", "天 . "]


@pytest.mark.parametrize("unit", SPOKEN)
def test_search(unit: str) -> None:
    """A sentence is one segment, however long; many sentences are several."""
    for make in (_one, copies):
        small, large = make(unit, SMALL), make(unit, LARGE)
        case = f"{make.__name__} of {unit}"
        assert_linear_for(indexed, small, large, case)
        small_segments, large_segments = indexed(small), indexed(large)
        for q, query in QUERIES.items():
            assert_linear_for(partial(find, query), small_segments, large_segments, f"{q} in {case}")


def indexed(texts: list[str]) -> list[Segment]:
    segments = Segments()
    for number, text in enumerate(texts):
        segments.add(0, {"text": text, "begin_time": number, "end_time": number})
    found = [unpack(each.texts) for each in segments.finish()]
    for segment in found:
        segment_terms(segment)
    return found


def find(query: Query, segments: list[Segment]) -> None:
    for segment in segments:
        for _ in matches(segment, query):
            pass


def _one(unit: str, size: int) -> list[str]:
    return [repeated(unit, size, before="か")]
