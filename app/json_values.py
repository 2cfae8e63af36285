"""Estimates the number of values in a JSON text before it is decoded. Pure.

The two bytes `[]` become an object of 64 bytes: 16 MB of them took 2.5 s and 420 MB to decode.
"""

# A longer number counts as several values, because parsing takes time quadratic in its digits.
DIGITS_PER_VALUE = 20
_DIGITS = b"0123456789"


def has_more_values(text: bytes, limit: int) -> bool:
    """Whether JSON contains more than `limit` values. A member of an object counts as one. 16 MB take 0.1 s at most.

    For invalid JSON the result has no meaning. It takes no more time.
    """
    if _count(text) < limit:
        return False  # even if nothing were inside of strings
    unescaped = text.replace(rb"\\", b"").replace(rb"\"", b"")
    if unescaped.count(b'"') > 4 * (limit + 1):
        return True  # at most two strings follow each separator: a name and a value
    outside_of_strings = b"".join(unescaped.split(b'"')[::2])
    return _count(outside_of_strings) >= limit


def _count(text: bytes) -> int:
    """An upper bound: each value but the first follows a comma or a bracket."""
    separators = text.count(b",") + text.count(b"[") + text.count(b"{")
    digits = len(text) - len(text.translate(None, _DIGITS))
    return separators + digits // DIGITS_PER_VALUE
