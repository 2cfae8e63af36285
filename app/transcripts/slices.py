"""Slices of stored bodies that were sent lately, for the next who reads the same. Pure.

Bodies never change, and who asks is checked in the database every time: what is here saves fetching, nothing else.
"""

from collections import OrderedDict
from uuid import UUID

# Each reader has two of them in memory at a time. Smaller ones cost more statements, larger ones gain nothing.
SLICE_BYTES = 1024 * 1024
KEPT_BYTES = 16 * 1024 * 1024

Key = tuple[UUID, str, int]


class Slices:
    """By transcript, kind of body and offset; the least lately used go first."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept: OrderedDict[Key, bytes] = OrderedDict()
        self._room = kept_bytes

    def get(self, key: Key) -> bytes | None:
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def keep(self, key: Key, found: bytes) -> None:
        if key in self._kept:
            return
        self._kept[key] = found
        self._room -= len(found)
        while self._room < 0:
            _, dropped = self._kept.popitem(last=False)
            self._room += len(dropped)

    def forget(self, transcript_id: UUID) -> None:
        """It was deleted: nothing of it stays in this process."""
        for key in [key for key in self._kept if key[0] == transcript_id]:
            self._room += len(self._kept.pop(key))
