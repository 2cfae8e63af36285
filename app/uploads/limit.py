"""The limit of the uploads that a client has in progress in this process."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from app.errors import TooManyUploads

# Each holds a copy on disk and a connection to the storage, of which a process has 200. Slow uploads hold them long.
MAX_UPLOADS = 50


class UploadLimit:
    """Counts the uploads in progress of each client. One per process."""

    def __init__(self, max_uploads: int = MAX_UPLOADS) -> None:
        self._max_uploads = max_uploads
        self._open: Counter[UUID] = Counter()

    @contextmanager
    def hold(self, client_id: UUID) -> Iterator[None]:
        """Count one upload until the end of the block. Raises TooManyUploads if the client has too many."""
        if self._open[client_id] >= self._max_uploads:
            raise TooManyUploads(
                f"A client may have {self._max_uploads} uploads in progress at once; end some of them."
            )
        self._open[client_id] += 1
        try:
            yield
        finally:
            self._open[client_id] -= 1
            if not self._open[client_id]:
                del self._open[client_id]
