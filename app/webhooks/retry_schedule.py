"""The retry schedule of deliveries, as Standard Webhooks recommends it. Pure.

`docs/webhooks.md` publishes the schedule. A test compares the two.
"""

from collections.abc import Sequence

MINUTE_S = 60.0
HOUR_S = 60 * MINUTE_S
# Delay after each failed attempt. With the first attempt at once, that is ten attempts in just over three days.
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
# Each delay grows by a random share up to this, so that deliveries that failed together are not retried together.
JITTER = 0.1
# Longest wait that a Retry-After can ask for: the longest delay of the schedule.
MAX_RETRY_AFTER_S = 24 * HOUR_S


def next_delay_s(failures: int, *, jitter: float, retry_after_s: float | None = None) -> float | None:
    """Seconds until the next attempt after `failures` failed ones, or None if the schedule is over.

    `jitter` is a random number in [0, 1). A Retry-After can delay the next attempt, but not bring it forward.
    """
    if failures > len(DELAYS_S):
        return None
    delay_s = DELAYS_S[failures - 1] * (1 + JITTER * jitter)
    return max(delay_s, min(retry_after_s or 0.0, MAX_RETRY_AFTER_S))
