"""UUIDv7 ids: ordered by the time they were made, so that the newest job is the one with the largest id."""

from datetime import datetime
from uuid import UUID

from uuid_utils import uuid7

# Smaller than any id.
UUID_MIN = UUID(int=0)
# Larger than any id.
UUID_MAX = UUID(int=(1 << 128) - 1)


def new_id() -> UUID:
    return UUID(bytes=uuid7().bytes)


def lowest_id_at(at: datetime, *, shift_s: int = 0) -> UUID:
    """No id that is made `shift_s` after that instant, or later, is smaller."""
    milliseconds = int((at.timestamp() + shift_s) * 1000)
    return UUID(int=max(milliseconds, 0) << 80)
