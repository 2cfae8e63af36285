"""UUIDv7 ids: ordered by the time they were made, so that the newest job is the one with the largest id."""

from uuid import UUID

from uuid_utils import uuid7


def new_id() -> UUID:
    return UUID(bytes=uuid7().bytes)
