"""URLs that a message of the upstream quotes, in a message for the client of one file of a task. Pure."""

import re

from app.dashscope.file_urls import file_key

HIDDEN = "…"
# Quotation marks and Chinese punctuation end a URL as blanks do. Splitting takes linear time.
_BETWEEN = re.compile(r"([\s\"'<>`，。；、！（）【】《》「」“”‘’]+)")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,15}\Z")
_MAX_SCHEME = 16
_CLOSING = ".,;:!)]}"


def hide_other_urls(message: str, own_url: str) -> str:
    """The message with an ellipsis for every URL but `own_url`, which is shown without its query.

    The files of a task may be several clients', and the URL of a file is for its client alone.
    """
    if "://" not in message:
        return message
    own = _without_query(own_url)
    keys = {file_key(own), file_key(own_url)}
    return "".join(_hide(part, own, keys) if "://" in part else part for part in _BETWEEN.split(message))


def _hide(part: str, own: str, own_keys: set[str]) -> str:
    """One run of characters without blanks, which may hold several URLs."""
    starts = _starts(part)
    shown = [part[: starts[0]]]
    for start, end in zip(starts, [*starts[1:], len(part)], strict=True):
        url = part[start:end].rstrip(_CLOSING)
        closing = part[start + len(url) : end]
        is_own = bool(own_keys & {file_key(url), file_key(_without_query(url))})
        shown += [own if is_own else HIDDEN, closing]
    return "".join(shown)


def _starts(part: str) -> list[int]:
    """Where URLs begin: at the scheme before each `://`, or at that where none is before it."""
    starts = []
    position = part.find("://")
    while position >= 0:
        scheme = _SCHEME.search(part, max(0, position - _MAX_SCHEME), position)
        starts.append(scheme.start() if scheme else position)
        position = part.find("://", position + 3)
    return starts


def _without_query(url: str) -> str:
    return url.partition("?")[0].partition("#")[0]
