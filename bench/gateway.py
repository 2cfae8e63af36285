"""A gateway of real processes on its own database: jobs are posted over HTTP, results are read from its tables."""

import asyncio
import itertools
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import asyncpg

from app.embedded.server import start_embedded
from bench.processes import ROOT, Running, family_cpu_s, run, running
from bench.upstream import KEY, Upstream

TOKEN = "a-token-of-the-benchmark"  # noqa: S105
CONNECTIONS = 32


@dataclass(frozen=True, slots=True)
class Stage:
    """A temporary folder with an embedded PostgreSQL server, and the checkout of the gateway."""

    folder: Path
    server_url: str
    source: Path = ROOT  # the checkout whose gateway runs
    suffix: str = ""  # of the labels of its runs
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def new_folder(self, name: str) -> Path:
        folder = self.folder / f"{next(self._numbers)}-{name}"
        folder.mkdir()
        return folder

    async def database(self) -> str:
        """The URL of a new database with the gateway's tables."""
        name = f"bench_{next(self._numbers)}"
        connection = await asyncpg.connect(self.server_url)  # type: ignore[no-untyped-call]
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()
        url = urlunsplit(urlsplit(self.server_url)._replace(path=f"/{name}"))
        await run("migrate", self.new_folder("migrate"), "-m", "app", "migrate", DATABASE_URL=url, **self.environment)
        return url

    @property
    def environment(self) -> dict[str, str]:
        """The variable that makes a process import the gateway of `source`."""
        return {"PYTHONPATH": str(self.source)}

    @contextmanager
    def at_commit(self, commit: str) -> Iterator["Stage"]:
        """The same stage with the gateway of another commit, in a temporary git worktree."""
        source = self.new_folder("checkout") / "source"
        _git("worktree", "add", "--quiet", "--detach", str(source), commit)
        try:
            yield replace(self, source=source, suffix=f" at {commit[:10]}")
        finally:
            _git("worktree", "remove", "--force", str(source))

    def postgres_cpu_s(self) -> float:
        pid = (self.folder / "postgres" / "postmaster.pid").read_text().split()[0]
        return family_cpu_s(int(pid))


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="asr-gateway-bench-", ignore_cleanup_errors=True) as folder:
        yield Stage(Path(folder), await asyncio.to_thread(start_embedded, Path(folder)))


def _git(*arguments: str) -> None:
    subprocess.run(["git", "-C", str(ROOT), *arguments], check=True)  # noqa: S603, S607 - the developer's git


@dataclass(frozen=True, slots=True)
class Gateway:
    url: str
    poller: Running  # with `serve` the process of the API too
    database: Any
    http: aiohttp.ClientSession

    async def post(self, file_urls: Iterable[str]) -> None:
        """Create a job for each URL, over CONNECTIONS connections."""
        waiting = iter(file_urls)

        async def connection() -> None:
            for url in waiting:
                await self.post_one(url)

        await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))

    async def post_one(self, file_url: str) -> None:
        async with self.http.post("/v1/jobs", json={"file_urls": [file_url]}) as response:
            if response.status != 202:
                raise RuntimeError(f"POST /v1/jobs: HTTP {response.status}: {await response.text()}")

    async def finish(self, jobs: int, cap_s: float) -> None:
        """Return once `jobs` jobs are final, or after `cap_s` seconds."""
        deadline = time.monotonic() + cap_s
        final = "SELECT count(*) FROM jobs WHERE finished_at IS NOT NULL"
        while await self.database.fetchval(final) < jobs and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.25)

    async def stored(self) -> dict[str, float]:
        """By URL, the Unix time at which the transaction that stored its transcript began."""
        rows = await self.database.fetch(
            "SELECT url, extract(epoch FROM finished_at)::float8 AS at FROM files WHERE status = 'succeeded'"
        )
        return {row["url"]: row["at"] for row in rows}

    async def in_flight(self) -> int:
        return int(await self.database.fetchval("SELECT count(*) FROM tasks WHERE state = 'running'"))


@asynccontextmanager
async def gateway(
    stage: Stage, folder: Path, served: Upstream, *, apart: bool = False, options: Mapping[str, str] | None = None
) -> AsyncIterator[Gateway]:
    """`python -m app serve`, or with `apart` two processes `api` and `poller`, so that their CPU can be measured."""
    database_url = await stage.database()
    settings = {
        "DATABASE_URL": database_url,
        "PORT": "0",
        "API_TOKEN": TOKEN,
        "DASHSCOPE_BEIJING_API_KEY": KEY,
        "DASHSCOPE_BEIJING_BASE_URL": served.base_url,
        **stage.environment,
        **(options or {}),
    }
    front = "api" if apart else "serve"
    async with running(front, folder, "-m", "app", front, **settings) as api:
        url = await api.url()
        async with _database(database_url) as database, http_session(url) as http:
            if not apart:
                yield Gateway(url, api, database, http)
                return
            async with running("poller", folder, "-m", "app", "poller", "--port", "0", **settings) as poller:
                await poller.line_with('"listening"')
                yield Gateway(url, poller, database, http)


def http_session(url: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"})


@asynccontextmanager
async def _database(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url)  # type: ignore[no-untyped-call]
    try:
        yield connection
    finally:
        await connection.close()


@dataclass(frozen=True, slots=True)
class Cpu:
    span_s: float
    poller_s: float
    postgres_s: float


class Meter:
    """CPU of the poller's process and of PostgreSQL since the creation of the meter."""

    def __init__(self, stage: Stage, under_test: Gateway) -> None:
        self._stage = stage
        self._gateway = under_test
        self._since = self._now()

    def read(self) -> Cpu:
        now, since = self._now(), self._since
        return Cpu(now[0] - since[0], now[1] - since[1], now[2] - since[2])

    def _now(self) -> tuple[float, float, float]:
        return time.monotonic(), self._gateway.poller.cpu_s(), self._stage.postgres_cpu_s()
