"""Sends a file to its store while it arrives, and keeps it on disk until the store has it.

The copy on disk is for what is known only at the end: the size, if the body has no Content-Length or the file is not
its last part, and the fields that follow the file. It also allows a second try after the store failed. Memory holds a
few chunks, whatever the size of the file.
"""

import asyncio
import errno
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

import structlog

from app.errors import UploadUnavailable

CHUNK_BYTES = 1024 * 1024
# Parts of a chunk. Bounds the memory of a file that arrives in single bytes, each of which is an object.
MAX_PARTS = 256
# Chunks between the client and the store.
CHUNKS_IN_FLIGHT = 4
# Space that uploads leave on the disk of DATA_DIR, where the embedded database may be: at most this, and at most a
# twentieth of the disk.
RESERVED_BYTES = 512 * 1024 * 1024

log = structlog.get_logger()

T = TypeVar("T")

Put = Callable[[AsyncIterator[bytes], int | None], Coroutine[Any, Any, T]]
"""Sends chunks to a store; the number is their size in bytes, or None if it is not known."""


class Spool:
    """A file that arrives: its copy on disk, its size and its SHA-256.

    One chunk is hashed and written in a thread while the next one arrives, and while the store gets it. Call `finish`
    before reading `sha256` or `chunks`. Raises UploadUnavailable if the disk is full.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.size = 0
        self._file = file
        self._hash = hashlib.sha256()
        # Joined once per chunk: each copy of a file takes a tenth of the time of its hash.
        self._parts: list[bytes | memoryview] = []
        self._parts_bytes = 0
        self._writing: asyncio.Future[None] | None = None

    @property
    def sha256(self) -> bytes:
        return self._hash.digest()

    async def add(self, data: bytes | memoryview) -> bytes | None:
        """Add data. Returns a chunk when one is complete: CHUNK_BYTES or more, or MAX_PARTS additions."""
        self._parts.append(data)
        self._parts_bytes += len(data)
        complete = self._parts_bytes >= CHUNK_BYTES or len(self._parts) >= MAX_PARTS
        return await self.flush() if complete else None

    async def flush(self) -> bytes | None:
        """Begin to write the rest. Returns it, or None if there is none. Raises OSError for the chunk before."""
        if not self._parts:
            return None
        chunk, self._parts, self._parts_bytes = b"".join(self._parts), [], 0
        self.size += len(chunk)
        await self.finish()
        self._writing = asyncio.get_running_loop().run_in_executor(None, self._write, chunk)
        return chunk

    async def finish(self) -> None:
        """Wait until all chunks are written. Raises UploadUnavailable."""
        if self._writing is None:
            return
        await asyncio.wait([self._writing])  # does not cancel the future with the caller: its thread goes on
        writing, self._writing = self._writing, None
        writing.result()

    def _write(self, chunk: bytes) -> None:
        with _disk_errors():
            disk = os.fstatvfs(self._file.fileno())
            reserved = min(RESERVED_BYTES, disk.f_blocks * disk.f_frsize // 20)
            if disk.f_bavail * disk.f_frsize < len(chunk) + reserved:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self._file.write(chunk) < len(chunk):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._hash.update(chunk)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The whole file, from the disk."""
        await asyncio.to_thread(self._file.seek, 0)
        while chunk := await asyncio.to_thread(self._file.read, CHUNK_BYTES):
            yield chunk


@asynccontextmanager
async def open_spool(folder: Path | None) -> AsyncIterator[Spool]:
    """A spool in `folder`, or in the folder for temporary files. The file has no name, so it never stays behind."""
    with _disk_errors():
        file = await asyncio.to_thread(tempfile.TemporaryFile, "w+b", buffering=0, dir=folder)
    with file:
        spool = Spool(file)
        try:
            yield spool
        finally:
            with suppress(UploadUnavailable):
                await spool.finish()  # the file must not be closed under a thread that writes it


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        log.warning("upload not kept on disk", reason=error.strerror)
        raise UploadUnavailable(f"The gateway cannot keep the file on its disk: {error.strerror}.") from error


class Incomplete(Exception):
    """The file ended before its announced size, or the client went away."""


class LiveTransfer(Generic[T]):
    """A call to a store that runs while the chunks arrive. `size` is the announced size of the file."""

    def __init__(self, put: Put[T], size: int | None) -> None:
        self.size = size
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(CHUNKS_IN_FLIGHT)
        self._complete = False
        self._task: asyncio.Task[T] = asyncio.ensure_future(put(self._chunks(), size))

    async def add(self, chunk: bytes) -> None:
        """Wait until the store takes the chunk. Does nothing if the store has failed: the file is sent again later."""
        await self._put(chunk)

    async def finish(self) -> T:
        """The outcome of the call for the whole file. Raises as the call."""
        self._complete = True
        await self._put(None)
        return await self._task

    async def abandon(self) -> None:
        """End the call before its end, so that the store keeps nothing."""
        if not self._task.done():
            await self._put(None)  # the iterator then raises Incomplete, and the store drops what it has
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.wait([self._task])
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _put(self, item: bytes | None) -> None:
        waiting = asyncio.ensure_future(self._queue.put(item))
        await asyncio.wait([waiting, self._task], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()

    async def _chunks(self) -> AsyncIterator[bytes]:
        while (chunk := await self._queue.get()) is not None:
            yield chunk
        if not self._complete:
            raise Incomplete
