"""Access of other users of the machine to the embedded PostgreSQL. The tests need root."""

import json
import os
import pwd
import re
import shutil
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.embedded.files import SPARE_UIDS
from app.embedded.server import EmbeddedError, start_embedded
from tests.processes import Running, running_program, running_python

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")

CAP_SYS_ADMIN = 21
SERVE = """
import signal, sys
from pathlib import Path
from app.embedded.server import EmbeddedError, start_embedded
signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
try:
    print(start_embedded(Path(sys.argv[1])), flush=True)
except EmbeddedError as error:
    sys.exit(f"no postgresql://: {error}")
signal.pause()
"""
# Changes its user after the start, because other users may be unable to run this interpreter.
INTRUDE = """
import json, os, socket, sys
from pathlib import Path
user, *paths = sys.argv[1:]
os.setgroups([]); os.setresgid(int(user), int(user), int(user)); os.setresuid(int(user), int(user), int(user))
entered = []
for path in map(Path, paths):
    try:
        if path.is_dir():
            list(path.iterdir())
        elif path.is_socket():
            socket.socket(socket.AF_UNIX).connect(str(path))
        else:
            path.read_bytes()
    except OSError:
        continue
    entered.append(str(path))
print(json.dumps(entered))
"""
NOBODY, STRANGER = "65534", "12321"


@pytest.mark.parametrize("name", ["data", "x" * 100])
async def test_no_other_user_reaches_the_database(data_dir: Path, name: str) -> None:
    folder = data_dir.with_name(name)
    async with _serving(folder) as url:
        socket_folder = Path(url.partition("host=")[2])
        private = [folder, folder / "postgres", folder / "postgres.private", socket_folder]
        inside = [folder / "postgres.private" / "password", socket_folder / ".s.PGSQL.5432"]
        for user in (NOBODY, STRANGER):
            assert await _intrude(user, *private, *inside) == []
        assert await _intrude("0", *private, *inside) == [str(path) for path in (*private, *inside)]


async def test_a_public_data_dir_exposes_no_secret_of_the_database(data_dir: Path) -> None:
    _make_for("0", data_dir, 0o755)
    async with _serving(data_dir) as url:
        files = [Path(folder) / name for folder, _, names in os.walk(data_dir) for name in names]
        assert len(files) > 900
        public = [data_dir / "postgres.lock", data_dir / "postgres.ready"]
        assert await _intrude(STRANGER, *files, Path(url.partition("host=")[2])) == sorted(map(str, public))


@pytest.mark.parametrize(("mode", "own_mode"), [(0o711, 0o700), (0o755, 0o755), (0o700, 0o700), (0o711, 0o750)])
async def test_root_changes_no_parent_folder_and_creates_no_account(data_dir: Path, mode: int, own_mode: int) -> None:
    if (mode == 0o700 or own_mode == 0o750) and not _has_capability(CAP_SYS_ADMIN):
        pytest.skip("root of this container may not make a mount namespace")
    _make_for("0", data_dir, own_mode)
    data_dir.parent.chmod(mode)
    accounts = pwd.getpwall()
    before = _modes(data_dir.parent)
    async with _serving(data_dir) as url:
        assert _owner(data_dir / "postgres") in SPARE_UIDS
        assert await _intrude(STRANGER, data_dir / "postgres", Path(url.partition("host=")[2])) == []
        assert _modes(data_dir)[str(data_dir)] & stat.S_IRWXO == own_mode & stat.S_IRWXO
    assert _modes(data_dir.parent) == before
    assert pwd.getpwall() == accounts


