"""The address of the `serve` that runs on a DATA_DIR, for other commands on the same machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fasteners  # type: ignore[import-untyped]

ADDRESS_FILE = "address"
_LOCK_FILE = ".address.lock"


@contextmanager
def published_address(data_dir: Path, url: str) -> Iterator[None]:
    """Write DATA_DIR/address while the block runs.

    The lock tells a running process from one that was killed: a client must not send its token to a program that got
    the port later. Of several processes on one folder the first is published.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = fasteners.InterProcessLock(data_dir / _LOCK_FILE)
    if not lock.acquire(blocking=False):
        yield
        return
    path = data_dir / ADDRESS_FILE
    try:
        path.write_text(f"{_reachable(url)}\n")
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()


def running_gateway(data_dir: Path) -> str | None:
    """The URL of the `serve` that runs on this folder, None if there is none."""
    lock_file = data_dir / _LOCK_FILE
    if not lock_file.exists():
        return None
    lock = fasteners.InterProcessLock(lock_file)
    if lock.acquire(blocking=False):
        lock.release()
        return None
    try:
        return (data_dir / ADDRESS_FILE).read_text().strip() or None
    except OSError:
        return None


def _reachable(url: str) -> str:
    """An address that listens on all interfaces is reached on loopback."""
    return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
