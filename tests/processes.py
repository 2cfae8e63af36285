"""Real processes of the command line, in a test's own folder and environment."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from app.embedded.server import is_running
from tests.warm_start import Request, WarmProcess, clean_environment, warm_process

ROOT = Path(__file__).resolve().parent.parent
# Longer than any start takes on a busy machine.
PATIENCE_S = 120
# A file system in memory, on Linux.
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - only the parent of new folders
# Several times as much as a run of all tests uses.
MIN_FREE_BYTES = 4 << 30


@dataclass
class Running:
    """A running process and its output so far."""

    process: Process | WarmProcess
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _open_streams: int = 2

    @property
    def stdout(self) -> str:
        return "".join(self.out)

    @property
    def stderr(self) -> str:
        return "".join(self.err)

    async def line_with(self, text: str) -> str:
        """The first line of either stream that contains `text`. Waits for it."""
        async with asyncio.timeout(PATIENCE_S):
            while not (found := [line for line in [*self.out, *self.err] if text in line]):
                assert self._open_streams, f"ended without the line {text!r}: {self.stderr}"
                self._news.clear()
                await self._news.wait()
        return found[0]

    async def url(self) -> str:
        address: str = json.loads(await self.line_with('"listening"'))["url"]
        return address

    async def ended(self) -> int:
        async with asyncio.timeout(PATIENCE_S):
            return await self.process.wait()

    async def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """The exit code. SIGINT ends a process in order, without the 3 s that SIGTERM leaves to load balancers."""
        self.process.send_signal(number)
        return await self.ended()

    async def read(self, stream: asyncio.StreamReader, lines: list[str]) -> None:
        while line := await stream.readline():
            lines.append(line.decode())
            self._news.set()
        self._open_streams -= 1
        self._news.set()


@asynccontextmanager
async def running(*command: str, **settings: str) -> AsyncIterator[Running]:
    """`python -m app COMMAND` with these settings. Killed at the end of the block if it still runs.

    It is forked from a process that has imported the gateway.
    """
    async with _running(Request(command, clean_environment() | settings, str(Path.cwd()))) as state:
        yield state


@asynccontextmanager
async def running_program(program: str, *arguments: str, **settings: str) -> AsyncIterator[Running]:
    """`python -c PROGRAM`, forked as in `running`."""
    async with _running(Request(arguments, clean_environment() | settings, str(Path.cwd()), program)) as state:
        yield state


@asynccontextmanager
async def _running(request: Request) -> AsyncIterator[Running]:
    async with warm_process(request) as (process, stdout, stderr), _followed(process, stdout, stderr) as state:
        yield state


@asynccontextmanager
async def running_sandbox() -> AsyncIterator[dict[str, str]]:
    """A sandbox on free ports. Yields the settings of a gateway that uses it."""
    async with running("sandbox", "--port", "0", "--results-port", "0") as sandbox:
        await sandbox.line_with("DASHSCOPE_SINGAPORE_API_KEY=")
        lines = (line.strip().removeprefix("export ") for line in sandbox.out if "export " in line)
        yield dict(line.split("=", 1) for line in lines)


def running_cold(*command: str, **settings: str) -> AbstractAsyncContextManager[Running]:
    """As `running`, but the process imports by itself, as for users."""
    return running_python("-m", "app", *command, **settings)


async def run(*command: str, **settings: str) -> tuple[int, str, str]:
    """Run a command to its end. Returns its exit code, standard output and standard error."""
    return await _to_its_end(running(*command, **settings))


async def run_cold(*command: str, **settings: str) -> tuple[int, str, str]:
    """As `run`, but the process imports by itself, as for users."""
    return await _to_its_end(running_cold(*command, **settings))


async def _to_its_end(process: AbstractAsyncContextManager[Running]) -> tuple[int, str, str]:
    async with process as state:
        code = await state.ended()
    return code, state.stdout, state.stderr


@asynccontextmanager
async def running_python(*arguments: str, **settings: str) -> AsyncIterator[Running]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env=clean_environment() | settings,
        preexec_fn=_restore_interrupt,
    )
    assert process.stdout
    assert process.stderr
    async with _followed(process, process.stdout, process.stderr) as state:
        yield state


@asynccontextmanager
async def _followed(
    process: Process | WarmProcess, stdout: asyncio.StreamReader, stderr: asyncio.StreamReader
) -> AsyncIterator[Running]:
    """Read the output during the block, and kill the process at the end of it."""
    state = Running(process)
    readers = asyncio.gather(state.read(stdout, state.out), state.read(stderr, state.err))
    try:
        yield state
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await readers


def folder_for_databases() -> Path | None:
    """In memory if there is enough. None is the folder for temporary files, and TMPDIR has precedence.

    Writing to a disk takes a third of the CPU of tests that start servers. Containers often have 64 MB of such memory.
    """
    if "TMPDIR" in os.environ or not SHARED_MEMORY.is_dir():
        return None
    free_bytes = min(shutil.disk_usage(SHARED_MEMORY).free, psutil.virtual_memory().available)
    return SHARED_MEMORY if free_bytes > MIN_FREE_BYTES else None


@contextmanager
def data_folder() -> Iterator[Path]:
    """A DATA_DIR that does not exist yet, in a folder that other users may enter, as PostgreSQL needs under root.

    A killed process leaves its server running, which would write files while the folder is removed.
    """
    with tempfile.TemporaryDirectory(prefix="asr-gateway-tests-", dir=folder_for_databases()) as folder:
        Path(folder).chmod(0o711)
        try:
            yield Path(folder) / "data"
        finally:
            for path in Path(folder).iterdir():
                if path.is_dir() and is_running(path):
                    postmaster = _postmaster(path)
                    postmaster.send_signal(signal.SIGQUIT)  # PostgreSQL's immediate shutdown
                    postmaster.wait(PATIENCE_S)


def copy_data_folder(source: Path, target: Path) -> None:
    """Copy a DATA_DIR that no process uses, with all owners and modes."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)  # noqa: S607 - from the path


def kill_postgres(data_dir: Path) -> None:
    """Kill the embedded server and all its children with SIGKILL."""
    postmaster = _postmaster(data_dir)
    family = [postmaster, *postmaster.children(recursive=True)]
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=PATIENCE_S)


def _postmaster(data_dir: Path) -> psutil.Process:
    return psutil.Process(int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0]))


def _restore_interrupt() -> None:
    """A shell that starts the tests in the background ignores SIGINT, which processes inherit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
