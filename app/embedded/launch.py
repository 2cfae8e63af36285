"""Runs one program of PostgreSQL as another user. A script of its own, because a process cannot take that step back.

Called as `python embedded_launch.py PLAN`, PLAN being the JSON of a `Plan`. It imports the standard library alone.

Two things need a namespace, which is the child's own and changes nothing for other processes:
- Root may keep DATA_DIR or the checkout below a folder that nobody else may enter. The child sees an empty folder
  in its place, with nothing in it but the paths that PostgreSQL needs.
- initdb wants a name for its user ID. Where there is none, the child runs under the number of a user that has one;
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
    """`user`: (user ID, group ID) to change to. `hidden`: folders to cover; `shown`: folders that stay in reach.

    `log`: run in a session of its own, with this file for its output, and print its process number.
    """

    command: list[str]
    user: tuple[int, int] | None = None
    hidden: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    named_user: int | None = None
    log: str | None = None


def main() -> None:
    plan = Plan(**json.loads(sys.argv[1]))
    log = None if plan.log is None else os.open(plan.log, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
    os.umask(0o022)
    os.chdir("/")
    if plan.hidden:
        _hide(plan.hidden, plan.shown)
    if plan.user is not None:
        uid, gid = plan.user
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    if plan.named_user is not None:
        _name_user(plan.named_user)
    os.umask(0o077)
    if log is not None and (pid := os.fork()):
        sys.stdout.write(str(pid))
        return
    if log is not None:
        os.setsid()
        os.dup2(log, 1)
        os.dup2(log, 2)
    os.execv(plan.command[0], plan.command)  # noqa: S606 - no shell is wanted


def _hide(hidden: list[str], shown: list[str]) -> None:
    _unshare(CLONE_NEWNS)
    _mount(None, "/", None, MS_REC | MS_PRIVATE)
    # Opened in this namespace and before they are covered: afterwards no path leads there.
    opened = {path: os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in shown}
    for path in hidden:
        _mount("none", path, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m")
    for path, folder in opened.items():
        if any(path.startswith(f"{cover}/") for cover in hidden):
            Path(path).mkdir(parents=True, exist_ok=True)
            _mount(f"/proc/self/fd/{folder}", path, None, MS_BIND | MS_REC)
        os.close(folder)


def _name_user(named_user: int) -> None:
    uid, gid = os.geteuid(), os.getegid()
    # Without it a process that has changed its user may not write to its own files in /proc.
    _libc().prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    try:
        _unshare(CLONE_NEWUSER)
    except OSError:
        return  # not allowed here; initdb says what it lacks
    for name, text in (("setgroups", "deny"), ("uid_map", f"{named_user} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        Path(f"/proc/self/{name}").write_text(text)


def _unshare(flags: int) -> None:
    _checked(_libc().unshare(flags), "unshare")


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    texts = [None if text is None else os.fsencode(text) for text in (source, target, kind, options)]
    _checked(_libc().mount(*texts[:3], ctypes.c_ulong(flags), texts[3]), f"mount {target}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"{error.strerror} ({error.filename})" if error.filename else str(error.strerror))
