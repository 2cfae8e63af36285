"""Hides the URLs of other files in upstream's messages about a task. Pure."""

import re

from app.dashscope.file_urls import file_key

HIDDEN = "…"
# Blanks, quotation marks and Chinese punctuation end a URL. Splitting takes linear time.
_DELIMITERS = re.compile(r"([\s\"'<>`，。；、！（）【】《》「」“”‘’]+)")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,15}\Z")
_MAX_SCHEME_CHARS = 16
_CLOSING = ".,;:!)]}"


def hide_other_urls(message: str, own_url: str) -> str:
    """The message with `own_url` without its query, and an ellipsis in place of every other URL.

    The files of a task may belong to several clients. A client must not see the URLs of another client.
    """
    if "://" not in message:
        return message
    own = _without_query(own_url)
    keys = {file_key(own), file_key(own_url)}
    return "".join(_hide(part, own, keys) if "://" in part else part for part in _DELIMITERS.split(message))


def _hide(part: str, own: str, own_keys: set[str]) -> str:
    """Hide the URLs of one run of characters without delimiters, which may hold several URLs."""
    starts = _starts(part)
    pieces = [part[: starts[0]]]
    for start, end in zip(starts, [*starts[1:], len(part)], strict=True):
        url = part[start:end].rstrip(_CLOSING)
        closing = part[start + len(url) : end]
        is_own = bool(own_keys & {file_key(url), file_key(_without_query(url))})
        pieces += [own if is_own else HIDDEN, closing]
    return "".join(pieces)


def _starts(part: str) -> list[int]:
    """Positions at which URLs begin: the scheme before each `://`, or the `://` if it has no scheme."""
    starts = []
    position = part.find("://")
    while position >= 0:
        scheme = _SCHEME.search(part, max(0, position - _MAX_SCHEME_CHARS), position)
        starts.append(scheme.start() if scheme else position)
        position = part.find("://", position + 3)
    return starts


def _without_query(url: str) -> str:
    return url.partition("?")[0].partition("#")[0]
