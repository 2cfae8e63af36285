"""The files of the embedded PostgreSQL: where they are, which user they belong to, and that no other user reads them.

    DATA_DIR/postgres            the cluster, of the server's user, mode 0700
    DATA_DIR/postgres.private    password, pg_hba.conf, log: of the gateway's user
    DATA_DIR/postgres.run        the socket, of the server's user, mode 0700
    DATA_DIR/postgres.lock       held while a process starts, joins or leaves the server

The server's user is the gateway's, unless that is root: PostgreSQL refuses to run as root. Then it is the user that
the cluster or DATA_DIR belongs to, or else a user ID that no account of the machine has.
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

# Neither systemd, adduser nor the ranges of containers give these out, and containers of 65,536 IDs have them.
SPARE_IDS = range(60874, 61184)
FORMER_ACCOUNT = "pgserver"  # made by earlier versions when they ran as root
SOCKET_NAME = ".s.PGSQL.5432"
MAX_SOCKET_PATH = 103  # bytes; 107 on Linux
# Beyond these a path would have to be quoted in URLs, asyncpg's lists of hosts and PostgreSQL's lists of folders.
PLAIN_PATH = re.compile(r"/[A-Za-z0-9/._-]*")
WITH_PASSWORD = "local all all scram-sha-256\n"  # noqa: S105
# While the password is set for the first time: the socket's folder lets in no other user.
WITHOUT_PASSWORD = "local postgres postgres trust\n"  # noqa: S105


class EmbeddedError(RuntimeError):
    """The embedded PostgreSQL cannot run here. The message is one line."""


@dataclass(frozen=True, slots=True)
class Account:
    """User and group of the server, and the user that the files beside the cluster belong to."""

    uid: int
    gid: int
    keeper: int

    @property
    def is_other(self) -> bool:
        """Whether a process of ours has to change its user to become the server."""
        return os.geteuid() != self.uid

    @property
    def is_spare(self) -> bool:
        """Whether no account of the machine has the server's user ID."""
        return self.uid != self.keeper


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

    def make(self) -> Account:
        """Make what is missing, and take back rights that other users have. Call it under the lock."""
        account = server_account(self.cluster, self.data_dir)
        _let_in(self.data_dir, account)
        own_folder(self.private, account.keeper, account.gid, 0o710 if account.is_spare else 0o700)
        for path in (self.users, self.log):
            write_file(path, None, account, 0o600)
        if os.geteuid() == 0:
            os.chown(self.lock, account.keeper, -1, follow_symlinks=False)
        return account

    def read_password(self) -> str:
        """Empty when there is none: the server is one of an earlier version, which asks for none."""
        try:
            return self.password.read_text().strip()
        except FileNotFoundError:
            return ""

    def new_password(self, account: Account) -> str:
        """256 random bits. They stay the same until the file is deleted."""
        if not self.read_password():
            write_file(self.password, secrets.token_urlsafe(32), account, 0o600)
        return self.read_password()

    def asks_password(self) -> bool:
        try:
            return self.hba.read_text() == WITH_PASSWORD and bool(self.read_password())
        except FileNotFoundError:
            return False

    def forget_server(self, socket_folder: Path) -> None:
        """Remove the lock files of a server that is gone. Its process number may be another process's by now."""
        self.pid_file.unlink(missing_ok=True)
        (socket_folder / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)

    def drop_socket_folder(self) -> None:
        """Leave nothing in the temporary directory. The next server makes the folder again."""
        with suppress(OSError):
            self.socket_link.readlink().rmdir()

    def socket_folder(self, account: Account) -> Path:
        """A folder for the socket that only we can enter: under DATA_DIR, or a short one in the temporary directory.

        The short one is remembered, so that a server that is started again is found where it was.
        """
        if _fits(self.run):
            own_folder(self.run, account.uid, account.gid, 0o700)
            return self.run
        with suppress(OSError, EmbeddedError):
            known = self.socket_link.readlink()
            own_folder(known, account.uid, account.gid, 0o700)
            return known
        folder = _temporary_folder()
        own_folder(folder, account.uid, account.gid, 0o700)
        self.socket_link.unlink(missing_ok=True)
        self.socket_link.symlink_to(folder)
        return folder


