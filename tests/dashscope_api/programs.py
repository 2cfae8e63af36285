"""Programs that use the official SDK, in processes of their own. Only base URL and key are the gateway's."""

import asyncio
import os
import sys
import tempfile
from asyncio.subprocess import PIPE
from pathlib import Path

TIMEOUT_S = 90
DOCUMENT = Path(__file__).parent.parent / "data" / "founding_document"


async def run_program(code: str, *, base_url: str, token: str, **variables: str) -> str:
    """Standard output of the Python program. Fails if the program does."""
    environment = {
        "PATH": os.environ["PATH"],
        "DASHSCOPE_API_KEY": token,
        "DASHSCOPE_HTTP_BASE_URL": base_url,
        "PYTHONIOENCODING": "utf-8",
        **variables,
    }
    with tempfile.TemporaryDirectory() as folder:
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, env=environment | {"HOME": folder}, cwd=folder, stdout=PIPE, stderr=PIPE
        )
        try:
            async with asyncio.timeout(TIMEOUT_S):
                out, errors = await program.communicate()
        finally:
            if program.returncode is None:
                program.kill()
                await program.wait()
    assert program.returncode == 0, errors.decode()
    return out.decode()


def sample_program(name: str, base_url: str) -> str:
    """A program of the founding document. The base URL is changed in the line that sets it, if there is one."""
    text = (DOCUMENT / f"{name}.py.txt").read_text(encoding="utf-8")
    return text.replace(
        "base_http_api_url = 'https://dashscope.aliyuncs.com/api/v1'", f"base_http_api_url = '{base_url}'"
    )
