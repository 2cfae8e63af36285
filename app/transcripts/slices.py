"""Slices of stored bodies that were sent lately, for the next who reads the same. Pure.

Bodies never change, and who asks is checked in the database every time: what is here saves fetching, nothing else.
"""

from uuid import UUID

from app.kept import Kept

# Each reader has two of them in memory at a time. Smaller ones cost more statements, larger ones gain nothing.
SLICE_BYTES = 1024 * 1024
CACHE_BYTES = 16 * 1024 * 1024

Key = tuple[UUID, str, int]


class Slices(Kept[Key]):
    """By transcript, kind of body and offset."""

    def __init__(self, most_bytes: int = CACHE_BYTES) -> None:
        super().__init__(most_bytes)

    def forget_transcript(self, transcript_id: UUID) -> None:
        """It was deleted: nothing of it stays in this process."""
        self.forget(lambda key: key[0] == transcript_id)
