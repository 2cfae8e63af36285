"""Real processes that reach their limit of connections or files, or stop while clients are connected."""

import asyncio
import resource
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.processes import Running, running, running_cold, running_python

TOKEN = "token-of-a-field-test"
AWAY = {"DASHSCOPE_BEIJING_API_KEY": "sk-none", "DASHSCOPE_BEIJING_BASE_URL": "http://127.0.0.1:9/api/v1"}
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: gateway\r\n\r\n"
READYZ = b"GET /readyz HTTP/1.1\r\nHost: gateway\r\n\r\n"
FILES = 300
WITH_FEW_FILES = f"""
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({FILES}, {FILES}))
sys.argv = ["app", "serve"]
runpy.run_module("app", run_name="__main__")
"""


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
    try:
        async with asyncio.timeout(20):
            yield reader, writer
    finally:
        writer.close()


async def status(url: str) -> int:
    """The status of `/readyz` on a new connection, 0 without a response."""
    try:
        async with httpx.AsyncClient() as client:
            return (await client.get(f"{url}/readyz")).status_code
    except httpx.TransportError:
        return 0


async def becomes_ready(url: str) -> bool:
    return await has_status(url, 200)


async def has_status(url: str, expected: int) -> bool:
    """Whether `/readyz` has this status within 10 s."""
    for _ in range(100):
        if await status(url) == expected:
            return True
        await asyncio.sleep(0.1)
    return False


async def test_many_idle_connections_do_not_end_the_process(used_data_dir: Path) -> None:
    settings = {"DATA_DIR": str(used_data_dir), "PORT": "0", "API_TOKEN": TOKEN, **AWAY}
    async with running_python("-c", WITH_FEW_FILES, **settings) as serve:
        url = await serve.url()
        async with connected(url) as (reader, writer):
            with ExitStack() as strangers:
                for _ in range(FILES):
                    address = ("127.0.0.1", urlsplit(url).port or 0)
                    strangers.enter_context(socket.create_connection(address, timeout=20))
                # Longer than the interval of the database check.
                for _ in range(25):
                    writer.write(READYZ)
                    assert b" 200 " in await reader.readuntil(b"}")
                    await asyncio.sleep(0.1)
                assert await serve.line_with("connections refused")
            assert await becomes_ready(url)
        assert serve.stderr.count("connections refused") == 1
        assert await serve.stop(signal.SIGINT) == 0


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of another process can be set on Linux only")
async def test_reaching_the_file_limit_does_not_end_the_process(used_data_dir: Path) -> None:
    async with running_cold("serve", DATA_DIR=str(used_data_dir), PORT="0", API_TOKEN=TOKEN, **AWAY) as serve:
        url = await serve.url()
        _, hard = resource.prlimit(serve.process.pid, resource.RLIMIT_NOFILE)
        async with connected(url) as (reader, writer):
            writer.write(LIVEZ)
            await reader.readuntil(b"}")
            resource.prlimit(serve.process.pid, resource.RLIMIT_NOFILE, (open_files(serve), hard))
            await serve.line_with("cannot be checked")
            assert await status(url) == 0
            writer.write(LIVEZ)
            assert b" 200 " in await reader.readuntil(b"}")
            resource.prlimit(serve.process.pid, resource.RLIMIT_NOFILE, (hard, hard))
        assert await becomes_ready(url)
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            job = {"model": "fun-asr", "file_urls": ["https://example.com/a.wav"]}
            assert (await client.post(f"{url}/v1/jobs", json=job)).status_code == 202
        assert len(serve.err) < 100
        assert await serve.stop(signal.SIGINT) == 0


def open_files(serve: Running) -> int:
    """The limit at which the process cannot open another file."""
    descriptors = (entry.name for entry in Path(f"/proc/{serve.process.pid}/fd").iterdir())
    return min(set(range(10_000)) - {int(name) for name in descriptors})


async def test_connections_get_their_last_response_after_sigterm(database_url: str) -> None:
    async with running("api", DATABASE_URL=database_url, PORT="0", API_TOKEN=TOKEN, **AWAY) as api:
        url = await api.url()
        async with connected(url) as (kept, kept_writer), connected(url) as (half, half_writer):
            kept_writer.write(LIVEZ)
            assert b" 200 " in await kept.readuntil(b"}")
            half_writer.write(LIVEZ[:-10])
            assert await becomes_ready(url)
            api.process.send_signal(signal.SIGTERM)
            assert await has_status(url, 503)
            kept_writer.write(READYZ)
            half_writer.write(LIVEZ[-10:])
            async with connected(url) as (new, new_writer):
                new_writer.write(LIVEZ)
                responses = [await reader.read() for reader in (kept, half, new)]
        assert await api.ended() == 0
    assert [response.split(b" ")[1] for response in responses] == [b"503", b"200", b"200"]
    assert all(b"connection: close" in response.lower() for response in responses)
