"""Repairs JSON that parsers here refuse although it can be understood. Pure; linear time.

Upstream bills its responses and results, so they are repaired instead of refused.
"""

import re
from math import isfinite

# Escaped UTF-16: a surrogate pair, a lone surrogate, or an escaped backslash, after which no escape begins.
_HEX = rb"[0-9a-fA-F]{2}"
_SURROGATES = re.compile(rb"\\u[dD][89abAB]%b\\u[dD][c-fC-F]%b|(\\u[dD][89a-fA-F]%b)|\\\\" % (_HEX, _HEX, _HEX))
# A string, also one that does not end; a number; or a word for a number that JSON does not have.
_TOKEN = re.compile(
    rb'"(?:[^"\\]|\\.)*+"?|-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|[-+]?\b(?i:nan|inf(?:inity)?)\b', re.DOTALL
)
# A control character, an escape, or a backslash that begins no escape.
_SPECIAL = re.compile(rb'[\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})|\\')


def replace_lone_surrogates(raw: bytes) -> bytes:
    """JSON with U+FFFD in place of each lone surrogate, such as half an emoji.

    Many encoders write lone surrogates, and no parser here reads them.
    """
    if rb"\ud" not in raw and rb"\uD" not in raw:
        return raw
    return _SURROGATES.sub(lambda found: rb"\ufffd" if found[1] else found[0], raw)


def repair(raw: bytes) -> bytes:
    """JSON with null for NaN, Infinity and numbers that no double can hold, and in valid UTF-8.

    In strings, bytes that are not UTF-8 and lone surrogates become U+FFFD, control characters and stray backslashes
    become escapes. Other faults stay. For input that a parser refused: this takes longer than parsing.
    """
    text = raw.decode("utf-8", "replace").encode()
    return _TOKEN.sub(lambda found: _repaired_token(found[0]), replace_lone_surrogates(text))


def _repaired_token(token: bytes) -> bytes:
    if token.startswith(b'"'):
        return _SPECIAL.sub(lambda found: found[0] if len(found[0]) > 1 else b"\\u%04x" % found[0][0], token)
    return token if isfinite(float(token)) else b"null"
