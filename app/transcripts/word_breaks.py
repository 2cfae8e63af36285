"""Breaks at the ends of upstream's words, for texts whose lines end only there. Pure.

Twelve hours of speech have 150,000 words. The general search for breaks looks at each of their characters.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import count
from operator import add
from typing import cast

from app.transcripts.line_breaking import BreakableText, break_cost

# Up to eight Chinese characters with the marks behind them. Each character takes two columns.
_CHINESE_WORD = re.compile("[\u4e00-\u9fff]{1,8}[，。！？、；：]{0,2}")
MIN_COLUMNS_FOR_WORDS = 20
# Latin and Cyrillic letters, digits and ASCII marks. Each takes one column. No line breaks at the space after an
# opening mark, nor at that before a closing mark.
_SPACED_WORD = re.compile(r"(?![,.!?;:)\]}%])[!-~\u00c0-\u024f\u0400-\u0481]+(?<![(\[{])")
# Longer words hardly repeat, and a cache of them would hold gigabytes.
_MAX_SPACED_CHARS = 64


def breaks_at_words(text: str, words: Sequence[str], stops: Sequence[int], columns: int) -> BreakableText | None:
    """The breaks of a text at the ends of its words only. None if the text needs more breaks, or other ones.

    `words`: with their marks, and without spaces. `stops`: characters up to the end of each word, without spaces.
    """
    longest = max(map(len, words))
    if " " not in text and columns >= MIN_COLUMNS_FOR_WORDS and longest * 2 <= MIN_COLUMNS_FOR_WORDS:
        return _chinese(text, words, stops)
    if " " in text and longest <= min(columns, _MAX_SPACED_CHARS) and text.split(" ") == words:
        return _spaced(text, words, stops)
    return None


def _chinese(text: str, words: Sequence[str], stops: Sequence[int]) -> BreakableText | None:
    """A break inside a word costs more than the longest word here is wide, so no line would end there."""
    costs = [0, *map(_chinese_cost, words)]
    if None in costs:
        return None
    at = [0, *stops]
    begins = [2 * characters for characters in at]
    return BreakableText(text, at, at, begins, begins, cast("list[int]", costs))


def _spaced(text: str, words: Sequence[str], stops: Sequence[int]) -> BreakableText | None:
    """Lines end at spaces only, and each word stands between two of them."""
    costs = [0, *map(_spaced_cost, words)]
    if None in costs:
        return None
    ends = [0, *map(add, stops, count())]
    at = [0, *map(add, stops, count(1))]
    at[-1] = len(text)
    return BreakableText(text, at, [0, *stops], at, ends, cast("list[int]", costs))


@lru_cache(maxsize=32768)
def _chinese_cost(word: str) -> int | None:
    return break_cost(word[-1]) if _CHINESE_WORD.fullmatch(word) else None


@lru_cache(maxsize=32768)
def _spaced_cost(word: str) -> int | None:
    return break_cost(word) if _SPACED_WORD.fullmatch(word) else None
