"""Breaks at the ends of upstream's words, for texts whose lines end only there. Pure.

Twelve hours of speech have 150,000 words. The general search for breaks looks at each of their characters.
"""

import re
from collections.abc import Sequence
from itertools import accumulate

from app.transcripts.line_breaking import BreakableText, break_cost

# Words of this many columns, and lines that are at least as wide: so no line ends within a word.
MAX_WORD_COLUMNS = 20
# Up to eight Chinese characters with the marks behind them. Each character takes two columns.
_CHINESE_WORD = re.compile("[\u4e00-\u9fff]{1,8}[，。！？、；：]{0,2}")
# A space, then Latin and Cyrillic letters, digits and ASCII marks. Each takes one column. No line breaks at the space
# after an opening mark, nor at that before a closing mark.
_SPACED_WORD = re.compile(r" (?![,.!?;:)\]}%])[!-~\u00c0-\u024f\u0400-\u0481]{1,20}(?<![(\[{])")
_MAX_WORDS = 32768


def breaks_at_words(text: str, words: Sequence[str], columns: int) -> BreakableText | None:
    """The breaks of a text at the ends of its words only. None if the text needs more breaks, or other ones.

    `words`: with their marks, and with or without spaces at their ends. Also None if the words together, with single
    spaces between them or none, are not the text.
    """
    if columns < MAX_WORD_COLUMNS:
        return None
    if " " not in text:
        return _chinese(text, words)
    # Fun-ASR's words begin with a space, Paraformer's end with one, and qwen's have none.
    return _spaced(text, words) or _spaced(text, [f" {word.strip(' ')}" for word in words])


def _chinese(text: str, words: Sequence[str]) -> BreakableText | None:
    """A break inside a word costs more than the longest word here is wide, so no line would end there."""
    if "".join(words) != text:
        return None
    try:
        costs = [0.0, *map(_chinese_costs.__getitem__, words)]
    except KeyError:
        return None
    at = [0, *accumulate(map(len, words))]
    begins = [2 * characters for characters in at]
    return BreakableText(text, at, begins, begins, costs)


def _spaced(text: str, words: Sequence[str]) -> BreakableText | None:
    """Lines end at spaces only, and each word begins with one."""
    if "".join(words) != f" {text}":
        return None
    try:
        costs = [0.0, *map(_spaced_costs.__getitem__, words)]
    except KeyError:
        return None
    at = [0, *accumulate(map(len, words))]  # a word has its space before it, and the line one after it
    ends = [stop - 1 for stop in at]
    at[-1], ends[0] = len(text), 0
    return BreakableText(text, at, at, ends, costs)


class _BreakCosts(dict[str, float]):
    """The cost of a break after each word that matches a pattern. Raises KeyError for other words.

    Words repeat, so their costs are kept.
    """

    def __init__(self, pattern: re.Pattern[str]) -> None:
        super().__init__()
        self._pattern = pattern

    def __missing__(self, word: str) -> float:
        if not self._pattern.fullmatch(word):
            raise KeyError(word)
        if len(self) >= _MAX_WORDS:
            self.clear()
        cost = self[word] = break_cost(word)
        return cost


_chinese_costs = _BreakCosts(_CHINESE_WORD)
_spaced_costs = _BreakCosts(_SPACED_WORD)
