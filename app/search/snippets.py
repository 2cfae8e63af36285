"""The stretch of text around a match, with the matches marked, safe to put into HTML. Pure."""

from collections.abc import Iterable
from html import escape

LENGTH = 120
BEFORE = 30
CUT = "…"

Span = tuple[int, int]


def snippet(text: str, marks: Iterable[Span]) -> str:
    """At most LENGTH characters of the text, from a little before the first mark. `marks`: at least one."""
    joined = _joined(marks)
    begin = max(0, min(joined[0][0] - BEFORE, len(text) - LENGTH))
    end = min(len(text), begin + LENGTH)
    pieces, at = [CUT] if begin else [], begin
    for start, stop in joined:
        if start >= end:
            break
        mark = escape(text[start : min(stop, end)], quote=False)
        pieces.append(f"{escape(text[at:start], quote=False)}<mark>{mark}</mark>")
        at = min(stop, end)
    pieces.append(escape(text[at:end], quote=False))
    return "".join(pieces) + (CUT if end < len(text) else "")


def _joined(marks: Iterable[Span]) -> list[Span]:
    """In order, those that overlap as one."""
    joined: list[Span] = []
    for start, stop in sorted(marks):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(stop, joined[-1][1])
        else:
            joined.append((start, stop))
    return joined
