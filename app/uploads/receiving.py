"""Receives a form with one file, and streams the file to its destination. Nothing stays behind after a failure."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from app.dashscope.temporary_storage import StorageFailed
from app.errors import Fault, InvalidRequest, UploadTooLarge, UploadUnavailable, json_pointer
from app.uploads.destinations import Destination, Stored
from app.uploads.form import Field, FileEnd, FileStart, FormEvent
from app.uploads.transfer import LiveTransfer, Spool, open_spool

# Tries from the disk, after the one while the file arrived.
MAX_TRIES = 2

log = structlog.get_logger()

Fields = Mapping[str, list[str]]
"""The values of the text fields, by name."""

OpenDestination = Callable[[Fields, str], Awaitable[Destination]]
"""Checks the fields and the file name, and opens the destination. Raises InvalidRequest or UploadUnavailable."""

OnArrival = Callable[[Fields, bytes], Awaitable[None]]
"""Called with all fields and the file's SHA-256 when the form has arrived, before the store keeps the file."""


async def accept(_fields: Fields, _sha256: bytes) -> None:
    """Keep every file that arrives."""


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """A file that its destination has accepted, and the fields that came with it."""

    fields: Fields
    name: str
    size: int
    sha256: bytes
    stored: Stored


async def receive(
    form: AsyncIterator[FormEvent],
    open_destination: OpenDestination,
    *,
    spool_folder: Path | None,
    on_arrival: OnArrival = accept,
) -> ReceivedFile:
    """Read the form to its end, and store its file.

    `open_destination` is called with the fields that came before the file, and once more if fields followed it.
    Raises the errors of the form and of `on_arrival`, InvalidRequest, UploadTooLarge or UploadUnavailable.
    """
    async with open_spool(spool_folder) as spool:
        receiver = _Receiver(spool, open_destination, on_arrival)
        try:
            async for event in form:
                await receiver.take(event)
            return await receiver.finish()
        finally:
            await receiver.abandon()


class _Receiver:
    def __init__(self, spool: Spool, open_destination: OpenDestination, on_arrival: OnArrival) -> None:
        self._spool = spool
        self._on_arrival = on_arrival
        self._open_destination = open_destination
        self._fields: dict[str, list[str]] = {}
        self._file: FileStart | None = None
        self._destination: Destination | None = None
        self._transfer: LiveTransfer[Stored] | None = None
        self._fields_followed = False

    async def take(self, event: FormEvent) -> None:
        match event:
            case Field(name, value):
                self._fields.setdefault(name, []).append(value)
                self._fields_followed = self._file is not None
            case FileStart():
                await self._start(event)
            case FileEnd():
                await self._send_on(await self._spool.flush())
            case memoryview():
                await self._send_on(await self._spool.add(event))

    async def finish(self) -> ReceivedFile:
        if self._file is None:
            raise InvalidRequest.at("/file", "is missing; send the audio as a part with a file name")
        if not self._spool.size:
            raise InvalidRequest.at("/file", "is empty")
        await self._spool.finish()
        await self._on_arrival(self._fields, self._spool.sha256)
        if self._fields_followed:
            await self.abandon()
            self._destination = await self._open_destination(self._fields, self._file.file_name)
            self._check_size(self._spool.size)
        stored = await self._stored_live() or await self._stored_from_disk(self._file.file_name)
        return ReceivedFile(self._fields, self._file.file_name, self._spool.size, self._spool.sha256, stored)

    async def abandon(self) -> None:
        """End a transfer that is under way. Its destination then keeps nothing."""
        transfer, self._transfer = self._transfer, None
        if transfer is not None:
            await transfer.abandon()

    async def _start(self, file: FileStart) -> None:
        if file.name != "file":
            raise InvalidRequest.at(
                json_pointer("", file.name), "is not a field of this form; send the audio as `file`"
            )
        if self._file is not None:
            raise InvalidRequest.at("/file", "is there twice; send one file in each request")
        self._file = file
        if file.size == 0:
            raise InvalidRequest.at("/file", "is empty")
        self._destination = await self._open_destination(self._fields, file.file_name)
        if file.size is not None:
            self._check_size(file.size)
        if file.size is not None or not self._destination.needs_size:
            self._transfer = LiveTransfer(self._destination.put, file.size)

    async def _send_on(self, chunk: bytes | None) -> None:
        if chunk is None:
            return
        self._check_size(self._spool.size)
        if self._transfer is not None:
            await self._transfer.add(chunk)

    async def _stored_live(self) -> Stored | None:
        """None if the file has to be sent again from the disk."""
        if self._transfer is None or self._transfer.size not in {None, self._spool.size}:
            await self.abandon()
            return None
        try:
            return await self._transfer.finish()
        except StorageFailed as error:
            log.warning("upload is sent again", reason=str(error))
            return None

    async def _stored_from_disk(self, file_name: str) -> Stored:
        failure: StorageFailed | None = None
        for _ in range(MAX_TRIES):
            destination = await self._open_destination(self._fields, file_name)
            try:
                return await destination.put(self._spool.chunks(), self._spool.size)
            except StorageFailed as error:
                failure = error
                log.warning("upload failed", reason=str(error))
        raise UploadUnavailable(f"The file was not stored: {failure}. Try again in a moment.")

    def _check_size(self, size: int) -> None:
        limit = self._destination.max_bytes if self._destination else 0
        if self._destination and size > limit:
            raise UploadTooLarge(
                f"The file has {size:,} bytes; the store takes at most {limit:,}.",
                faults=[Fault("/file", f"has {size:,} bytes; at most {limit:,}")],
            )
