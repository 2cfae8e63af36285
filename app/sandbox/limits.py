"""Rate limits: a strict sliding window per account and kind of call, and per model for submits."""

import math
from collections import deque
from collections.abc import Hashable


class SlidingWindow:
    """At most `rps` calls in any second. Refused calls do not count."""

    def __init__(self, rps: float) -> None:
        # The window is longer or shorter than 1 s if the rate is not an integer, such as 100 calls per minute.
        self._capacity = math.inf if math.isinf(rps) else max(1, math.floor(rps))
        self._span_s = 0.0 if math.isinf(rps) else self._capacity / rps
        self._taken: deque[float] = deque()

    def take(self, now: float) -> bool:
        while self._taken and self._taken[0] <= now - self._span_s:
            self._taken.popleft()
        if len(self._taken) >= self._capacity:
            return False
        self._taken.append(now)
        return True


class RateLimits:
    def __init__(self) -> None:
        self._windows: dict[Hashable, SlidingWindow] = {}

    def take(self, key: Hashable, rps: float, now: float) -> bool:
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = SlidingWindow(rps)
        return window.take(now)
