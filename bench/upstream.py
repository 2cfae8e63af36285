"""A sandbox process and what it recorded: calls, 429s, files transcribed twice, and when each file's task ended."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from app.sandbox.behaviour import behaviour_of
from bench.processes import running

KEY = "sk-sandbox-beijing"


@dataclass(frozen=True, slots=True)
class Stats:
    queries: int
    lists: int
    throttled_kinds: Mapping[str, int]
    twice: int  # files transcribed, and so billed, more than once

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
    """A task that upstream took: instants are Unix seconds."""

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
        told = await self._control("stats")
        calls = {row["kind"]: row["count"] for row in told["calls"] if row["region"] == "beijing"}
        return Stats(
            queries=calls.get("query", 0),
            lists=calls.get("list", 0),
            throttled_kinds={row["kind"]: row["count"] for row in told["throttled"] if row["region"] == "beijing"},
            twice=len(told["duplicate_transcriptions"]),
        )

    async def submitted(self) -> list[Submitted]:
        return [_submitted(row) for row in await self._control("submits")]

    async def _control(self, what: str) -> Any:
        async with aiohttp.ClientSession() as http, http.get(f"{self.origin}/control/{what}") as answer:
            return await answer.json()


@asynccontextmanager
async def upstream(folder: Path, *options: str) -> AsyncIterator[Upstream]:
    async with running("sandbox", folder, "-m", "bench.sandbox", *options) as process:
        line = await process.told("sandbox at ")
        yield Upstream(line.removeprefix("sandbox at "))


def file_url(number: int, run_s: float, *, queue_s: float = 0) -> str:
    """A file of which the sandbox makes a task that is PENDING for `queue_s` and RUNNING for `run_s`."""
    return f"https://example.com/{number}.wav?sandbox=queue:{queue_s:g},run:{run_s:g}"


def ends_of_files(tasks: list[Submitted]) -> Mapping[str, float]:
    """By URL, when its last task ended upstream."""
    return {url: task.ends_at for task in tasks for url in task.file_urls}


def _submitted(row: Mapping[str, Any]) -> Submitted:
    # A task takes as long as its slowest file. The sandbox goes by the same URLs.
    wishes = [behaviour_of(url) for url in row["file_urls"]]
    longest = max(wish.queue_s or 0 for wish in wishes) + max(wish.run_s or 0 for wish in wishes)
    return Submitted(row["at"], row["at"] + longest, row["file_urls"])
