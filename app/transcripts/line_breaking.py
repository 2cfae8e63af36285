"""Line breaking: the places where a line of text may end, and the best of them. Pure; knows no times.

A column is the width of a Latin letter in a terminal; Chinese and Japanese characters and Hangul take two columns.
Chinese and Japanese follow the usual rules (kinsoku): a line may break between any two characters, but a closing mark
does not begin a line and an opening mark does not end one. Thai, Lao, Burmese, Khmer and Tibetan break at spaces and at
the ends of upstream's words. Latin and Korean break at spaces only.
"""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Container, Sequence
from functools import lru_cache
from itertools import accumulate
from math import inf
from operator import sub
from typing import NamedTuple

import msgspec
from wcwidth import wcswidth

# Quality of a break, by the text before it: inside an upstream word, between words, after a comma, after a full stop.
INSIDE_WORD, AFTER_WORD, AFTER_COMMA, AFTER_STOP = range(4)
# Cost of a break of each quality, in columns of distance from the target. A comma is worth a few columns of imbalance.
# Floats, because distances are floats: Python adds two numbers of one type in a third of the time.
_COST = (30.0, 12.0, 3.0, 0.0)
_RANKS = dict.fromkeys("。！？!?.…；;។៕။༎؟۔।॥", AFTER_STOP) | dict.fromkeys("，、,：:—–၊།،؛\u200b\u0f0b", AFTER_COMMA)
# Titles, initials, "e.g." and "U.S.": their full stop ends no sentence, so a line does not end after them.
_ABBREVIATION = re.compile(r"\W*(?:(?:[A-Za-z]\.)+|(?:Mrs?|Ms|Dr|Prof|Sr|Jr|St|No|vs)\.)")
_QUOTES = "”’」』）》〉】)]}\"'»›"

_LATIN_CLOSING = r",.!?;:)\]}%"
_WIDE_CLOSING = "，。！？、；：」』）》〉】〕］｝〗〙〛”»›…‥—～・％‰℃｡､｣･"
_SMALL_KANA = "々ーゝゞヽヾぁぃぅぇぉっゃゅょゎゕゖァィゥェォッャュョヮヵヶㇰ-ㇿｧ-ｯｰﾞﾟ"
_CLOSING = f"{_LATIN_CLOSING}{_WIDE_CLOSING}{_SMALL_KANA}’·"
_WIDE_OPENING = "「『（《〈【〔［｛〖〘〚“￥"
_OPENING = rf"(\[{{«‹‘{_WIDE_OPENING}"
# Han, kana, bopomofo and Yi: a line may break between any two characters. Not Hangul, because Korean has spaces.
_IDEOGRAPHIC = (
    "\u2e80-\u2fff\u3005-\u3007\u3021-\u3029\u3031-\u3098\u309b-\u312f\u3190-\ua4cf\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff"
)
# Combining marks, joiners, variation selectors and skin tones belong to the character before them.
_MARKS = (
    "".join(chr(code) for code in range(0x300, 0x10000) if unicodedata.category(chr(code)).startswith("M"))
    + "\u200b-\u200f\u2060\U0001f3fb-\U0001f3ff\U000e0020-\U000e01ef"
)
# Characters that end a Latin word. ’ and · are missing because they also stand inside words (don’t, col·lecció).
_WORD_END = f" {_IDEOGRAPHIC}{_WIDE_CLOSING}{_WIDE_OPENING}"

