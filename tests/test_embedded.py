"""The embedded PostgreSQL: shared by processes, stopped by the last, and mended after a kill -9."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import data_folder, running_python

START = """
import os, sys
from pathlib import Path
from app.embedded import start_embedded
print(start_embedded(Path(sys.argv[1])), flush=True)
"""
STAY = "import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); signal.pause()"
DIE = "os.kill(os.getpid(), 9)"


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with data_folder() as folder:
        yield folder


async def test_processes_share_one_server_and_the_last_stops_it(data_dir: Path) -> None:
    async with running_python("-c", START + STAY, str(data_dir)) as first:
        url = await first.told("postgresql://")
        assert await _run(START, data_dir) == (0, url)
        assert _is_running(data_dir)
        assert await first.stop() == 0
    assert not _is_running(data_dir)


async def test_a_user_that_was_killed_does_not_keep_the_server_running(data_dir: Path) -> None:
    assert (await _run(START + DIE, data_dir))[0] == -signal.SIGKILL
    assert _is_running(data_dir)
    assert (await _run(START, data_dir))[0] == 0
    assert not _is_running(data_dir)


async def test_a_lock_file_whose_process_is_somebody_else_by_now_is_forgotten(data_dir: Path) -> None:
    await _run(START, data_dir)
    lines = [str(os.getpid()), str(data_dir / "postgres"), "1700000000", "5432", "", "", "1 1", "ready", ""]
    _lock_file(data_dir).write_text("\n".join(lines))
    code, url = await _run(START, data_dir)
    assert (code, url[:13]) == (0, "postgresql://")


async def test_processes_that_start_at_once_share_one_server(data_dir: Path) -> None:
    results = await asyncio.gather(*(_run(START, data_dir) for _ in range(4)))
    assert len({url for _, url in results}) == 1
    assert not _is_running(data_dir)


async def test_a_cluster_whose_making_was_killed_is_made_anew(data_dir: Path) -> None:
    (data_dir / "postgres").mkdir(parents=True)
    (data_dir / "postgres" / "PG_VERSION").write_text("18\n")
    code, url = await _run(START, data_dir)
    assert (code, url[:13]) == (0, "postgresql://")


async def _run(program: str, data_dir: Path) -> tuple[int, str]:
    async with running_python("-c", program, str(data_dir)) as state:
        code = await state.ended()
    assert code in {0, -signal.SIGKILL}, state.stderr
    return code, state.stdout


def _is_running(data_dir: Path) -> bool:
    return _lock_file(data_dir).exists()


def _lock_file(data_dir: Path) -> Path:
    return data_dir / "postgres" / "postmaster.pid"
