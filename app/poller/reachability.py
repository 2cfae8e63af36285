"""Whether upstream answers an account at all: an outage is told from a call that was lost. Pure but for the clock."""

import time
from collections.abc import Callable

# Calls in a row without a usable answer, and the time that they span at least. Either alone may be an accident: 64
# submits under way lose their answers together, and an idle account makes a call in minutes.
AWAY_CALLS = 3
AWAY_AFTER_S = 10.0


class Reachability:
    """What one process knows of one account."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._missed = 0
        self._since = 0.0

    def answered(self) -> None:
        """Upstream answered a call, be it by a refusal."""
        self._missed = 0

    def missed(self) -> bool:
        """Note a call without a usable answer. Returns whether upstream counts as away."""
        if not self._missed:
            self._since = self._clock()
        self._missed += 1
        return self._missed >= AWAY_CALLS and self._clock() - self._since >= AWAY_AFTER_S
