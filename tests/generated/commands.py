"""Commands that a check runs and whose output it shows only when they fail."""

import asyncio
import os
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

PATIENCE_S = 300


async def run(*command: str | Path, cwd: Path, **settings: str) -> str:
    """What the command printed. Fails with it when the command does."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=STDOUT, env={**os.environ, **settings}
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            said = (await process.communicate())[0].decode()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, f"{' '.join(map(str, command))} ended with {process.returncode}:\n{said}"
    return said
