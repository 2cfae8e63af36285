"""Runs the commands of a check. Their output is shown only if they fail."""

import asyncio
import os
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

PATIENCE_S = 300


async def run(*command: str | Path, cwd: Path, **settings: str) -> str:
    """Runs the command and returns its output. A failure of the command fails the check with the output."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=STDOUT, env={**os.environ, **settings}
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            output = (await process.communicate())[0].decode()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, f"{' '.join(map(str, command))} ended with {process.returncode}:\n{output}"
    return output
