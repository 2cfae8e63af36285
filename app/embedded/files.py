"""The files of the embedded PostgreSQL: their places, owners and modes. No other user of the machine can read them.

    DATA_DIR/postgres            the cluster; owned by the server's user, mode 0700
    DATA_DIR/postgres.private    password, pg_hba.conf and log; owned by the gateway's user
    DATA_DIR/postgres.run        the socket; owned by the server's user, mode 0700
    DATA_DIR/postgres.lock       locked while a process starts, joins or leaves the server

The server runs as the gateway's user, unless that is root: PostgreSQL refuses to run as root. In this case it runs as
the owner of the cluster or of DATA_DIR, or else with a user ID that no account of the machine has.
"""

import grp
import os
import pwd
import re
import secrets
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# User IDs that systemd, adduser and container runtimes do not assign, and that containers with 65,536 IDs have.
SPARE_UIDS = range(60874, 61184)
LEGACY_ACCOUNT = "pgserver"  # created by earlier versions that ran as root
SOCKET_NAME = ".s.PGSQL.5432"
MAX_SOCKET_PATH = 103  # bytes; 107 on Linux
# Other paths would need quoting in URLs, in asyncpg's lists of hosts and in PostgreSQL's lists of folders.
UNQUOTED_PATH = re.compile(r"/[A-Za-z0-9/._-]*")
HBA_PASSWORD = "local all all scram-sha-256\n"  # noqa: S105
# Used while the password is set for the first time. No other user can enter the folder of the socket.
HBA_TRUST = "local postgres postgres trust\n"


class EmbeddedError(RuntimeError):
    """The embedded PostgreSQL cannot run here. The message is one line."""


@dataclass(frozen=True, slots=True)
class ServerUser:
    """User and group of the server, and the owner of the files beside the cluster."""

    uid: int
    gid: int
    files_uid: int

    @property
    def is_other_user(self) -> bool:
        """Whether the server runs as another user than this process."""
        return os.geteuid() != self.uid

    @property
    def is_spare_id(self) -> bool:
        """Whether the server's user ID belongs to no account of the machine."""
        return self.uid != self.files_uid


