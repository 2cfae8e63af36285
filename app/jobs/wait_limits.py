"""Limits of the long polls and event streams that a client has open in this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from app.errors import TooManyWaits

MAX_WAITS = 2_500
# Of the jobs that open event streams show: a stream that the client does not read keeps its last event in memory.
MAX_SHOWN_BYTES = 64 * 1024 * 1024


@dataclass(slots=True)
class _Open:
    waits: int = 0
    shown_bytes: int = 0


class WaitLimits:
    """Counts the open waits of each client. One per process."""

    def __init__(self, *, max_waits: int = MAX_WAITS, max_shown_bytes: int = MAX_SHOWN_BYTES) -> None:
        self._max_waits = max_waits
        self._max_shown_bytes = max_shown_bytes
        self._open: dict[UUID, _Open] = {}

    @contextmanager
    def hold(self, client_id: UUID, *, shown_bytes: int = 0) -> Iterator[None]:
        """Count one wait until the end of the block. Raises TooManyWaits if the client has too many."""
        held = self._open.get(client_id, _Open())
        if held.waits >= self._max_waits:
            raise TooManyWaits(
                f"A client may have {self._max_waits:,} long polls and event streams open at once; end some of them."
            )
        # One stream is always possible.
        if shown_bytes and held.shown_bytes and held.shown_bytes + shown_bytes > self._max_shown_bytes:
            raise TooManyWaits(
                f"The jobs of a client's open event streams may have {self._max_shown_bytes:,} bytes together;"
                " end some of the streams."
            )
        held.waits += 1
        held.shown_bytes += shown_bytes
        self._open[client_id] = held
        try:
            yield
        finally:
            held.waits -= 1
            held.shown_bytes -= shown_bytes
            if not held.waits:
                del self._open[client_id]
