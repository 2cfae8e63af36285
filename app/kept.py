"""Bytes that are kept in memory as long as there is room: the least lately used go first. Pure."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")


class Kept(Generic[K]):
    """Up to `most_bytes`, in this process alone. What is kept under a key never changes."""

    def __init__(self, most_bytes: int) -> None:
        self._kept: OrderedDict[K, bytes] = OrderedDict()
        self._room = most_bytes

    def get(self, key: K) -> bytes | None:
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def keep(self, key: K, found: bytes) -> None:
        if key in self._kept:
            return
        self._kept[key] = found
        self._room -= len(found)
        while self._room < 0:
            _, dropped = self._kept.popitem(last=False)
            self._room += len(dropped)

    def forget(self, matches: Callable[[K], bool]) -> None:
        for key in [key for key in self._kept if matches(key)]:
            self._room += len(self._kept.pop(key))
