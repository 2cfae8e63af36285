"""Where a line of text may end, and where it ends best. Pure: knows characters and columns, carries times unread.

A column is what a terminal gives a Latin letter; Chinese and Japanese characters and Hangul take two. The rules
for Chinese and Japanese are the usual ones (kinsoku): break between any two characters, but put no closing mark
at the head of a line and no opening one at its tail. Latin and Korean words are broken at blanks only.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
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
_ATOM = re.compile(
    rf"(?:[{_OPENING}] ?){{0,3}}"
    rf"(?:[\"']?[{_FREE}][{_MARKS}]*(?:[\"'](?=[{_CLOSING} ]|$))?|[^{_SOLID}]{{0,255}}[^{_SOLID}{_OPENING}]|[^ ])"
    rf"(?:[{_CLOSING}][{_MARKS}]*| (?=[{_CLOSING}])(?:[{_CLOSING}]|[^{_SOLID}]{{1,255}}))*"
    r" ?"
)
# wcswidth answers -1 for a text with any of these in it.
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)])
_CHARACTER = rf"(?:[\U0001f1e6-\U0001f1ff]{{2}}|[^ ][{_MARKS}]*(?:\u200d[^ ][{_MARKS}]*){{0,8}})"
_CLUSTER = re.compile(rf"[{_OPENING}]{{0,3}}{_CHARACTER}(?:[{_CLOSING}][{_MARKS}]*){{0,4}} ?| ")
_SINGLE = re.compile(rf"{_CHARACTER} ?| ")


class Piece(NamedTuple):
    """A stretch of text that stays on one line. Times in milliseconds; `columns` without the `blank` at its end."""

    text: str
    columns: int
    blank: int
    rank: int
    begin_time: int
    end_time: int


def width(text: str) -> int:
    """Display columns of a text without line ends."""
    return len(text) if text.isascii() else _width(text)


@lru_cache(maxsize=32768)
def _width(text: str) -> int:
    return max(0, wcswidth(text.translate(_CONTROLS)))


class Measure(NamedTuple):
    """What is to be known of a part: its columns and characters without blanks at its end, and those blanks."""

    columns: int
    characters: int
    blank: int
    rank: int


@lru_cache(maxsize=32768)
def measure(part: str) -> Measure:
    """Kept for the parts that come again and again: words, or single Chinese characters."""
    text = part.rstrip(" ")
    return Measure(width(text), len(text) - text.count(" "), len(part) - len(text), _rank(text))


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
    parts: list[str] = []
    for part in _ATOM.findall(text):
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


def reach(pieces: Sequence[Piece], start: int, columns: int, first: int, lines: int) -> int:
    """The end of the longest run from `start` that fits on so many lines, the first one `first` columns wide.

    At least one piece is taken, be it too wide.
    """
    room, used = first, 0
    for index in range(start, len(pieces)):
        _, wide, blank, _, _, _ = pieces[index]
        if used and used + wide > room:
            lines -= 1
            if not lines:
                return index
            room, used = columns, 0
        used += wide + blank
    return len(pieces)


def choose(pieces: Sequence[Piece], start: int, lowest: int, highest: int, target: float, *, pull: float = 1) -> int:
    """The best break in `lowest`..`highest`: near `target` columns from `start`, after punctuation if it can be.

    `pull`: what a column of distance from the target weighs.
    """
    best, least, used = highest, float("inf"), 0
    for index in range(start, highest):
        _, wide, blank, rank, _, _ = pieces[index]
        used += wide + blank
        if index + 1 >= lowest:
            cost = abs(used - blank - target) * pull + _COST[rank]
            if cost <= least:
                best, least = index + 1, cost
    return best


def wrap(pieces: Sequence[Piece], columns: int, first: int) -> list[str]:
    """The pieces on as few lines as they need, of about equal width, broken after punctuation where that is near."""
    total = _total(pieces)
    if total <= first:
        return [_line(pieces)]
    starts = _earliest_starts(pieces, columns)
    lines: list[str] = []
    start = 0
    while start < len(pieces):
        room = columns if lines else first
        end = reach(pieces, start, columns, room, 1)
        if end < len(pieces):
            left = _lines_needed(starts, end)
            lowest = max(start + 1, starts[left - 1])
            end = choose(pieces, start, min(lowest, end), end, _total(pieces[start:]) / (left + 1))
        lines.append(_line(pieces[start:end]))
        start = end
    return lines


def _earliest_starts(pieces: Sequence[Piece], columns: int) -> list[int]:
    """The first piece from which on one line is enough, two are, and so on: filled up from the end."""
    starts, used = [], 0
    for index in range(len(pieces) - 1, -1, -1):
        _, wide, blank, _, _, _ = pieces[index]
        if used and used + wide + blank > columns:
            starts.append(index + 1)
            used = 0
        used += wide + (blank if used else 0)
    return [*starts, 0]


def _lines_needed(starts: Sequence[int], index: int) -> int:
    """How many lines hold everything from the index on."""
    return next(lines for lines, start in enumerate(starts, 1) if start <= index)


def _total(pieces: Sequence[Piece]) -> int:
    return sum([wide + blank for _, wide, blank, _, _, _ in pieces]) - pieces[-1].blank


def _line(pieces: Sequence[Piece]) -> str:
    return "".join([piece.text for piece in pieces]).strip(" ")
