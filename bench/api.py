"""`make bench-api`: what the API does beside pgbench on the same server, and beside the same API by the tutorials.

One worker, 32 connections, every answer durable and every request authenticated; the load, the API and PostgreSQL
share the machine, so the shares of pgbench's rate are what to read, not the rates.
"""

import asyncio
import itertools
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import psutil

from app.logs import configure_logging
from bench.gateway import TOKEN, Stage, stage
from bench.load import Load, closed_loop, open_loop, request
from bench.pgbench import PgBench
from bench.processes import Running, running
from bench.upstream import KEY

CONNECTIONS = 32
SECONDS = 6.0
ROUNDS = 3
JOBS = 10_000
STEADY_PER_S = 1000
STEADY_S = 15.0
STEADY_P99_MS = 20.0
MEMORY_REQUESTS = 100_000
MEMORY_MB = 16.0  # what "flat" may move by: the allocator's own ups and downs

BODY = json.dumps(
    {
        "file_urls": ["https://example.com/recordings/2026/11/23/call-4711.wav?signature=" + "x" * 100],
        "parameters": {"language_hints": ["zh", "en"]},
        "metadata": {"call": "4711", "team": "support", "note": "y" * 100},
    }
).encode()


@dataclass(frozen=True, slots=True)
class Goal:
    what: str
    share: float


GOALS = [Goal("POST one file", 0.28), Goal("GET a job", 0.10), Goal("list of 50", 0.13)]


@dataclass(frozen=True, slots=True)
class Place:
    """An API that answers, and what it costs."""

    name: str
    host: str
    port: int
    process: Running

    @property
    def memory_mb(self) -> float:
        return float(psutil.Process(self.process.process.pid).memory_info().rss / 2**20)


def main() -> None:
    configure_logging("error")
    asyncio.run(_bench())


async def _bench() -> None:
    async with stage() as on:
        url = await on.database()
        async with _gateway(on, url) as gateway, _tutorial(on, await on.database()) as tutorial:
            pgbench = PgBench(url, BODY.decode())
            await pgbench.prepare()
            places = {place.name: (place, await _fill(place)) for place in (gateway, tutorial)}
            await _analyze(url)
            rates = await _rates(places, pgbench)
            met = [*_show(rates), await _steady(gateway), await _memory(gateway, places[gateway.name][1])]
    if not all(met):
        raise SystemExit("A goal is missed.")


@asynccontextmanager
async def _gateway(on: Stage, url: str) -> AsyncIterator[Place]:
    settings = {"DATABASE_URL": url, "PORT": "0", "API_TOKEN": TOKEN, "DASHSCOPE_BEIJING_API_KEY": KEY}
    async with running("api", on.room("gateway"), "-m", "app", "api", **settings) as api:
        address = urlsplit(await api.url())
        place = Place("gateway", address.hostname or "", address.port or 0, api)
        await _answers(place)
        yield place


@asynccontextmanager
async def _tutorial(on: Stage, url: str) -> AsyncIterator[Place]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {"DATABASE_URL": url, "API_TOKEN": TOKEN}
    async with running("tutorial", on.room("tutorial"), "-m", "bench.tutorial", str(port), **settings) as api:
        place = Place("tutorial", "127.0.0.1", port, api)
        await _answers(place)
        yield place


async def _answers(place: Place) -> None:
    """Return once it accepts a job."""
    async with asyncio.timeout(30):
        while True:
            try:
                load = await _load(place, itertools.repeat(_post(), 1), wanted=202)
            except OSError:
                load = Load(202)
            if load.times_s:
                return
            await asyncio.sleep(0.1)


async def _fill(place: Place) -> list[str]:
    """Ids of so many jobs: what is read is spread over them."""
    answers: list[bytes] = []
    await _load(place, itertools.repeat(_post(), JOBS), wanted=202, keep=answers)
    return [json.loads(answer)["id"] for answer in answers]


async def _analyze(url: str) -> None:
    """What autovacuum would do within the minute."""
    connection: Any = await asyncpg.connect(url)  # type: ignore[no-untyped-call]
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


