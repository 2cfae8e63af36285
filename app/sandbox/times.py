"""Formats of time. In both regions, fields have Beijing time without a time zone."""

from datetime import UTC, datetime, timedelta, timezone

BEIJING = timezone(timedelta(hours=8))


def beijing(at: float) -> datetime:
    return datetime.fromtimestamp(at, BEIJING)


def field_time(at: float) -> str:
    """`2025-02-13 17:31:20.681`"""
    return beijing(at).isoformat(" ", "milliseconds").removesuffix("+08:00")


def whole_seconds(at: float) -> str:
    """`2024-11-05 16:31:32`, the format of hot-word lists."""
    return f"{beijing(at):%Y-%m-%d %H:%M:%S}"


def epoch_ms(at: float) -> int:
    return int(at * 1000)


def parse_window_time(text: str) -> float:
    """Parse `YYYYMMDDhhmmss` in Beijing time, or epoch milliseconds, which the tests of the Java SDK send."""
    if len(text) == 13 and text.isdecimal():
        return int(text) / 1000
    if len(text) != 14:
        raise ValueError(text)
    return datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=BEIJING).timestamp()


def utc_instant(at: float) -> str:
    """`2025-02-14T09:31:21.000Z`, the format of the object store."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
