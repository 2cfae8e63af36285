"""Where a line of text may end, and where it ends best. Pure: knows characters and columns, no times.

A column is what a terminal gives a Latin letter; Chinese and Japanese characters and Hangul take two. The rules
for Chinese and Japanese are the usual ones (kinsoku): break between any two characters, but put no closing mark
at the head of a line and no opening one at its tail. Latin and Korean words are broken at blanks only.
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

from wcwidth import wcswidth

# How good a break is, by what stands before it: inside an upstream word, between words, a comma, a full stop.
INSIDE, PLAIN, PAUSE, STOP = range(4)
# What a break costs, in columns of distance from the ideal place. A few columns out of balance for a comma.
_COST = (30, 12, 3, 0)
_RANKS = dict.fromkeys("。！？!?.…；;", STOP) | dict.fromkeys("，、,：:—–", PAUSE)
# Their stop ends no sentence, and their line does not end with them: titles, initials, "e.g.", "U.S.".
_ABBREVIATION = re.compile(r"\W*(?:(?:[A-Za-z]\.)+|(?:Mrs?|Ms|Dr|Prof|Sr|Jr|St|No|vs)\.)")
_QUOTES = "”’」』）》〉】)]}\"'»›"

_LATIN_CLOSING = r",.!?;:)\]}%"
_WIDE_CLOSING = "，。！？、；：」』）》〉】〕］｝〗〙〛”»›…‥—～・％‰℃｡､｣･"
_SMALL_KANA = "々ーゝゞヽヾぁぃぅぇぉっゃゅょゎゕゖァィゥェォッャュョヮヵヶㇰ-ㇿｧ-ｯｰﾞﾟ"
_CLOSING = f"{_LATIN_CLOSING}{_WIDE_CLOSING}{_SMALL_KANA}’·"
_WIDE_OPENING = "「『（《〈【〔［｛〖〘〚“￥"
_OPENING = rf"(\[{{«‹‘{_WIDE_OPENING}"
# Han, kana, bopomofo and Yi may be broken between any two characters. Hangul is left out: Korean has blanks.
_FREE = (
    "\u2e80-\u2fff\u3005-\u3007\u3021-\u3029\u3031-\u3098\u309b-\u312f\u3190-\ua4cf\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff"
)
# Combining marks, joiners, variation selectors and skin tones belong to the character before them.
_MARKS = (
    "".join(chr(code) for code in range(0x300, 0x10000) if unicodedata.category(chr(code)).startswith("M"))
    + "\u200b-\u200f\u2060\U0001f3fb-\U0001f3ff\U000e0020-\U000e01ef"
)
# ’ and · also stand inside Latin words (don’t, col·lecció), so they are not among the marks that end one.
_SOLID = f" {_FREE}{_WIDE_CLOSING}{_WIDE_OPENING}"

# Every part is bounded or cannot overlap with the next, so the time stays linear in hostile text as well.
# Between two Chinese characters is a break always: said first, that is quickly found.
_ATOM = re.compile(
    r"[\u4e00-\u9fff](?=[\u4e00-\u9fff])|"
    rf"(?:[{_OPENING}] ?){{0,3}}"
    rf"(?:[\"']?[{_FREE}][{_MARKS}]*(?:[\"'](?=[{_CLOSING} ]|$))?|[^{_SOLID}]{{0,255}}[^{_SOLID}{_OPENING}]|[^ ])"
    rf"(?:[{_CLOSING}][{_MARKS}]*| (?=[{_CLOSING}])(?:[{_CLOSING}]|[^{_SOLID}]{{1,255}}))*"
    r" ?"
)
# What is longer is no word that comes again: a cache of whole texts would hold gigabytes.
_KEPT_CHARS = 64
# wcswidth answers -1 for a text with any of these in it.
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)])
_CHARACTER = rf"(?:[\U0001f1e6-\U0001f1ff]{{2}}|[^ ][{_MARKS}]*(?:\u200d[^ ][{_MARKS}]*){{0,8}})"
_CLUSTER = re.compile(rf"[{_OPENING}]{{0,3}}{_CHARACTER}(?:[{_CLOSING}][{_MARKS}]*){{0,4}} ?| ")
_SINGLE = re.compile(rf"{_CHARACTER} ?| ")


class Passage(NamedTuple):
    """A text and the breaks at which its lines may begin and end, the first and the last of which are its edges.

    Each list has an entry for each break: twelve hours have half a million, too many for objects of their own. `at`
    counts the characters before it, and `solid` those that are no blanks. A line from one break to another reaches
    from the one's `begins` to the other's `ends`, in columns; they differ by the blank before the break. `costs` says
    how bad it is to break there, in columns of distance from the ideal place.
    """

    text: str
    at: Sequence[int]
    solid: Sequence[int]
    begins: Sequence[int]
    ends: Sequence[int]
    costs: Sequence[int]

    @property
    def last(self) -> int:
        return len(self.at) - 1

    def line(self, start: int, stop: int) -> str:
        return self.text[self.at[start] : self.at[stop]].strip(" ")


class Stretch(NamedTuple):
    """What is between two breaks of a passage."""

    passage: Passage
    start: int
    stop: int

    @property
    def columns(self) -> int:
        """With the blank at its end."""
        return self.passage.begins[self.stop] - self.passage.begins[self.start]

    @property
    def width(self) -> int:
        """As one line."""
        return self.passage.ends[self.stop] - self.passage.begins[self.start]


def width(text: str) -> int:
    """Display columns of a text without line ends."""
    if text.isascii():
        return len(text)
    return _kept_width(text) if len(text) <= _KEPT_CHARS else _width(text)


def _width(text: str) -> int:
    return max(0, wcswidth(text.translate(_CONTROLS)))


_kept_width = lru_cache(maxsize=32768)(_width)


class Measure(NamedTuple):
    """What is to be known of a part: its columns, its characters that are no blanks, the blanks at its end."""

    columns: int
    characters: int
    blank: int
    rank: int


def measure(part: str) -> Measure:
    """Kept for the parts that come again and again: words, or single Chinese characters."""
    return _kept_measure(part) if len(part) <= _KEPT_CHARS else _measure(part)


def _measure(part: str) -> Measure:
    text = part.rstrip(" ")
    blank = len(part) - len(text)
    return Measure(width(text) + blank, len(text) - text.count(" "), blank, _rank(text))


_kept_measure = lru_cache(maxsize=32768)(_measure)


def _rank(text: str) -> int:
    last = text[-1:]
    if last in _QUOTES:
        last = text.rstrip(_QUOTES)[-1:]
    rank = _RANKS.get(last, PLAIN)
    return PLAIN if rank == STOP and _ABBREVIATION.fullmatch(text) else rank


def split(text: str, columns: int) -> list[str]:
    """The parts between which a line may be broken, each with the blank after it; joined they are the text.

    `text` has single blanks only and none at its edges. A part wider than `columns` is cut between characters.
    """
    atoms: list[str] = _ATOM.findall(text)
    if len(max(atoms, key=len, default="")) * 2 <= columns:
        return atoms
    parts: list[str] = []
    for part in atoms:
        if len(part) * 2 > columns and width(part.rstrip(" ")) > columns:
            parts += _cut(part, columns)
        else:
            parts.append(part)
    return parts


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


def passage(text: str, columns: int, words: Container[int] | None = None) -> Passage:
    """The text with its breaks; it is as `split` wants it, and not empty.

    `words`: where the upstream's words end, counted as `solid`; None: nobody knows.
    """
    parts = split(text, columns)
    wide, characters, blanks, ranks = zip(*map(measure, parts), strict=True)
    at = [0, *accumulate(map(len, parts))]
    begins = [0, *accumulate(wide)]
    solid, ends = at, begins
    if " " in text:  # as Chinese has not
        solid = [0, *accumulate(characters)]
        ends = [0, *map(sub, begins[1:], blanks)]
    if words is None:
        costs = [_COST[rank] for rank in ranks]
    else:
        costs = [
            _COST[rank if stop in words or blank or rank != PLAIN else INSIDE]
            for stop, rank, blank in zip(solid[1:], ranks, blanks, strict=True)
        ]
    return Passage(text, at, solid, begins, ends, [0, *costs])


def joined(left: Stretch, right: Stretch, blank: int) -> Stretch:
    """Both as one, with so many blanks more between them than there are."""
    one, other = _alone(left), _alone(right)
    text = one.text + " " * blank
    columns = one.begins[-1] + blank
    both = Passage(
        text + other.text,
        [*one.at[:-1], *_further(other.at, len(text))],
        [*one.solid[:-1], *_further(other.solid, one.solid[-1])],
        [*one.begins[:-1], *_further(other.begins, columns)],
        [*one.ends, *_further(other.ends[1:], columns)],
        [*one.costs, *other.costs[1:]],
    )
    return Stretch(both, 0, both.last)


def _alone(stretch: Stretch) -> Passage:
    """As a passage of its own, so that nothing is counted before it."""
    passage, start, stop = stretch
    at, solid, begins, ends, costs = (counts[start : stop + 1] for counts in passage[1:])
    return Passage(
        passage.text[at[0] : at[-1]],
        _further(at, -at[0]),
        _further(solid, -solid[0]),
        _further(begins, -begins[0]),
        _further(ends, -begins[0]),
        costs,
    )


def _further(counts: Sequence[int], by: int) -> list[int]:
    return [count + by for count in counts]


def reach(passage: Passage, start: int, columns: int, first: int, lines: int) -> int:
    """The last break up to which all from `start` fits on so many lines, the first one `first` columns wide.

    On each line is at least something that has a width, be it too wide.
    """
    begins, ends, last = passage.begins, passage.ends, passage.last
    end, room = start, first
    while lines and end < last:
        least = bisect_right(begins, begins[end])
        fits = bisect_right(ends, begins[end] + room) - 1
        end = min(max(least, fits), last)
        lines, room = lines - 1, columns
    return end


def choose(passage: Passage, start: int, lowest: int, highest: int, target: float, *, pull: float = 1) -> int:
    """The best break in `lowest`..`highest`: near `target` columns from `start`, after punctuation if it can be.

    `pull`: what a column of distance from the target weighs.
    """
    origin, ends, costs = passage.begins[start], passage.ends, passage.costs
    best, least = highest, inf
    for index in range(highest, lowest - 1, -1):
        beyond = (ends[index] - origin - target) * pull
        cost = abs(beyond) + costs[index]
        if cost < least:
            best, least = index, cost
        elif -beyond >= least:
            break
    return best


def wrap(stretch: Stretch, columns: int, first: int) -> list[str]:
    """The stretch on as few lines as it needs, of about equal width, broken after punctuation where that is near."""
    passage, start, stop = stretch
    if stretch.width <= first:
        return [passage.line(start, stop)]
    starts = _earliest_starts(stretch, columns)
    lines: list[str] = []
    room = first
    while (end := reach(passage, start, columns, room, 1)) < stop:
        left = _lines_needed(starts, end)
        lowest = max(start + 1, starts[left - 1])
        fair = Stretch(passage, start, stop).width / (left + 1)
        end = choose(passage, start, min(lowest, end), end, fair)
        lines.append(passage.line(start, end))
        start, room = end, columns
    return [*lines, passage.line(start, stop)]


def _earliest_starts(stretch: Stretch, columns: int) -> list[int]:
    """The first break from which on one line is enough, two are, and so on: filled up from the end."""
    passage, first, stop = stretch
    starts = []
    while stop > first:
        stop = bisect_left(passage.begins, passage.ends[stop] - columns, first, stop - 1)
        starts.append(stop)
    return starts


def _lines_needed(starts: Sequence[int], index: int) -> int:
    """How many lines hold everything from the break on."""
    return next(lines for lines, start in enumerate(starts, 1) if start <= index)
