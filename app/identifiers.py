"""UUIDv7 ids. They are ordered by creation time on the database's clock, so the newest job has the largest id."""

from datetime import datetime
from uuid import UUID

from uuid_utils import uuid7

# Smaller than every id.
UUID_MIN = UUID(int=0)
# Larger than every id.
UUID_MAX = UUID(int=(1 << 128) - 1)


# A smaller change of the measured skew is an error of the measurement, and would disturb the order of ids.
MIN_CHANGE_MS = 1000


class _Clock:
    """Seconds by which the database's clock is ahead of this machine's. One per process."""

    ahead_ms = 0


def follow_database_clock(ahead_s: float) -> None:
    """Make new ids with the database's clock, which is `ahead_s` ahead of this machine's."""
    ahead_ms = round(ahead_s * 1000)
    if abs(ahead_ms - _Clock.ahead_ms) > MIN_CHANGE_MS:
        _Clock.ahead_ms = ahead_ms


def new_id() -> UUID:
    # The time is in the first 48 bits. The other bits keep the order of the ids of one millisecond.
    return UUID(int=uuid7().int + (_Clock.ahead_ms << 80))


def standard_uuid(value: UUID) -> UUID:
    """The same id as the standard library's class, for JSON encoders. asyncpg returns ids of a class of its own."""
    return UUID(int=value.int)


def lowest_id_at(at: datetime, *, shift_s: int = 0) -> UUID:
    """A lower bound of the ids created at or after `at` plus `shift_s` seconds."""
    milliseconds = int((at.timestamp() + shift_s) * 1000)
    return UUID(int=max(milliseconds, 0) << 80)
