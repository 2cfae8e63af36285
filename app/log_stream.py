"""Standard error for log lines, without waiting for a reader that does not read.

A full pipe or a stopped terminal would otherwise stop the event loop at the first log line, and with it all requests
and the poller.
"""

import io
import json
import os
import select
import sys
from typing import TextIO, cast

# POSIX: a pipe that is ready for output takes this much without waiting.
_PART_BYTES = select.PIPE_BUF if hasattr(select, "PIPE_BUF") else 512
# How long one line waits. After it lines are dropped, without a wait, until there is room again.
PATIENCE_MS = 100


class LogStream(io.TextIOBase):
    """Writes lines to a file descriptor, and drops those for which there is no room.

    The next line that is written follows a line of JSON with the number of dropped ones.
    """

    def __init__(self, descriptor: int, *, patience_ms: int = PATIENCE_MS) -> None:
        self._descriptor = descriptor
        self._patience_ms = patience_ms
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self.dropped = 0

    def write(self, text: str) -> int:
        """`text` is one or more whole lines."""
        data = text.encode(errors="backslashreplace")
        if self.dropped:
            notice = {"event": "log lines dropped", "level": "warning", "lines": self.dropped}
            # Ends the line that was cut off.
            data = b"\n" + json.dumps(notice).encode() + b"\n" + data
        if self._written(data):
            self.dropped = 0
        else:
            self.dropped += 1
        return len(text)

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def fileno(self) -> int:
        return self._descriptor

    def _written(self, data: bytes) -> bool:
        for start in range(0, len(data), _PART_BYTES):
            if not self._poll.poll(0 if self.dropped else self._patience_ms):
                return False
            try:
                os.write(self._descriptor, data[start : start + _PART_BYTES])
            except OSError:  # the reader has ended, or the disk is full
                return False
        return True


def standard_error() -> TextIO:
    """Standard error as a LogStream, or as it is where it has no descriptor or the system has no `poll`."""
    try:
        return cast("TextIO", LogStream(sys.stderr.fileno()))
    except (AttributeError, OSError, ValueError):
        return sys.stderr
