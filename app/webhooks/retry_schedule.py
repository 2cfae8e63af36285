"""When a delivery is tried again, as data: the schedule that Standard Webhooks recommends. Pure.

`docs/webhooks.md` publishes it; a test compares the two.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MINUTE_S = 60.0
HOUR_S = 60 * MINUTE_S
# How long after each failed try the next one comes. The first try is made at once: ten tries in a good three days.
DELAYS_S: Sequence[float] = (
    5.0,
    5 * MINUTE_S,
    30 * MINUTE_S,
    2 * HOUR_S,
    5 * HOUR_S,
    10 * HOUR_S,
    14 * HOUR_S,
    20 * HOUR_S,
    24 * HOUR_S,
)
# Each delay is stretched by up to so much, so that what failed together does not come back together.
JITTER = 0.1
# Longer than the longest delay nobody is waited for, whatever their Retry-After says.
MAX_RETRY_AFTER_S = 24 * HOUR_S
# No date is as long, and the standard library's reader takes the square of what it reads.
_MAX_RETRY_AFTER_CHARS = 64


def next_delay_s(tries: int, *, jitter: float, retry_after_s: float | None = None) -> float | None:
    """The wait after so many failed tries; None: that was the last one. `jitter` is a random number in [0, 1).

    A receiver's Retry-After can put a try off, never bring it forward.
    """
    if tries > len(DELAYS_S):
        return None
    delay_s = DELAYS_S[tries - 1] * (1 + JITTER * jitter)
    return max(delay_s, min(retry_after_s or 0.0, MAX_RETRY_AFTER_S))


def parse_retry_after(value: str, *, now: datetime) -> float | None:
    """Seconds from a Retry-After header, which holds a number of them or a date. None when it cannot be read."""
    value = value.strip()
    if len(value) > _MAX_RETRY_AFTER_CHARS:
        return None
    if value.isascii() and value.isdecimal() and len(value) < 10:
        return float(value)
    try:
        date = parsedate_to_datetime(value)
        return (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds()
    except (ValueError, OverflowError):
        return None