# Every part is bounded or cannot overlap with the next, so the time stays linear in hostile text as well.
# The first alternative is a shortcut: a line may always break between two Chinese characters.
_ATOM = re.compile(
    r"[\u4e00-\u9fff](?=[\u4e00-\u9fff])|"
    rf"(?:[{_OPENING}] ?){{0,3}}"
    rf"(?:[\"']?[{_IDEOGRAPHIC}][{_MARKS}]*(?:[\"'](?=[{_CLOSING} ]|$))?"
    rf"|[^{_WORD_END}]{{0,255}}[^{_WORD_END}{_OPENING}]|[^ ])"
    rf"(?:[{_CLOSING}][{_MARKS}]*| (?=[{_CLOSING}])(?:[{_CLOSING}]|[^{_WORD_END}]{{1,255}}))*"
    r" ?"
)
# Longest part that is cached. Longer parts hardly repeat, and a cache of whole texts would hold gigabytes.
_MAX_CACHED_CHARS = 64
# wcswidth returns -1 for a text that contains any of these characters.
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)])
# Thai, Lao, Tibetan, Burmese and Khmer have no spaces between words. Of Unicode's rules (UAX #14) for them only those
# that need no dictionary are here; words come from upstream.
_COMPLEX = re.compile("[\u0e00-\u109f\u1780-\u17ff\u19e0-\u19ff\ua9e0-\ua9ff\uaa60-\uaa7f]")
# Thai and Lao vowels that are written before their consonant.
_LEADING = "\u0e40-\u0e44\u0ec0-\u0ec4"
# Vowels and signs that never begin a line: ะ า ำ ๅ ๆ ฯ ๏, ະ າ ຳ ຽ ໆ ຯ, tsheg and shad, ၊ ။, ។ ៕ ៖ ៗ.
_FOLLOWING = (
    "\u0e2f\u0e30\u0e32\u0e33\u0e45\u0e46\u0e4f\u0e5a\u0e5b\u0eaf\u0eb0\u0eb2\u0eb3\u0ebd\u0ec6"
    "\u0f0b-\u0f14\u104a\u104b\u17d4-\u17da"
)
# Khmer coeng and Burmese virama join the consonant after them; a consonant with asat (U+103A) ends a syllable.
_JOINED = f"[\u17d2\u1039]+[{_LEADING}]*[^ ]|[\u1000-\u102a\u103f\u1050-\u1081][\u1037]?\u103a"
# A line may end after a zero width space and after the Tibetan tsheg, as after a space.
_WORD_SEPARATORS = "\u200b\u0f0b"
_GLUE = "\xa0\u2007\u202f\u2060\ufeff"
_HAS_GLUE = re.compile(f"[{_GLUE}]")
_CHARACTER = (
    rf"(?:[\U0001f1e6-\U0001f1ff]{{2}}"
    rf"|[{_LEADING}]*(?:[\u17d2\u1039]+[{_LEADING}]*[^ ]|[^ ])"
    rf"(?:{_JOINED}|[{_MARKS}{_FOLLOWING}])*(?:\u200d[^ ][{_MARKS}]*){{0,8}})"
)
_CLUSTER = re.compile(rf"[{_OPENING}]{{0,3}}{_CHARACTER}(?:[{_CLOSING}][{_MARKS}]*){{0,4}} ?| ")
_SINGLE = re.compile(rf"{_CHARACTER} ?| ")


class BreakableText(msgspec.Struct, frozen=True, gc=False):
    """A text and its breaks: the places where a line may begin and end, including both ends of the text.

    Each list has one entry per break; twelve hours of speech have half a million, too many for objects. `at` counts
    the characters before the break. The line between two breaks reaches from `begins` of the first to `ends` of the
    second, in columns; the two differ by the space before the break. `costs` rates each break, in columns of distance
    from the target.
    """

    text: str
    at: Sequence[int]
    begins: Sequence[int]
    ends: Sequence[int]
    costs: Sequence[float]

    @property
    def last(self) -> int:
        return len(self.at) - 1

    def line(self, start: int, stop: int) -> str:
        return self.text[self.at[start] : self.at[stop]].strip()


class TextSpan(msgspec.Struct, frozen=True, gc=False):
    """The part of a text between two of its breaks."""

    source: BreakableText
    start: int
    stop: int

    @property
    def columns(self) -> int:
        """Width including the space at its end."""
        return self.source.begins[self.stop] - self.source.begins[self.start]


def width(text: str) -> int:
    """Display columns of a text without line ends."""
    if text.isascii():
        return len(text)
    return _cached_width(text) if len(text) <= _MAX_CACHED_CHARS else _width(text)


def _width(text: str) -> int:
    return max(0, wcswidth(text.translate(_CONTROLS)))


_cached_width = lru_cache(maxsize=32768)(_width)


class PartMeasure(NamedTuple):
    """Columns of a part, its characters that are no spaces, the spaces at its end, and the quality of a break there."""

    columns: int
    nonblank: int
    blanks: int
    rank: int


def measure(part: str) -> PartMeasure:
    """Cached for short parts, which repeat: words, or single Chinese characters."""
    return _cached_measure(part) if len(part) <= _MAX_CACHED_CHARS else _measure(part)


def _measure(part: str) -> PartMeasure:
    text = part.rstrip(" ")
    blanks = len(part) - len(text)
    return PartMeasure(width(text) + blanks, len(text) - text.count(" "), blanks, _rank(text))


_cached_measure = lru_cache(maxsize=32768)(_measure)


