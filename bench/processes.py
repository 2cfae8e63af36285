"""Real processes: their output in a file, and their CPU time."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
START_S = 60.0
STOP_S = 20.0


@dataclass(frozen=True, slots=True)
class Running:
    process: asyncio.subprocess.Process
    output: Path

    async def line_with(self, text: str) -> str:
        """The first line of the output that contains `text`. Waits for it."""
        async with asyncio.timeout(START_S):
            while True:
                lines = self.output.read_text().splitlines()
                if found := next((line for line in lines if text in line), None):
                    return found
                if self.process.returncode is not None:
                    tail = "\n".join(lines[-20:])
                    raise RuntimeError(f"{self.output.name} ended without the line {text!r}:\n{tail}")
                await asyncio.sleep(0.05)

    async def url(self) -> str:
        """The address of a gateway, from its log."""
        address: str = json.loads(await self.line_with('"listening"'))["url"]
        return address

    def cpu_s(self) -> float:
        return family_cpu_s(self.process.pid)


@asynccontextmanager
async def running(name: str, folder: Path, *arguments: str, **settings: str) -> AsyncIterator[Running]:
    """`python ARGUMENTS` in `folder`, which has no `.env`. Stopped with SIGTERM at the end of the block."""
    output = folder / f"{name}.log"
    with output.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=asyncio.subprocess.STDOUT,
            cwd=folder,
            env=_environment(settings),
        )
    try:
        yield Running(process, output)
    finally:
        await _stop(process)


async def run(name: str, folder: Path, *arguments: str, **settings: str) -> None:
    """Run `python ARGUMENTS` to its end. Raises RuntimeError with its output if it fails."""
    async with running(name, folder, *arguments, **settings) as state:
        if await state.process.wait():
            raise RuntimeError(f"{name} failed:\n{state.output.read_text()}")


async def _stop(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in ("HOME", "LANG", "PATH", "TMPDIR") if name in os.environ}
    return inherited | {"PYTHONPATH": str(ROOT)} | dict(settings)


def family_cpu_s(pid: int) -> float:
    """CPU seconds, user and system, of a process and all its descendants, ended ones included."""
    parent = psutil.Process(pid)
    total = 0.0
    for process in (parent, *parent.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])  # user and system, of the process and of its ended children
    return total
