"""DashScope's formats of time. Fields have Beijing time without a zone, lists have milliseconds since 1970. Pure."""

from datetime import UTC, datetime
from typing import Literal

from app.dashscope.clock import BEIJING

EPOCH_YEAR = 1970


def field_time(at: datetime, *, timespec: Literal["milliseconds", "seconds"] = "milliseconds") -> str:
    """`2025-02-13 17:31:20.681`, and without the fraction in hot-word lists."""
    return at.astimezone(BEIJING).replace(tzinfo=None).isoformat(" ", timespec)


def epoch_ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def parse_window_time(text: str) -> datetime:
    """`YYYYMMDDhhmmss` in Beijing time, or milliseconds since 1970, which the Java SDK sends. Raises ValueError."""
    if len(text) == 13 and text.isascii() and text.isdecimal():
        return datetime.fromtimestamp(int(text) / 1000, UTC)
    if len(text) != 14:
        raise ValueError(text)
    at = datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=BEIJING)
    if at.year < EPOCH_YEAR:
        raise ValueError(text)
    return at


def object_store_time(at: datetime) -> str:
    """`2025-02-14T09:31:21.000Z`"""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
