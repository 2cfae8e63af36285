"""The retry schedule of deliveries."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.webhooks.retry_schedule import DELAYS_S, JITTER, MAX_RETRY_AFTER_S, next_delay_s

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[2]


def test_each_failure_has_the_next_delay_until_the_schedule_ends() -> None:
    delays = [next_delay_s(failures, jitter=0.0) for failures in range(1, len(DELAYS_S) + 2)]
    assert delays == [*DELAYS_S, None]
    assert list(DELAYS_S) == sorted(DELAYS_S)


def test_jitter_lengthens_the_delay() -> None:
    assert next_delay_s(2, jitter=0.999) == pytest.approx(300 * (1 + JITTER), rel=0.001)


def test_retry_after_can_only_delay_an_attempt_within_limits() -> None:
    assert next_delay_s(1, jitter=0.0, retry_after_s=60) == 60
    assert next_delay_s(2, jitter=0.0, retry_after_s=60) == 300
    assert next_delay_s(1, jitter=0.0, retry_after_s=10**9) == MAX_RETRY_AFTER_S
    assert next_delay_s(1, jitter=0.0, retry_after_s=-5) == 5
    assert next_delay_s(10, jitter=0.0, retry_after_s=60) is None


def test_schedule_equals_the_published_one() -> None:
    published = (ROOT / "docs/webhooks.md").read_text()
    rows = [line.split("|") for line in published.splitlines() if line.startswith("| ") and " after the " in line]
    units = {"s": 1, "min": 60, "h": 3600}
    found = [row[2].split()[:2] for row in rows]
    assert [float(number) * units[unit] for number, unit in found] == list(DELAYS_S)
