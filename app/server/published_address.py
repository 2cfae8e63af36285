"""The address of the `serve` that runs on a DATA_DIR, for other commands on the same machine."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import fasteners  # type: ignore[import-untyped]

ADDRESS_FILE = "address"
_LOCK_FILE = ".address.lock"


@contextmanager
def published_address(data_dir: Path, url: str) -> Iterator[None]:
    """Write DATA_DIR/address while the block runs, if there is such a folder that can be written.

    The lock tells a running process from one that was killed: a client must not send its token to a program that got
    the port later. Of several processes on one folder the first is published.
    """
    path = data_dir / ADDRESS_FILE
    lock = _lock(data_dir) if data_dir.is_dir() else None
    if lock is None:
        yield
        return
    # An address that listens on all interfaces is reached on loopback.
    reachable = url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
    try:
        with suppress(OSError):
            path.write_text(f"{reachable}\n")
        yield
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        lock.release()


def running_gateway(data_dir: Path) -> str | None:
    """The URL of the `serve` that runs on this folder, None if there is none."""
    path = data_dir / ADDRESS_FILE
    if not path.exists():
        return None
    if lock := _lock(data_dir):
        lock.release()
        return None
    with suppress(OSError):
        return path.read_text().strip() or None
    return None


def _lock(data_dir: Path) -> fasteners.InterProcessLock | None:
    """The lock, acquired; None if another process has it, or if this user may not write to the folder."""
    lock = fasteners.InterProcessLock(data_dir / _LOCK_FILE)
    with suppress(OSError):
        if lock.acquire(blocking=False):
            return lock
        if lock.lockfile is not None:
            lock.lockfile.close()
    return None
