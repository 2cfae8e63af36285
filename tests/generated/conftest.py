"""A live gateway, as `python -m app serve` starts it, over a live sandbox."""

import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.processes import running_cold, running_sandbox

TOKEN = "asr_token-of-the-generated-clients"
ADMIN_TOKEN = "admin-token-of-the-generated-clients"
TOOLS = Path(__file__).parents[2] / ".venv-check" / "bin"


@dataclass(frozen=True)
class Gateway:
    url: str
    token: str = TOKEN
    admin_token: str = ADMIN_TOKEN


@pytest.fixture
async def gateway(database_url: str) -> AsyncIterator[Gateway]:
    own = {
        "DATABASE_URL": database_url,
        "API_TOKEN": TOKEN,
        "ADMIN_TOKEN": ADMIN_TOKEN,
        "PORT": "0",
        "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.1/32",
    }
    async with running_sandbox() as upstream, running_cold("serve", **own, **upstream) as server:
        yield Gateway(await server.url())


def need_file(path: Path, package: str) -> Path:
    """The file of a Debian package, as `need`."""
    if not path.exists():
        missing = f"{path} is missing; it is in the Debian package {package}"
        pytest.fail(missing) if os.environ.get("CHECK_SKIPS_NOTHING") else pytest.skip(missing)
    return path


def need(command: str) -> str:
    """The path of the command. A check without its command is skipped. In CI, which has all commands, it fails."""
    path = shutil.which(command, path=f"{TOOLS}:{os.environ['PATH']}")
    if path is None and os.environ.get("CHECK_SKIPS_NOTHING"):
        pytest.fail(f"{command} is not on the path, and CHECK_SKIPS_NOTHING is set")
    if path is None:
        pytest.skip(f"{command} is not on the path")
    return path
