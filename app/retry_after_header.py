"""Parses the Retry-After header of a response, of DashScope or of a webhook's receiver. Pure."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# Longer than any date. The parser of the standard library takes quadratic time.
_MAX_CHARS = 64


def parse_retry_after(value: str, *, now: datetime) -> float | None:
    """Seconds from the value of a Retry-After header, which is a number of seconds or a date. None if it is neither."""
    value = value.strip()
    if len(value) > _MAX_CHARS:
        return None
    if value.isascii() and value.isdecimal():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
        return (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds()
    except (ValueError, OverflowError):
        return None