async def _rates(places: dict[str, tuple[Place, list[str]]], pgbench: PgBench) -> dict[tuple[str, str], list[float]]:
    """Requests in a second by way and kind, interleaved, so that what disturbs one disturbs all."""
    rates: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS):
        for goal in GOALS:
            rates.setdefault(("pgbench", goal.what), []).append(await pgbench.per_s(goal.what, CONNECTIONS))
            for name, (place, ids) in places.items():
                wanted = 202 if goal.what == "POST one file" else 200
                load = await _load(place, _requests(goal.what, ids), wanted=wanted, seconds=SECONDS)
                if load.others:
                    raise SystemExit(f"{name} answered {goal.what} with {load.others}.")
                rates.setdefault((name, goal.what), []).append(load.per_s)
    return rates


def _requests(what: str, ids: Sequence[str]) -> Iterator[bytes]:
    match what:
        case "POST one file":
            return itertools.repeat(_post())
        case "GET a job":
            return itertools.cycle([request("GET", f"/v1/jobs/{job_id}", TOKEN) for job_id in ids])
        case _:
            return itertools.repeat(request("GET", "/v1/jobs?limit=50", TOKEN))


def _show(rates: dict[tuple[str, str], list[float]]) -> list[bool]:
    """Whether each goal is met. Medians of the rounds; the share is that of each round."""
    print(f"Requests a second, {CONNECTIONS} connections, one worker; median of {ROUNDS} rounds")
    print(f"{'':14} {'pgbench':>9} {'tutorial':>9} {'gateway':>9}   share of pgbench")
    met = []
    for goal in GOALS:
        pgbenchs, tutorials, gateways = (rates[way, goal.what] for way in ("pgbench", "tutorial", "gateway"))
        share = _median([ours / theirs for ours, theirs in zip(gateways, pgbenchs, strict=True)])
        met.append(share >= goal.share)
        numbers = " ".join(f"{_median(each):9,.0f}" for each in (pgbenchs, tutorials, gateways))
        print(f"{goal.what:14} {numbers}   {share:.3f} ({_verdict(met[-1])}, at least {goal.share})")
    return met


async def _steady(place: Place) -> bool:
    """Latency at a rate that leaves room, from when each request was due."""
    load = await open_loop(
        place.host, place.port, itertools.repeat(_post()),
        connections=2 * CONNECTIONS, wanted=202, per_s=STEADY_PER_S, seconds=STEADY_S,
    )  # fmt: skip
    p50, p99, longest = (load.time_ms(share) for share in (0.5, 0.99, 1))
    met = p99 < STEADY_P99_MS and not load.others
    print(
        f"POST at {STEADY_PER_S:,}/s for {STEADY_S:.0f} s: p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {longest:.0f} ms"
        f" ({_verdict(met)}, p99 below {STEADY_P99_MS:.0f})"
    )
    return met


async def _memory(place: Place, ids: Sequence[str]) -> bool:
    """After a tenth of the requests the process has what it needs; the rest shall not add to it."""
    began = time.monotonic()
    sizes = []
    for part in range(10):
        some = [_post(), *(request("GET", f"/v1/jobs/{job_id}", TOKEN) for job_id in ids[part::10][:98])]
        some.append(request("GET", "/v1/jobs?limit=50", TOKEN))
        mixed = itertools.islice(itertools.cycle(some), MEMORY_REQUESTS // 10)
        await _load(place, mixed, wanted=200)
        sizes.append(place.memory_mb)
    met = sizes[-1] - sizes[0] <= MEMORY_MB
    told = f"{sizes[0]:.0f} MB after the first tenth, {max(sizes):.0f} MB at most, {sizes[-1]:.0f} MB at the end"
    span = f"{MEMORY_REQUESTS:,} requests ({time.monotonic() - began:.0f} s)"
    print(f"Memory over {span}: {told} ({_verdict(met)}, flat)")
    return met


async def _load(place: Place, requests: Iterator[bytes], **options: Any) -> Load:
    return await closed_loop(place.host, place.port, requests, connections=CONNECTIONS, **options)


def _post() -> bytes:
    return request("POST", "/v1/jobs", TOKEN, BODY)


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"


if __name__ == "__main__":
    main()
