"""Tells an outage of upstream from single lost calls. Pure except for the clock."""

import time
from collections.abc import Callable

# Upstream counts as unreachable after this many failed calls in a row that span at least this time. Either alone may
# be an accident: 64 submits in flight lose their responses together, and an idle account makes few calls a minute.
UNREACHABLE_CALLS = 3
UNREACHABLE_AFTER_S = 10.0


class Reachability:
    """The state of one account, as this process has seen it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._since = 0.0

    def succeeded(self) -> None:
        """Note a usable response, which may be a refusal."""
        self._failures = 0

    def failed(self) -> bool:
        """Note a call without a usable response. Returns whether upstream counts as unreachable."""
        if not self._failures:
            self._since = self._clock()
        self._failures += 1
        return self._failures >= UNREACHABLE_CALLS and self._clock() - self._since >= UNREACHABLE_AFTER_S
