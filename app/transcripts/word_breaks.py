"""Breaks at the ends of upstream's words, for texts whose lines end only there. Pure.

Twelve hours of speech have 150,000 words. The general search for breaks looks at each of their characters.
"""

import re
from collections.abc import Callable, Sequence
from itertools import accumulate

from app.transcripts.line_breaking import BreakableText, break_cost

# Words of this many columns, and lines that are at least as wide: so no line ends within a word.
MAX_WORD_COLUMNS = 20
# Up to eight Chinese characters with the marks behind them. Each character takes two columns.
_CHINESE_WORD = re.compile("[\u4e00-\u9fff]{1,8}[，。！？、；：]{0,2}")
# Latin and Cyrillic letters, digits and ASCII marks. Each takes one column. No line breaks at the space after an
# opening mark, nor at that before a closing mark.
_SPACED_WORD = re.compile(r"(?![,.!?;:)\]}%])[!-~\u00c0-\u024f\u0400-\u0481]{1,20}(?<![(\[{])")
_MAX_WORDS = 32768


def breaks_at_words(text: str, words: Sequence[str], columns: int) -> BreakableText | None:
    """The breaks of a text at the ends of its words only. None if the text needs more breaks, or other ones.

    `text` has single spaces only, and none at its ends. `words`: with their marks, and with or without spaces at their
    ends. Also None if the words together are not the text.
    """
    if columns < MAX_WORD_COLUMNS:
        return None
    return _spaced(text, words) if " " in text else _chinese(text, words)


def _chinese(text: str, words: Sequence[str]) -> BreakableText | None:
    """A break inside a word costs more than the longest word here is wide, so no line would end there."""
    if "".join(words) != text:
        return None
    try:
        costs = [0, *map(_chinese_costs.__getitem__, words)]
    except KeyError:
        return None
    at = [0, *accumulate(map(len, words))]
    begins = [2 * characters for characters in at]
    return BreakableText(text, at, begins, begins, costs)


def _spaced(text: str, words: Sequence[str]) -> BreakableText | None:
    """Lines end at spaces only, and each word stands between two of them."""
    if "".join(words).strip(" ") != text:  # some spaces of the text are in no word
        words = list(map(str.strip, words))
        if " ".join(words) != text:
            return None
    # A word that matches the pattern has no space inside. If the text has as many spaces as there are borders between
    # words, each border has one.
    if text.count(" ") != len(words) - 1:
        return None
    try:
        costs = [0, *map(_spaced_costs.__getitem__, words)]
        at = [0, *accumulate(map(_spaced_columns.__getitem__, words))]
    except KeyError:
        return None
    ends = [stop - 1 for stop in at]
    at[-1], ends[0] = len(text), 0
    return BreakableText(text, at, at, ends, costs)


class _ByWord(dict[str, int]):
    """A number for each word that matches a pattern. Spaces at the ends of a word are ignored.

    Raises KeyError for words that do not match. Words repeat, so their numbers are kept.
    """

    def __init__(self, pattern: re.Pattern[str], number: Callable[[str], int]) -> None:
        super().__init__()
        self._pattern = pattern
        self._number = number

    def __missing__(self, word: str) -> int:
        stripped = word.strip(" ")
        if not self._pattern.fullmatch(stripped):
            raise KeyError(word)
        if len(self) >= _MAX_WORDS:
            self.clear()
        number = self[word] = self._number(stripped)
        return number


_chinese_costs = _ByWord(_CHINESE_WORD, break_cost)
_spaced_costs = _ByWord(_SPACED_WORD, break_cost)
_spaced_columns = _ByWord(_SPACED_WORD, lambda word: len(word) + 1)  # with the space after the word
