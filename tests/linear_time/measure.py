"""Every parser of input from clients or DashScope takes time in proportion to the size of the input.

Each case is parsed at 16 KB and at 64 KB of the worst input that is known for it. Linear code takes 4 times as long for
the second, quadratic code 16 times.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any

import pytest

from app.errors import GatewayError

Read = Callable[[Any], object]

SMALL, LARGE = 16 * 1024, 64 * 1024
# Quadratic code takes some 100 ms or more for the large input: what takes less than FLOOR_S needs no second look.
# More than MAX_TIMES means that the quadratic part takes at least two thirds of the time for the large input.
MAX_TIMES, FLOOR_S = 8, 0.002
# A single good try ends a case, so only doubtful cases take more: a busy machine can be slow for half a second.
MAX_TRIES, MAX_TRIES_S = 20, 5.0


def seconds(read: Read, value: Any) -> float:
    """CPU time of this thread: other threads and processes do not count."""
    started = time.thread_time()
    with suppress(ValueError, GatewayError):
        read(value)
    return time.thread_time() - started


def assert_linear(read: Read, make: Callable[[int], Any], case: str = "") -> None:
    """`make` gives the input of about that many bytes."""
    assert_linear_for(read, make(SMALL), make(LARGE), case)


def assert_linear_for(read: Read, small: Any, large: Any, case: str) -> None:
    """The fastest of several tries counts. One is enough if it is fast, or if the times are in proportion."""
    small_s = large_s = inf
    ends_at = time.thread_time() + MAX_TRIES_S
    for _ in range(MAX_TRIES):
        large_s = min(large_s, seconds(read, large))
        if large_s < FLOOR_S:
            return
        small_s = min(small_s, seconds(read, small))
        if large_s < MAX_TIMES * small_s + FLOOR_S:
            return
        if time.thread_time() > ends_at:
            break
    pytest.fail(f"{case!r}: {small_s:.4f} s for {SMALL} bytes, {large_s:.4f} s for {LARGE}")


def assert_linear_in(read: Read, units: Iterable[str], before: str = "", after: str = "") -> None:
    """For texts that repeat each of the units."""
    for unit in units:
        assert_linear(read, partial(repeated, unit, before=before, after=after), f"{before} {unit} {after}")


def repeated(unit: str, size: int, *, before: str = "", after: str = "") -> str:
    return before + unit * (size // len(unit.encode("utf-8", "surrogatepass"))) + after


def copies(unit: str, size: int) -> list[str]:
    """Copies of a text with about `size` bytes in all."""
    return [unit] * (size // len(unit.encode()))
