"""OpenAI's official Python client, in a process of its own, against a live gateway."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from app.clients.service import CurrentClient
from app.sandbox import RunningSandbox, SandboxConfig
from tests.live_server import live_server
from tests.openai_api.conftest import AUDIO, QueueClient, StartPoller
from tests.processes import running_program

PROGRAM = Path(__file__).with_name("client_program.py").read_text()

pytestmark = pytest.mark.slow


async def run_program(*arguments: str) -> str:
    """Standard output of the program. Fails if the program does."""
    async with running_program(PROGRAM, *arguments) as program:
        assert await program.ended() == 0, program.stderr
    return program.stdout.strip()


@pytest.fixture
def recording(tmp_path: Path) -> str:
    path = tmp_path / "call.wav"
    path.write_bytes(AUDIO)
    return str(path)


@pytest.fixture
async def base_url(app: FastAPI) -> AsyncIterator[str]:
    async with live_server(app) as url:
        yield f"{url}/v1"


async def test_official_client_reads_every_format(
    base_url: str, api_client: tuple[CurrentClient, str], start_poller: StartPoller, recording: str
) -> None:
    async with start_poller():
        assert await run_program("all", base_url, api_client[1], recording) == "done"


@pytest.mark.parametrize("sandbox", [SandboxConfig(queue_s=0.1, run_s=4.0)], indirect=True)
async def test_retries_of_the_official_client_join_the_first_request(
    base_url: str,
    api_client: tuple[CurrentClient, str],
    start_poller: StartPoller,
    *,
    recording: str,
    sandbox: RunningSandbox,
    queue: QueueClient,
) -> None:
    async with start_poller():
        with capture_logs() as lines:
            assert await run_program("retry", base_url, api_client[1], recording)
    assert len(sandbox.state.submits) == 1
    assert (await queue.rows("SELECT count(*) FROM jobs"))[0][0] == 1
    assert len(sandbox.state.uploads) == 1
    assert sum(line["event"] == "request" for line in lines) > 1
