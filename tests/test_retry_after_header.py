"""The Retry-After header."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from app.retry_after_header import parse_retry_after

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        ("99999999999", 99999999999),
        (" 7 ", 7),
        (format_datetime(NOW + timedelta(minutes=2), usegmt=True), 120),
        (format_datetime(NOW - timedelta(minutes=2), usegmt=True), -120),
        ("Mon, 23 Nov 2026 08:01:00", 60),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1e9", None),
        ("²", None),
        ("9" * 400, None),
        ("Mon, 99 Nov 2026 08:01:00 GMT", None),
    ],
)
def test_retry_after_is_a_number_of_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert parse_retry_after(value, now=NOW) == seconds
