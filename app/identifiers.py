"""UUIDv7 ids. They are ordered by creation time, so the newest job has the largest id."""

from datetime import datetime
from uuid import UUID

from uuid_utils import uuid7

# Smaller than every id.
UUID_MIN = UUID(int=0)
# Larger than every id.
UUID_MAX = UUID(int=(1 << 128) - 1)


def new_id() -> UUID:
    return UUID(bytes=uuid7().bytes)


def standard_uuid(value: UUID) -> UUID:
    """The same id as the standard library's class, for JSON encoders. asyncpg returns ids of a class of its own."""
    return UUID(int=value.int)


def lowest_id_at(at: datetime, *, shift_s: int = 0) -> UUID:
    """A lower bound of the ids created at or after `at` plus `shift_s` seconds."""
    milliseconds = int((at.timestamp() + shift_s) * 1000)
    return UUID(int=max(milliseconds, 0) << 80)
