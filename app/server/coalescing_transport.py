"""A transport that joins small writes and disconnects peers that stop reading."""

import asyncio
import fcntl
import struct
import termios
from contextlib import suppress
from typing import Any

import structlog

MAX_PENDING_BYTES = 16 * 1024

log = structlog.get_logger(__name__)


class CoalescingTransport:
    """Writes everything that one cycle of the event loop produces in a single call.

    uvicorn writes the head and the body of a response separately: two packets and two system calls, each of which
    wakes the client. That was a tenth of the cost of a request.

    A peer that acknowledges no byte of the pending output for `stall_s` seconds is disconnected. asyncio itself waits
    for ever, even after `close()`: a peer that never reads would hold the connection and its file.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, *, stall_s: float) -> None:
        self._transport = transport
        self._loop = loop
        self._stall_s = stall_s
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._flushed_bytes = 0
        self._check: asyncio.TimerHandle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes > MAX_PENDING_BYTES:
            # Write large data at once, so that a slow reader slows down the application.
            self._flush()
        elif len(self._pending) == 1:
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def connection_lost(self) -> None:
        """Cancel the timer, which would hold the connection's memory until it fires."""
        if self._check is not None:
            self._check.cancel()

    def _flush(self) -> None:
        if self._pending:
            if self._check is None:
                self._expect_progress(self._flushed_bytes)  # all earlier output is acknowledged
            pending, self._pending, self._pending_bytes = b"".join(self._pending), [], 0
            self._flushed_bytes += len(pending)
            self._transport.write(pending)

    def _expect_progress(self, acked_bytes: int) -> None:
        """Start the stall timer. There is one at a time, however much is written meanwhile.

        The timer looks at the output when it fires, and not at each write: asking the kernel takes 5 µs.
        """
        self._check = self._loop.call_later(self._stall_s, self._check_progress, acked_bytes)

    def _check_progress(self, acked_before: int) -> None:
        self._check = None
        unacked_bytes = self._unacked_bytes()
        if not unacked_bytes:
            return
        acked_bytes = self._flushed_bytes - unacked_bytes
        if acked_bytes > acked_before:
            self._expect_progress(acked_bytes)
        else:
            log.info("connection stalled", unacked_bytes=unacked_bytes)
            self._transport.abort()

    def _unacked_bytes(self) -> int:
        """Output that the peer has not acknowledged: asyncio's buffer, and the kernel's where the system reports it.

        asyncio's buffer alone shows no progress for minutes: the kernel accepts output in steps of up to a megabyte.
        """
        unacked_bytes = self._transport.get_write_buffer_size()
        with suppress(OSError, ValueError):
            file = self._transport.get_extra_info("socket").fileno()
            unacked_bytes += struct.unpack("i", fcntl.ioctl(file, termios.TIOCOUTQ, bytes(4)))[0]
        return unacked_bytes