class Files:
    """The files under one DATA_DIR. Relative paths are resolved once."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.resolve()
        self.cluster = self.data_dir / "postgres"
        self.private = self.data_dir / "postgres.private"
        self.run = self.data_dir / "postgres.run"
        self.lock = self.data_dir / "postgres.lock"
        self.ready = self.data_dir / "postgres.ready"
        self.password = self.private / "password"
        self.hba = self.private / "pg_hba.conf"
        self.log = self.private / "log"
        self.users = self.private / "users"
        self.socket_link = self.private / "socket"
        self.pid_file = self.cluster / "postmaster.pid"

    def make(self) -> ServerUser:
        """Create missing files and correct owners and modes. The caller holds the lock."""
        user = server_user(self.cluster, self.data_dir)
        _allow_passage(self.data_dir, user)
        ensure_folder(self.private, user.files_uid, user.gid, 0o710 if user.is_spare_id else 0o700)
        for path in (self.users, self.log):
            write_file(path, None, user, 0o600)
        if os.geteuid() == 0:
            os.chown(self.lock, user.files_uid, -1, follow_symlinks=False)
        return user

    def read_password(self) -> str:
        """The password, empty if there is none: clusters of earlier versions had no password."""
        try:
            return self.password.read_text().strip()
        except FileNotFoundError:
            return ""

    def new_password(self, user: ServerUser) -> str:
        """A password of 256 random bits. It stays the same until its file is deleted."""
        if not self.read_password():
            write_file(self.password, secrets.token_urlsafe(32), user, 0o600)
        return self.read_password()

    def requires_password(self) -> bool:
        try:
            return self.hba.read_text() == HBA_PASSWORD and bool(self.read_password())
        except FileNotFoundError:
            return False

    def remove_lock_files(self, socket_folder: Path) -> None:
        """Remove the lock files of a server that has ended. Its process ID may belong to another process now."""
        self.pid_file.unlink(missing_ok=True)
        (socket_folder / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)

    def remove_socket_folder(self) -> None:
        """Remove the folder from the temporary directory. The next start creates a new one."""
        with suppress(OSError):
            self.socket_link.readlink().rmdir()

    def socket_folder(self, user: ServerUser) -> Path:
        """A private folder for the socket: under DATA_DIR, or in the temporary directory if that path is too long.

        A link records the folder in the temporary directory, so that a restarted server has the same address.
        """
        if _fits(self.run):
            ensure_folder(self.run, user.uid, user.gid, 0o700)
            return self.run
        with suppress(OSError, EmbeddedError):
            known = self.socket_link.readlink()
            ensure_folder(known, user.uid, user.gid, 0o700)
            return known
        folder = _temporary_folder()
        ensure_folder(folder, user.uid, user.gid, 0o700)
        self.socket_link.unlink(missing_ok=True)
        self.socket_link.symlink_to(folder)
        return folder


def server_user(cluster: Path, data_dir: Path) -> ServerUser:
    """The user that the server runs as."""
    if os.geteuid():
        return ServerUser(os.geteuid(), os.getegid(), os.geteuid())
    for folder in (cluster, data_dir):
        with suppress(FileNotFoundError):
            owner = folder.stat()
            if owner.st_uid and owner.st_uid not in SPARE_UIDS and _name(owner.st_uid) != LEGACY_ACCOUNT:
                return ServerUser(owner.st_uid, owner.st_gid, owner.st_uid)
    for number in SPARE_UIDS:
        if _name(number) is None and not _group_exists(number):
            return ServerUser(number, number, 0)
    raise EmbeddedError(f"all user IDs from {SPARE_UIDS[0]} to {SPARE_UIDS[-1]} are in use: set DATABASE_URL")


def uid_with_name(uid: int) -> int:
    """A user ID with a name, which initdb requires: `uid` itself, or that of `nobody`."""
    if _name(uid) is not None:
        return uid
    with suppress(KeyError):
        return pwd.getpwnam("nobody").pw_uid
    raise EmbeddedError(f"initdb needs an entry for user ID {uid} in /etc/passwd")


def ensure_folder(path: Path, uid: int, gid: int, mode: int) -> None:
    """Create a folder, or check its owner and set its mode. Raises EmbeddedError."""
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {uid, os.geteuid()}:
        raise EmbeddedError(f"{path} belongs to another user or is not a folder: delete it")
    if (found.st_uid, found.st_gid) != (uid, gid) and os.geteuid() == 0:
        os.chown(path, uid, gid, follow_symlinks=False)
    if stat.S_IMODE(found.st_mode) != mode:
        path.chmod(mode)


def write_file(path: Path, text: str | None, user: ServerUser, mode: int) -> None:
    """Write a file atomically. If `text` is None, create an empty file unless it exists."""
    if text is None and path.exists():
        return
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-", delete=False) as file:  # mode 0600
        file.write(text or "")
        file.flush()
        os.fsync(file.fileno())
        if os.geteuid() == 0:
            os.fchown(file.fileno(), user.files_uid, user.gid)
        os.fchmod(file.fileno(), mode)
    Path(file.name).rename(path)


def change_owner(folder: Path, uid: int, gid: int) -> None:
    """Change the owner of a folder and its contents."""
    for _, folders, files, descriptor in os.fwalk(folder):
        for name in (*folders, *files):
            os.chown(name, uid, gid, dir_fd=descriptor, follow_symlinks=False)
    os.chown(folder, uid, gid)


def can_enter(path: Path, user: ServerUser) -> bool:
    """Whether the mode of a folder or program allows the user to enter or run it."""
    found = path.stat()
    bit = stat.S_IXOTH
    if found.st_uid == user.uid:
        bit = stat.S_IXUSR
    elif found.st_gid == user.gid:
        bit = stat.S_IXGRP
    return bool(found.st_mode & bit)


def inaccessible_parents(path: Path, user: ServerUser) -> list[Path]:
    """The topmost parent of `path` that the user cannot enter, if any."""
    return [folder for folder in reversed(path.parents) if not can_enter(folder, user)][:1]


def _allow_passage(data_dir: Path, user: ServerUser) -> None:
    """Let the server's group, which has no other member, pass through root's DATA_DIR."""
    found = data_dir.stat()
    if not user.is_spare_id or found.st_uid or found.st_mode & (stat.S_IRWXG | stat.S_IXOTH):
        return
    os.chown(data_dir, -1, user.gid)
    data_dir.chmod(stat.S_IMODE(found.st_mode) | stat.S_IXGRP)


def _temporary_folder() -> Path:
    parent = Path(tempfile.gettempdir()).resolve()
    mode = parent.stat().st_mode
    if mode & (stat.S_IWGRP | stat.S_IWOTH) and not mode & stat.S_ISVTX:
        raise EmbeddedError(f"{parent} has no sticky bit, so other users could replace the socket: set TMPDIR")
    folder = Path(tempfile.mkdtemp(prefix="asr-gateway-", dir=parent))
    if not _fits(folder):
        folder.rmdir()
        raise EmbeddedError(
            f"the paths of DATA_DIR and {parent} are too long for a socket: set TMPDIR to a short plain path"
        )
    return folder


def _fits(folder: Path) -> bool:
    path = folder / SOCKET_NAME
    return UNQUOTED_PATH.fullmatch(str(path)) is not None and len(str(path)) <= MAX_SOCKET_PATH


def _name(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _group_exists(gid: int) -> bool:
    try:
        grp.getgrgid(gid)
    except KeyError:
        return False
    return True
