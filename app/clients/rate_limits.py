"""How many requests a client may make in a while, and the header fields that tell how many in a second.

Counted in this process: with several replicas of `api` a client has the limit at each of them. The fields are those
of draft-ietf-httpapi-ratelimit-headers-11, which may still change.
"""

from collections.abc import Callable
from time import monotonic
from uuid import UUID

from app.settings import Settings

# Of a second: what adding up fractions of it may be off by.
_ROUNDING = 1e-6


class RateLimiter:
    """`most` requests at once, then one each `over_s / most` s: a bucket, full again after `over_s` of silence."""

    def __init__(self, most: int, *, over_s: float = 1, clock: Callable[[], float] = monotonic) -> None:
        self.most = most
        self._over_s = over_s
        self._each_s = over_s / most
        self._clock = clock
        # When each client's bucket is full again. As many entries as clients that ever called.
        self._full_at: dict[UUID, float] = {}

    def take(self, client_id: UUID) -> int | None:
        """How many requests are left after this one; None: this one is too many, and is not counted."""
        now = self._clock()
        full_at = max(self._full_at.get(client_id, now), now) + self._each_s
        left_s = self._over_s + _ROUNDING - (full_at - now)
        if left_s < 0:
            return None
        self._full_at[client_id] = full_at
        return int(left_s / self._each_s)

    def give_back(self, client_id: UUID) -> None:
        """One that was taken, and turned out not to count."""
        self._full_at[client_id] -= self._each_s


def rate_limiter(settings: Settings) -> RateLimiter | None:
    return RateLimiter(settings.client_requests_per_s) if settings.client_requests_per_s else None


def rate_limit_policy_header(settings: Settings) -> dict[str, str]:
    """`RateLimit-Policy`, when there is a limit."""
    policies = []
    if settings.client_requests_per_s is not None:
        policies.append(f'"requests";q={settings.client_requests_per_s};w=1')
    if settings.client_waiting_files is not None:
        policies.append(f'"waiting-files";q={settings.client_waiting_files};qu="files"')
    return {"RateLimit-Policy": ", ".join(policies)} if policies else {}


def rate_limit_header(left: int | None) -> dict[str, str]:
    """`RateLimit`: what is left, and that it is whole again in a second."""
    return {"RateLimit": f'"requests";r={left or 0};t=1'}