def break_cost(text: str) -> float:
    """The cost of a break after a word."""
    return _COST[_rank(text)]


def _rank(text: str) -> int:
    last = text[-1:]
    if last in _QUOTES:
        last = text.rstrip(_QUOTES)[-1:]
    rank = _RANKS.get(last, AFTER_WORD)
    return AFTER_WORD if rank == AFTER_STOP and _ABBREVIATION.fullmatch(text) else rank


def split(text: str, columns: int, words: Container[int] | None = None) -> list[str]:
    """Split a text at its breaks. Each part keeps the space after it, so the parts joined are the text.

    `text` contains single spaces only, and none at its ends. A part wider than `columns` is cut between characters.
    `words`: as for `find_breaks`.
    """
    atoms: list[str] = _ATOM.findall(text)
    if not text.isascii():
        if _COMPLEX.search(text):
            atoms = _split_words(_joined(atoms, _COMPLEX, _COMPLEX), columns, words)
        if _HAS_GLUE.search(text):
            atoms = _joined(atoms, _HAS_GLUE, None)
    if len(max(atoms, key=len, default="")) * 2 <= columns:
        return atoms
    parts: list[str] = []
    for part in atoms:
        if len(part) * 2 > columns and width(part.rstrip(" ")) > columns:
            parts += _cut(part, columns)
        else:
            parts.append(part)
    return parts


def _joined(atoms: list[str], before: re.Pattern[str], after: re.Pattern[str] | None) -> list[str]:
    """The atoms without the breaks between a character of `before` and one of `after`. Without `after`: at either."""
    groups = [[atoms[0]]]
    for atom in atoms[1:]:
        last = groups[-1][-1][-1]
        if after is None:
            joined = last != " " and (before.match(last) or before.match(atom))
        else:
            joined = before.match(last) and after.match(atom)
        if joined:
            groups[-1].append(atom)
        else:
            groups.append([atom])
    return ["".join(group) for group in groups]


def _split_words(atoms: list[str], columns: int, words: Container[int] | None) -> list[str]:
    """Splits texts without spaces at the ends of upstream's words, and anywhere if a word is wider than a line."""
    parts: list[str] = []
    at = 0
    for atom in atoms:
        if not _COMPLEX.search(atom):
            parts.append(atom)
            at += len(atom) - atom.count(" ")
            continue
        part: list[str] = []
        for cluster in _CLUSTER.findall(atom):
            part.append(cluster)
            at += len(cluster) - cluster.count(" ")
            if (words is not None and at in words) or cluster[-1] in _WORD_SEPARATORS:
                parts += _within_columns(part, columns)
                part = []
        parts += _within_columns(part, columns)
    return parts


def _within_columns(clusters: list[str], columns: int) -> list[str]:
    """The clusters as one part, or each as a part if that is wider than a line."""
    part = "".join(clusters)
    return clusters if width(part.rstrip(" ")) > columns else [part] if part else []


def _cut(part: str, columns: int) -> list[str]:
    clusters: list[str] = []
    for cluster in _CLUSTER.findall(part):
        clusters += _SINGLE.findall(cluster) if width(cluster.rstrip(" ")) > columns else [cluster]
    cut = [""]
    for cluster in clusters:
        if cut[-1] and width(f"{cut[-1]}{cluster}".rstrip(" ")) > columns:
            cut.append(cluster)
        else:
            cut[-1] += cluster
    return cut


def find_breaks(text: str, columns: int, words: Container[int] | None = None) -> tuple[BreakableText, Sequence[int]]:
    """The breaks of a text that is not empty and that meets the conditions of `split`, and the characters before each.

    `words`: the ends of the upstream's words. These and the characters before a break are counted without spaces.
    None: unknown.
    """
    parts = split(text, columns, words)
    cached = len(max(parts, key=len)) <= _MAX_CACHED_CHARS
    widths, characters, blanks, ranks = zip(*map(_cached_measure if cached else measure, parts), strict=True)
    at = [0, *accumulate(map(len, parts))]
    begins = [0, *accumulate(widths)]
    nonblank, ends = at, begins
    if " " in text:  # a purely Chinese text has none
        nonblank = [0, *accumulate(characters)]
        ends = [0, *map(sub, begins[1:], blanks)]
    if words is None and not (not text.isascii() and _COMPLEX.search(text)):
        costs = [_COST[rank] for rank in ranks]
    else:
        known = words or ()
        costs = [
            _COST[rank if stop in known or spaces or rank != AFTER_WORD else INSIDE_WORD]
            for stop, rank, spaces in zip(nonblank[1:], ranks, blanks, strict=True)
        ]
    return BreakableText(text, at, begins, ends, [0.0, *costs]), nonblank


