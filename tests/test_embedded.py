"""The embedded PostgreSQL: shared by processes, stopped by the last, and mended after a kill -9."""

import asyncio
import os
from pathlib import Path

from tests.processes import running_python

START = "from pathlib import Path; from app.embedded import start_embedded; url = start_embedded(Path('data'));"
SAY = "print(url, flush=True);"
DIE = "import os; os.kill(os.getpid(), 9)"


async def test_processes_that_start_at_once_share_one_server_and_the_last_stops_it() -> None:
    results = await asyncio.gather(*(_run(START + SAY) for _ in range(3)))
    assert [code for code, _ in results] == [0, 0, 0]
    assert len({url for _, url in results}) == 1
    assert not _is_running()


async def test_a_user_that_was_killed_does_not_keep_the_server_running() -> None:
    killed, _ = await _run(START + DIE)
    assert killed == -9
    assert _is_running()
    assert (await _run(START + SAY))[0] == 0
    assert not _is_running()


async def test_a_lock_file_whose_process_is_somebody_else_by_now_is_forgotten() -> None:
    await _run(START + SAY)
    _write_lock_file(os.getpid())
    code, url = await _run(START + SAY)
    assert code == 0
    assert url.startswith("postgresql://")


async def _run(code: str) -> tuple[int, str]:
    async with running_python("-c", code) as state:
        return await state.ended(), state.stdout


def _is_running() -> bool:
    return Path("data/postgres/postmaster.pid").exists()


def _write_lock_file(pid: int) -> None:
    lines = [str(pid), str(Path("data/postgres").resolve()), "1700000000", "5432", "", "", "1 1", "ready"]
    Path("data/postgres/postmaster.pid").write_text("\n".join(lines) + "\n")
