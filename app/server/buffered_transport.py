"""A transport that joins small writes and gives up on peers that stop reading."""

import asyncio
import fcntl
import struct
import termios
from contextlib import suppress
from typing import Any

import structlog

MAX_HELD_BYTES = 16 * 1024

log = structlog.get_logger(__name__)


class BufferedTransport:
    """Hands over everything written within one turn of the event loop at once.

    uvicorn writes the head of a response and its body separately: two packets and two system calls, each of which
    wakes the client. That was a tenth of the cost of a request.

    A peer that takes no byte of the waiting output for `stall_s` seconds is disconnected. asyncio itself waits for
    ever, also after `close()`: a peer that never reads would keep the connection and its file.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, *, stall_s: float) -> None:
        self._transport = transport
        self._loop = loop
        self._stall_s = stall_s
        self._written: list[bytes] = []
        self._held_bytes = 0
        self._handed_bytes = 0
        self._check: asyncio.TimerHandle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self._written.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > MAX_HELD_BYTES:
            # Large pieces go out at once, so that a slow reader slows down the application that writes them.
            self._hand_over()
        elif len(self._written) == 1:
            self._loop.call_soon(self._hand_over)

    def close(self) -> None:
        self._hand_over()
        self._transport.close()

    def connection_lost(self) -> None:
        """Drop the timer: it would keep the connection's memory until it fires."""
        if self._check is not None:
            self._check.cancel()

    def _hand_over(self) -> None:
        if self._written:
            written, self._written, self._held_bytes = b"".join(self._written), [], 0
            self._transport.write(written)
            self._handed_bytes += len(written)
            if self._check is None:
                self._expect_progress()

    def _expect_progress(self) -> None:
        """At most one timer for each connection and `stall_s`, however much is written meanwhile."""
        waiting_bytes = self._waiting_bytes()
        if waiting_bytes:
            self._check = self._loop.call_later(self._stall_s, self._check_progress, self._handed_bytes - waiting_bytes)

    def _check_progress(self, taken_bytes: int) -> None:
        self._check = None
        waiting_bytes = self._waiting_bytes()
        if waiting_bytes and self._handed_bytes - waiting_bytes <= taken_bytes:
            log.info("connection_stalled", waiting_bytes=waiting_bytes)
            self._transport.abort()
        else:
            self._expect_progress()

    def _waiting_bytes(self) -> int:
        """Output that the peer has not acknowledged: asyncio's buffer, and the kernel's where the system tells it.

        The kernel takes new output in steps of up to a megabyte, which a slow reader may need minutes for.
        """
        waiting_bytes = self._transport.get_write_buffer_size()
        with suppress(OSError, ValueError):
            file = self._transport.get_extra_info("socket").fileno()
            waiting_bytes += struct.unpack("i", fcntl.ioctl(file, termios.TIOCOUTQ, bytes(4)))[0]
        return waiting_bytes