def server_account(cluster: Path, data_dir: Path) -> Account:
    """The user that the server runs as."""
    if os.geteuid():
        return Account(os.geteuid(), os.getegid(), os.geteuid())
    for folder in (cluster, data_dir):
        with suppress(FileNotFoundError):
            owner = folder.stat()
            if owner.st_uid and owner.st_uid not in SPARE_IDS and _name(owner.st_uid) != FORMER_ACCOUNT:
                return Account(owner.st_uid, owner.st_gid, owner.st_uid)
    for number in SPARE_IDS:
        if _name(number) is None and not _group_exists(number):
            return Account(number, number, 0)
    raise EmbeddedError(f"every user ID from {SPARE_IDS[0]} to {SPARE_IDS[-1]} is taken: set DATABASE_URL")


def named_user(uid: int) -> int:
    """A user ID that has a name, as initdb demands: this one, or that of `nobody`."""
    if _name(uid) is not None:
        return uid
    with suppress(KeyError):
        return pwd.getpwnam("nobody").pw_uid
    raise EmbeddedError(f"initdb needs an entry for user ID {uid} in /etc/passwd")


def own_folder(path: Path, uid: int, gid: int, mode: int) -> None:
    """Make a folder, or check that it is ours and give it that mode. Raises EmbeddedError."""
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {uid, os.geteuid()}:
        raise EmbeddedError(f"{path} belongs to another user, or is no folder: delete it")
    if (found.st_uid, found.st_gid) != (uid, gid) and os.geteuid() == 0:
        os.chown(path, uid, gid, follow_symlinks=False)
    if stat.S_IMODE(found.st_mode) != mode:
        path.chmod(mode)


def write_file(path: Path, text: str | None, account: Account, mode: int) -> None:
    """Write a file of ours, in one step for its readers. Without a text: make it if it is missing."""
    if text is None and path.exists():
        return
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-", delete=False) as file:  # mode 0600
        file.write(text or "")
        file.flush()
        os.fsync(file.fileno())
        if os.geteuid() == 0:
            os.fchown(file.fileno(), account.keeper, account.gid)
        os.fchmod(file.fileno(), mode)
    Path(file.name).rename(path)


def give(folder: Path, uid: int, gid: int) -> None:
    """Give a folder, and all in it, to a user."""
    for _, folders, files, descriptor in os.fwalk(folder):
        for name in (*folders, *files):
            os.chown(name, uid, gid, dir_fd=descriptor, follow_symlinks=False)
    os.chown(folder, uid, gid)


def may_pass(path: Path, account: Account) -> bool:
    """Whether the mode of a folder or program lets the account enter or run it."""
    found = path.stat()
    bit = stat.S_IXOTH
    if found.st_uid == account.uid:
        bit = stat.S_IXUSR
    elif found.st_gid == account.gid:
        bit = stat.S_IXGRP
    return bool(found.st_mode & bit)


def closed_parents(path: Path, account: Account) -> list[Path]:
    """The topmost folder above `path` that the account cannot enter, if there is one."""
    return [folder for folder in reversed(path.parents) if not may_pass(folder, account)][:1]


def _let_in(data_dir: Path, account: Account) -> None:
    """Let the server's own group, which has no other member, pass through root's DATA_DIR. Others gain nothing."""
    found = data_dir.stat()
    if not account.is_spare or found.st_uid or found.st_mode & (stat.S_IRWXG | stat.S_IXOTH):
        return
    os.chown(data_dir, -1, account.gid)
    data_dir.chmod(stat.S_IMODE(found.st_mode) | stat.S_IXGRP)


def _temporary_folder() -> Path:
    parent = Path(tempfile.gettempdir()).resolve()
    mode = parent.stat().st_mode
    if mode & (stat.S_IWGRP | stat.S_IWOTH) and not mode & stat.S_ISVTX:
        raise EmbeddedError(f"{parent} has no sticky bit, so that other users may replace the socket: set TMPDIR")
    folder = Path(tempfile.mkdtemp(prefix="asr-gateway-", dir=parent))
    if not _fits(folder):
        folder.rmdir()
        raise EmbeddedError(f"neither DATA_DIR nor {parent} has a path for a socket: set TMPDIR to a short plain path")
    return folder


def _fits(folder: Path) -> bool:
    path = folder / SOCKET_NAME
    return PLAIN_PATH.fullmatch(str(path)) is not None and len(str(path)) <= MAX_SOCKET_PATH


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
