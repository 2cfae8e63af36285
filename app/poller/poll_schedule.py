"""The time of the next poll of a task. Pure.

While few tasks run, each is polled every third of a second, within the budget of queries. While many run, a task is
polled when it has probably ended: the estimate uses recent durations of the same account and model. A long wait needs
durations that agree, and is bounded in any case, because the next file may be short.
"""

from collections import deque

REMEMBERED = 64
MIN_WAIT_S = 0.5
# The longest wait between two polls if recent durations agree, and if they do not.
MAX_WAIT_S = 15.0
MAX_WAIT_IN_DOUBT_S = 3.0
# Durations agree if there are at least this many and the longest is at most this multiple of the shortest.
MIN_DURATIONS = 8
AGREEMENT = 2.0
# After the longest known duration: a tenth of the elapsed time, so the delay stays in proportion.
GROWTH = 0.1
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.9, 1.0)
# A poll exactly at the expected end would come too early half of the time.
MARGIN_S = 0.15
# While few tasks run: the shortest wait, its growth after 10 s, and the share of the query budget for these polls.
CLOSE_WAIT_S = 0.3
CLOSE_GROWTH = 0.03
CLOSE_SHARE = 0.75


def close_wait_s(elapsed_s: float, *, running: int, queries_per_s: float) -> float:
    """Seconds until the next poll of a task that was submitted `elapsed_s` ago, if the budget allows close polls.

    Tasks of 0.3 to 6 s take 11 queries on average, those of 6 s 20. Their end is seen 0.15 s later at p50 and 0.29 s
    at p95. `running` tasks share CLOSE_SHARE of `queries_per_s`: with 20 queries/s, up to 4 tasks get the shortest
    wait, and 45 tasks wait for 3 s each.
    """
    return max(CLOSE_WAIT_S, elapsed_s * CLOSE_GROWTH, running / (queries_per_s * CLOSE_SHARE))


class DurationEstimate:
    """The durations of recent tasks, in seconds from the submit to the end."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=REMEMBERED)

    def add(self, duration_s: float) -> None:
        self._recent.append(max(duration_s, 0.0))

    def next_poll_s(self, elapsed_s: float) -> float:
        """Seconds until the next poll of a task that was submitted `elapsed_s` ago."""
        earliest = elapsed_s + MIN_WAIT_S if elapsed_s else 0.0
        ends = self._expected_ends()
        agree = len(self._recent) >= MIN_DURATIONS and ends[-1] <= ends[0] * AGREEMENT
        for expected in ends:
            if expected > max(elapsed_s, earliest):
                max_wait_s = MAX_WAIT_S if agree else max(MAX_WAIT_IN_DOUBT_S, elapsed_s * GROWTH)
                return min(expected - elapsed_s, max_wait_s, MAX_WAIT_S)
        return min(max(elapsed_s * GROWTH, MIN_WAIT_S), MAX_WAIT_S)

    def _expected_ends(self) -> list[float]:
        ordered = sorted(self._recent)
        last = len(ordered) - 1
        return [ordered[round(quantile * last)] + MARGIN_S for quantile in QUANTILES] if ordered else []