async def test_root_without_mount_namespaces_reports_the_inaccessible_folder(data_dir: Path) -> None:
    data_dir.parent.chmod(0o700)
    drop = f"import ctypes, os, sys; ctypes.CDLL(None).prctl(24, {CAP_SYS_ADMIN}); "  # PR_CAPBSET_DROP
    drop += "os.execv(sys.executable, [sys.executable, '-c', *sys.argv[1:]])"
    async with running_python("-c", drop, SERVE, str(data_dir)) as state:
        line = await state.line_with("postgresql://")
    assert f"cannot enter {data_dir.parent}, and a mount namespace is not permitted here" in line
    assert stat.S_IMODE(data_dir.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("user", [NOBODY, STRANGER])
async def test_root_runs_the_server_of_another_user_as_that_user(data_dir: Path, user: str) -> None:
    _make_for(user, data_dir)
    async with running_program(SERVE, str(data_dir)) as state:
        if user == STRANGER and "/etc/passwd" in await state.line_with("postgresql://"):
            pytest.skip("initdb needs a name for this user, and this system has no user namespaces")
        await state.line_with("postgresql://")
        assert _owner(data_dir / "postgres" / "PG_VERSION") == int(user)
        assert _owner(data_dir / "postgres.private" / "password") == int(user)
        assert _owner(data_dir / "postgres.run" / ".s.PGSQL.5432") == int(user)
        assert await state.stop() == 0, state.stderr


@pytest.mark.parametrize("name", ["postgres.private", "postgres.run"])
@pytest.mark.parametrize("kind", ["folder", "link"])
def test_a_folder_of_another_user_is_refused(data_dir: Path, name: str, kind: str) -> None:
    data_dir.mkdir()
    made = data_dir / name
    made.symlink_to(data_dir.parent) if kind == "link" else made.mkdir(mode=0o777)
    os.chown(made, int(STRANGER), int(STRANGER), follow_symlinks=False)
    with pytest.raises(EmbeddedError, match="belongs to another user"):
        start_embedded(data_dir)


async def test_a_socket_folder_of_another_user_is_not_used(used_data_dir: Path) -> None:
    folder = _with_a_long_name(used_data_dir)
    async with _serving(folder) as url:
        known = Path(url.partition("host=")[2])
    _make_for(STRANGER, known, 0o777)
    try:
        async with _serving(folder) as url:
            assert Path(url.partition("host=")[2]) != known
    finally:
        shutil.rmtree(known)


async def test_a_user_without_an_entry_in_passwd_gets_a_database_or_one_line(data_dir: Path) -> None:
    _make_for(STRANGER, data_dir)
    become = f"import os; os.setgroups([]); os.setgid({STRANGER}); os.setuid({STRANGER})"
    async with running_python("-c", f"{become}; os.execv(os.sys.executable, ['python', '-c', ''])") as interpreter:
        if await interpreter.ended():
            pytest.skip("other users cannot run this interpreter")
    async with running_python("-c", f"{become}\n{SERVE}", str(data_dir)) as state:
        assert re.search(
            "postgresql://|user ID 12321 needs an entry in /etc/passwd", await state.line_with("postgresql://")
        )


@asynccontextmanager
async def _serving(data_dir: Path) -> AsyncIterator[str]:
    async with running_program(SERVE, str(data_dir)) as state:
        yield (await state.line_with("postgresql://")).strip()
        assert await state.stop() == 0, state.stderr


async def _intrude(user: str, *paths: Path) -> list[str]:
    """The paths that the user can list, read or connect to."""
    state: Running
    async with running_python("-c", INTRUDE, user, *map(str, paths)) as state:
        assert await state.ended() == 0, state.stderr
    entered: list[str] = json.loads(state.stdout)
    return sorted(entered) if user != "0" else entered


def _with_a_long_name(folder: Path) -> Path:
    """Rename the folder, so that its path is too long for a socket."""
    return folder.rename(folder.with_name("x" * 100))


def _make_for(user: str, folder: Path, mode: int = 0o700) -> None:
    folder.mkdir()
    folder.chmod(mode)
    os.chown(folder, int(user), int(user))


def _owner(path: Path) -> int:
    return path.lstat().st_uid


def _modes(folder: Path) -> dict[str, int]:
    interpreter = Path(sys.prefix).resolve()
    return {str(path): stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.parents, *interpreter.parents)}


def _has_capability(number: int) -> bool:
    [effective] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:")]
    return bool(int(effective.split()[1], 16) >> number & 1)
