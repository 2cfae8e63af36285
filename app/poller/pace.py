"""The times of the poller's loops."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Times in seconds. The defaults suit DashScope; tests against the sandbox pass shorter ones."""

    round_s: float = 0.2
    """Between two rounds, unless the poller is woken."""
    min_round_s: float = 0.05
    """The shortest time between two rounds, however often the poller is woken."""
    unreachable_pauses_s: Sequence[float] = (0.0, 0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
    """Pauses after calls in a row without a usable response. A single one causes no pause."""
    unreachable_after_s: float = 10.0
    """Upstream counts as unreachable after some failed calls in a row that span at least this time."""
    list_retry_s: float = 2.0
    """Pause of the sweeps of the task list after a refusal that may be temporary."""
    cancel_retries_s: Sequence[float] = (1.0, 2.0, 4.0, 8.0, 15.0)
    """Waits between attempts to cancel a task while upstream does not respond or refuses the key.

    After the last one the task is left alone.
    """
    reconcile_after_s: float = 1.5
    """Between a lost submit and its reconciliation. The task list usually shows a new task within a second."""
    reconcile_retry_s: float = 2.0
    failed_list_retry_s: float = 5.0
    """Between reconciliations of which one could not read the task list."""
    min_lost_s: float = 6.0
    """The task list shows a new task after this time at the latest. Readings before that do not show its absence."""
    min_absent_s: float = 4.0
    """Between two readings of the whole list, which must both lack the task before its files are queued again.

    One reading may have come from a replica that is behind. Two of them cost one list call more, of 20 in a second.
    """
    incomplete_wait_s: float = 60.0
    """How long an ended upstream task that does not show all of its files is queried again before it is adopted."""

    def unreachable_pause_s(self, failures: int) -> float:
        """Seconds to wait before the next call, after this many calls in a row without a usable response."""
        return self.unreachable_pauses_s[min(failures, len(self.unreachable_pauses_s) - 1)]
