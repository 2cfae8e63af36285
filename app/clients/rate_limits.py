"""Rate limits per client, and the header fields of draft-ietf-httpapi-ratelimit-headers-11, which may still change.

Requests are counted in this process: with several replicas of `api` the limit holds for each replica.
"""

from collections.abc import Callable
from time import monotonic
from uuid import UUID

from app.settings import Settings

# Seconds. Absorbs the rounding error of summed fractions.
_ROUNDING_S = 1e-6


class RateLimiter:
    """A token bucket per client: bursts of up to `limit`, refilled evenly within `per_s` seconds."""

    def __init__(self, limit: int, *, per_s: float = 1, clock: Callable[[], float] = monotonic) -> None:
        self.limit = limit
        self._per_s = per_s
        self._interval_s = per_s / limit
        self._clock = clock
        # When the bucket of each client is full again; one entry for each client that ever called.
        self._full_at: dict[UUID, float] = {}

    def take(self, client_id: UUID) -> int | None:
        """Number of requests that remain after this one; None if this one exceeds the limit and is not counted."""
        now = self._clock()
        full_at = max(self._full_at.get(client_id, now), now) + self._interval_s
        remaining_s = self._per_s + _ROUNDING_S - (full_at - now)
        if remaining_s < 0:
            return None
        self._full_at[client_id] = full_at
        return int(remaining_s / self._interval_s)

    def delay_s(self, client_id: UUID, *, at_most_s: float) -> float:
        """Count a request, and return how long it has to wait for its turn.

        A request that would have to wait longer than `at_most_s` is not counted, and waits for `at_most_s`.
        """
        now = self._clock()
        full_at = max(self._full_at.get(client_id, now), now) + self._interval_s
        wait_s = full_at - now - self._per_s - _ROUNDING_S
        if wait_s > at_most_s:
            return at_most_s
        self._full_at[client_id] = full_at
        return max(wait_s, 0)

    def give_back(self, client_id: UUID) -> None:
        """Undo one `take`."""
        self._full_at[client_id] -= self._interval_s


def rate_limiter(settings: Settings) -> RateLimiter | None:
    return RateLimiter(settings.client_requests_per_s) if settings.client_requests_per_s else None


def rate_limit_policy_header(settings: Settings) -> dict[str, str]:
    """`RateLimit-Policy`, or no header if there is no limit."""
    policies = []
    if settings.client_requests_per_s is not None:
        policies.append(f'"requests";q={settings.client_requests_per_s};w=1')
    if settings.client_waiting_files is not None:
        policies.append(f'"waiting-files";q={settings.client_waiting_files};qu="files"')
    return {"RateLimit-Policy": ", ".join(policies)} if policies else {}


def rate_limit_header(remaining: int | None) -> dict[str, str]:
    """`RateLimit`: the remaining requests, and that the quota is full again in one second."""
    return {"RateLimit": f'"requests";r={remaining or 0};t=1'}
