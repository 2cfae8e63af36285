"""Runs a program of PostgreSQL as another user. A separate script, because the change cannot be undone in a process.

Called as `python launch.py PLAN` with a `Plan` as JSON. It imports only the standard library.

Two cases need namespaces, which affect only the child process:
- DATA_DIR or the checkout may be below a folder that only root may enter. The child sees an empty folder in its place,
  which contains only the paths that PostgreSQL needs.
- initdb requires a name for its user ID. Without one, the child sees itself under the ID of a user that has a name;
  its files belong to the real user.
"""

import ctypes
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
PR_SET_DUMPABLE = 4
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x40000


@dataclass(frozen=True, slots=True)
class Plan:
    """`user`: user ID and group ID to change to. `hidden`: folders to cover. `visible`: folders that stay accessible.

    `mapped_uid`: the user ID that the program sees as its own.
    `log`: run in a new session with the output in this file, and print the process ID.
    """

    command: list[str]
    user: tuple[int, int] | None = None
    hidden: list[str] = field(default_factory=list)
    visible: list[str] = field(default_factory=list)
    mapped_uid: int | None = None
    log: str | None = None


def main() -> None:
    plan = Plan(**json.loads(sys.argv[1]))
    log = None if plan.log is None else os.open(plan.log, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
    os.umask(0o022)
    os.chdir("/")
    if plan.hidden:
        _hide(plan.hidden, plan.visible)
    if plan.user is not None:
        uid, gid = plan.user
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    if plan.mapped_uid is not None:
        _map_user(plan.mapped_uid)
    os.umask(0o077)
    if log is not None and (pid := os.fork()):
        sys.stdout.write(str(pid))
        return
    if log is not None:
        os.setsid()
        os.dup2(log, 1)
        os.dup2(log, 2)
    os.execv(plan.command[0], plan.command)  # noqa: S606 - no shell


def _hide(hidden: list[str], visible: list[str]) -> None:
    _unshare(CLONE_NEWNS)
    _mount(None, "/", None, MS_REC | MS_PRIVATE)
    # Opened before they are covered: afterwards no path leads to them.
    opened = {path: os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in visible}
    for path in hidden:
        _mount("none", path, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m")
    for path, folder in opened.items():
        if any(path.startswith(f"{cover}/") for cover in hidden):
            Path(path).mkdir(parents=True, exist_ok=True)
            _mount(f"/proc/self/fd/{folder}", path, None, MS_BIND | MS_REC)
        os.close(folder)


def _map_user(mapped_uid: int) -> None:
    uid, gid = os.geteuid(), os.getegid()
    # After a change of its user a process may not write to its own files in /proc without this.
    _libc().prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    try:
        _unshare(CLONE_NEWUSER)
    except OSError:
        return  # not permitted; initdb reports the missing name
    for name, text in (("setgroups", "deny"), ("uid_map", f"{mapped_uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        Path(f"/proc/self/{name}").write_text(text)


def _unshare(flags: int) -> None:
    _checked(_libc().unshare(flags), "unshare")


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    texts = [None if text is None else os.fsencode(text) for text in (source, target, kind, options)]
    _checked(_libc().mount(*texts[:3], ctypes.c_ulong(flags), texts[3]), f"mount {target}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, call: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"{error.strerror} ({error.filename})" if error.filename else str(error.strerror))
