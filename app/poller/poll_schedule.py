"""When to look at a task: when it is likely to have ended. Pure.

Recent durations of the same account and model say when that is, but only where they agree are they relied on, and
never for long: the next file may be a short one.
"""

from collections import deque

REMEMBERED = 64
SOONEST_S = 0.5
# The longest wait between two polls: where recent durations agree, and where they do not.
LATEST_S = 15.0
LATEST_IN_DOUBT_S = 3.0
ENOUGH = 8
AGREEMENT = 2.0
# After the end of every known duration: a tenth of the time that has passed, so the delay stays in proportion.
GROWTH = 0.1
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.9, 1.0)
# A look exactly at the expected end comes too early half of the time.
MARGIN_S = 0.15


class DurationEstimate:
    """The durations of the last tasks, in seconds from their submit to their end."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=REMEMBERED)

    def add(self, duration_s: float) -> None:
        self._recent.append(max(duration_s, 0.0))

    def next_poll_s(self, elapsed_s: float) -> float:
        """Seconds from now until the next look at a task that was submitted `elapsed_s` ago."""
        soonest = elapsed_s + SOONEST_S if elapsed_s else 0.0
        ends = self._expected_ends()
        for expected in ends:
            if expected > max(elapsed_s, soonest):
                latest_s = LATEST_S if self._agree(ends) else max(LATEST_IN_DOUBT_S, elapsed_s * GROWTH)
                return min(expected - elapsed_s, latest_s, LATEST_S)
        return min(max(elapsed_s * GROWTH, SOONEST_S), LATEST_S)

    def _agree(self, ends: list[float]) -> bool:
        return len(self._recent) >= ENOUGH and ends[-1] <= ends[0] * AGREEMENT

    def _expected_ends(self) -> list[float]:
        ordered = sorted(self._recent)
        last = len(ordered) - 1
        return [ordered[round(quantile * last)] + MARGIN_S for quantile in QUANTILES] if ordered else []
