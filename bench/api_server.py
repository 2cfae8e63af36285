"""API processes under load: the gateway's, that of another commit, and the tutorial's."""

import asyncio
import itertools
import json
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import psutil

from bench.gateway import TOKEN, Stage
from bench.load import Load, closed_loop, open_loop, request
from bench.processes import Running, running
from bench.upstream import KEY

CONNECTIONS = 32
JOBS = 10_000
POST, GET, LIST = "POST one file", "GET a job", "list of 50"
KINDS = (POST, GET, LIST)

BODY = json.dumps(
    {
        "file_urls": ["https://example.com/recordings/2026/11/23/call-4711.wav?signature=" + "x" * 100],
        "parameters": {"language_hints": ["zh", "en"]},
        "metadata": {"call": "4711", "team": "support", "note": "y" * 100},
    }
).encode()


@dataclass(frozen=True, slots=True)
class Server:
    name: str
    host: str
    port: int
    process: Running

    @property
    def memory_mb(self) -> float:
        return float(psutil.Process(self.process.process.pid).memory_info().rss / 2**20)

    async def load(self, requests: Iterator[bytes], **options: Any) -> Load:
        return await closed_loop(self.host, self.port, requests, connections=CONNECTIONS, **options)

    async def fill(self) -> list[str]:
        """Create JOBS jobs and return their ids, so that reads are spread over many rows."""
        responses: list[bytes] = []
        await self.load(itertools.repeat(post(), JOBS), wanted=202, keep=responses)
        return [json.loads(response)["id"] for response in responses]

    async def measure(self, kind: str, ids: Sequence[str], *, seconds: float) -> Load:
        wanted = 202 if kind == POST else 200
        load = await self.load(requests_of(kind, ids), wanted=wanted, seconds=seconds)
        if load.others:
            raise SystemExit(f"{self.name}: {kind} was answered with {load.others}.")
        return load

    async def post_steadily(self, per_s: float, *, seconds: float) -> Load:
        """POST at a constant rate. The time of a response counts from the time at which its request is due."""
        return await open_loop(
            self.host, self.port, itertools.repeat(post()),
            connections=2 * CONNECTIONS, wanted=202, per_s=per_s, seconds=seconds,
        )  # fmt: skip


@asynccontextmanager
async def gateway_server(stage: Stage, database_url: str, *, name: str = "gateway") -> AsyncIterator[Server]:
    """`python -m app api`."""
    settings = {"DATABASE_URL": database_url, "PORT": "0", "API_TOKEN": TOKEN, "DASHSCOPE_BEIJING_API_KEY": KEY}
    folder = stage.new_folder(name)
    async with running("api", folder, "-m", "app", "api", **stage.environment, **settings) as api:
        address = urlsplit(await api.url())
        server = Server(name, address.hostname or "", address.port or 0, api)
        await _wait_until_ready(server)
        yield server


@asynccontextmanager
async def tutorial_server(stage: Stage, database_url: str) -> AsyncIterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {"DATABASE_URL": database_url, "API_TOKEN": TOKEN}
    async with running("tutorial", stage.new_folder("tutorial"), "-m", "bench.tutorial", str(port), **settings) as api:
        server = Server("tutorial", "127.0.0.1", port, api)
        await _wait_until_ready(server)
        yield server


async def vacuum(database_url: str) -> None:
    """Do what autovacuum would do within a minute."""
    connection: Any = await asyncpg.connect(database_url)  # type: ignore[no-untyped-call]
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


def requests_of(kind: str, ids: Sequence[str]) -> Iterator[bytes]:
    match kind:
        case "POST one file":
            return itertools.repeat(post())
        case "GET a job":
            return itertools.cycle([request("GET", f"/v1/jobs/{job_id}", TOKEN) for job_id in ids])
        case _:
            return itertools.repeat(list_jobs())


def post() -> bytes:
    return request("POST", "/v1/jobs", TOKEN, BODY)


def list_jobs() -> bytes:
    return request("GET", "/v1/jobs?limit=50", TOKEN)


async def _wait_until_ready(server: Server) -> None:
    """Return once the server accepts a job."""
    async with asyncio.timeout(30):
        while True:
            try:
                load = await server.load(itertools.repeat(post(), 1), wanted=202)
            except OSError:
                load = Load(202)
            if load.times_s:
                return
            await asyncio.sleep(0.1)
