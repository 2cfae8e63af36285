"""Metrics of the HTTP API, in the default registry of prometheus_client."""

from functools import cache

from prometheus_client import Counter, Histogram

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

requests = Counter("asr_gateway_http_requests", "HTTP requests by route template.", ["method", "route", "status"])
durations = Histogram(
    "asr_gateway_http_request_duration_seconds",
    "Time from the request to the end of the response, including long polls and event streams.",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
)


def record_request(method: str, route: str, status: int, duration_s: float) -> None:
    # Bounds the label values: callers can send any method.
    method = method if method in _METHODS else "other"
    _count(method, route, status).inc()
    _duration(method, route).observe(duration_s)


# Finding a child by its labels takes longer than counting. Prometheus keeps every child too.
@cache
def _count(method: str, route: str, status: int) -> Counter:
    return requests.labels(method, route, str(status))


@cache
def _duration(method: str, route: str) -> Histogram:
    return durations.labels(method, route)
