"""A sandbox process and its records: calls, 429s, files transcribed twice, and the end of each task."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from app.sandbox.behaviour import behaviour_of
from bench.processes import running

KEY = "sk-sandbox-beijing"


def accounts(count: int) -> list[tuple[str, str]]:
    """The name and the key of each account of the sandbox."""
    return [("main", KEY), *((f"account-{number}", f"{KEY}-{number}") for number in range(2, count + 1))]


def account_keys(count: int) -> str:
    """The setting with the keys of these accounts."""
    return ",".join(f"{name}={key}" for name, key in accounts(count))


@dataclass(frozen=True, slots=True)
class Stats:
    queries: int
    lists: int
    throttled_kinds: Mapping[str, int]
    twice: int  # files that were transcribed, and billed, more than once

    @property
    def throttled(self) -> int:
        return sum(self.throttled_kinds.values())

    def since(self, before: "Stats") -> "Stats":
        earlier = before.throttled_kinds
        return Stats(
            self.queries - before.queries,
            self.lists - before.lists,
            {kind: count - earlier.get(kind, 0) for kind, count in self.throttled_kinds.items()},
            self.twice - before.twice,
        )


@dataclass(frozen=True, slots=True)
class Submitted:
    """An accepted task. Times are Unix seconds."""

    at: float
    ends_at: float
    file_urls: list[str]


@dataclass(frozen=True, slots=True)
class Upstream:
    origin: str

    @property
    def base_url(self) -> str:
        return f"{self.origin}/beijing/api/v1"

    async def stats(self) -> Stats:
        stats = await self._control("stats")
        calls = {row["kind"]: row["count"] for row in stats["calls"] if row["region"] == "beijing"}
        return Stats(
            queries=calls.get("query", 0),
            lists=calls.get("list", 0),
            throttled_kinds={row["kind"]: row["count"] for row in stats["throttled"] if row["region"] == "beijing"},
            twice=len(stats["duplicate_transcriptions"]),
        )

    async def submitted(self) -> list[Submitted]:
        return [_submitted(row) for row in await self._control("submits")]

    async def _control(self, page: str) -> Any:
        async with aiohttp.ClientSession() as http, http.get(f"{self.origin}/control/{page}") as response:
            return await response.json()


@asynccontextmanager
async def upstream(folder: Path, *options: str) -> AsyncIterator[Upstream]:
    async with running("sandbox", folder, "-m", "bench.sandbox", *options) as process:
        line = await process.line_with("sandbox at ")
        yield Upstream(line.removeprefix("sandbox at "))


def file_url(number: int, run_s: float, *, queue_s: float = 0) -> str:
    """A file whose task is PENDING for `queue_s` and RUNNING for `run_s` in the sandbox."""
    return f"https://example.com/{number}.wav?sandbox=queue:{queue_s:g},run:{run_s:g}"


def ends_of_files(tasks: list[Submitted]) -> Mapping[str, float]:
    """By URL, the end of its last task."""
    return {url: task.ends_at for task in tasks for url in task.file_urls}


def _submitted(row: Mapping[str, Any]) -> Submitted:
    # A task takes as long as its slowest file. The sandbox reads the same directives.
    directives = [behaviour_of(url) for url in row["file_urls"]]
    longest = max(directive.queue_s or 0 for directive in directives) + max(
        directive.run_s or 0 for directive in directives
    )
    return Submitted(row["at"], row["at"] + longest, row["file_urls"])