def join_spans(left: TextSpan, right: TextSpan, blanks: int) -> TextSpan:
    """Both spans as one text, with `blanks` additional spaces between them."""
    one, other = _detached(left), _detached(right)
    text = one.text + " " * blanks
    columns = one.begins[-1] + blanks
    both = BreakableText(
        text + other.text,
        [*one.at[:-1], *_shifted(other.at, len(text))],
        [*one.begins[:-1], *_shifted(other.begins, columns)],
        [*one.ends, *_shifted(other.ends[1:], columns)],
        [*one.costs, *other.costs[1:]],
    )
    return TextSpan(both, 0, both.last)


def _detached(span: TextSpan) -> BreakableText:
    """The span as a text of its own: all counts begin at 0."""
    source, part = span.source, slice(span.start, span.stop + 1)
    at, begins = source.at[part], source.begins[part]
    return BreakableText(
        source.text[at[0] : at[-1]],
        _shifted(at, -at[0]),
        _shifted(begins, -begins[0]),
        _shifted(source.ends[part], -begins[0]),
        source.costs[part],
    )


def _shifted(counts: Sequence[int], by: int) -> list[int]:
    return [count + by for count in counts]


def last_fitting_break(source: BreakableText, start: int, stop: int, columns: int, first: int, *, lines: int) -> int:
    """The last break up to `stop` such that the text from `start` fits on `lines` lines, the first of `first` columns.

    Each line takes at least one part that has a width, even if the part is too wide.
    """
    begins, ends = source.begins, source.ends
    end, available = start, first
    while lines and end < stop:
        begin = begins[end]
        fits = bisect_right(ends, begin + available, end) - 1
        end = fits if begins[fits] > begin else bisect_right(begins, begin)
        lines, available = lines - 1, columns
    return min(end, stop)


def best_break(
    source: BreakableText, start: int, lowest: int, highest: int, target: float, *, distance_cost: float = 1.0
) -> int:
    """The best break in `lowest`..`highest`: near `target` columns from `start`, preferably after punctuation.

    `distance_cost`: cost of one column of distance from the target.
    """
    origin, ends, costs = source.begins[start], source.ends, source.costs
    best, least = highest, inf
    for index in range(highest, lowest - 1, -1):
        cost = (ends[index] - origin - target) * distance_cost
        if cost < 0.0:
            cost = -cost
            if cost >= least:  # all earlier breaks are further away
                break
        cost += costs[index]
        if cost < least:
            best, least = index, cost
    return best


def wrap(span: TextSpan, columns: int, first: int) -> list[str]:
    """The span on as few lines as possible, of similar width, broken after punctuation where that is near."""
    source, start, stop = span.source, span.start, span.stop
    begins, ends = source.begins, source.ends
    begin = begins[start]
    columns_of_span = ends[stop] - begin
    if columns_of_span <= first:
        return [source.line(start, stop)]
    # Two lines, as most captions have: the same as below, in half the time.
    earliest = bisect_left(begins, ends[stop] - columns, start + 1, stop - 1)
    highest = bisect_right(ends, begin + first, start, stop) - 1
    if earliest <= highest and begin < begins[highest]:
        end = best_break(source, start, earliest, highest, columns_of_span / 2)
        text, at = source.text, source.at
        return [text[at[start] : at[end]].strip(), text[at[end] : at[stop]].strip()]
    starts = _earliest_starts(span, columns)
    lines: list[str] = []
    available = first
    while (end := last_fitting_break(source, start, stop, columns, available, lines=1)) < stop:
        left = next(lines for lines, at in enumerate(starts, 1) if at <= end)
        lowest = max(start + 1, starts[left - 1])
        fair = (ends[stop] - begins[start]) / (left + 1)
        end = best_break(source, start, min(lowest, end), end, fair)
        lines.append(source.line(start, end))
        start, available = end, columns
    return [*lines, source.line(start, stop)]


def _earliest_starts(span: TextSpan, columns: int) -> list[int]:
    """For 1, 2, … lines: the first break from which the rest fits. Lines are filled from the end of the span."""
    source, stop = span.source, span.stop
    starts = []
    while stop > span.start:
        stop = bisect_left(source.begins, source.ends[stop] - columns, span.start, stop - 1)
        starts.append(stop)
    return starts
