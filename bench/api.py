"""`make bench-api`: the API's rates as shares of pgbench's on the same server, beside an API written by the tutorials.

One worker, 32 connections, every write durable and every request authenticated. The load, the API and PostgreSQL share
the machine: compare the shares of pgbench's rate, not the rates.

`python -m bench.api --beside COMMIT` compares CPU and latency of a request with those of another commit instead.
"""

import argparse
import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from app.logs import configure_logging
from bench.api_server import (
    BODY,
    CONNECTIONS,
    GET,
    LIST,
    POST,
    Server,
    gateway_server,
    list_jobs,
    post,
    tutorial_server,
    vacuum,
)
from bench.comparison import compare
from bench.gateway import TOKEN, stage
from bench.load import request
from bench.pgbench import PgBench
from bench.statistics import percentile

SECONDS = 6.0
ROUNDS = 3
# Latency at the maximum rate depends on the number of connections alone, so it is measured at half of that rate.
# Each round has its own maximum: the speed of a virtual machine changes within minutes.
STEADY_SHARE = 0.5
STEADY_ROUNDS = 5
STEADY_S = 4.0
STEADY_P99_MS = 20.0
MEMORY_REQUESTS = 100_000
MEMORY_MB = 16.0  # the allocator's variation, within which memory counts as constant


@dataclass(frozen=True, slots=True)
class Target:
    kind: str
    share: float


TARGETS = [Target(POST, 0.28), Target(GET, 0.10), Target(LIST, 0.13)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the API.")
    parser.add_argument("--beside", metavar="COMMIT", help="compare with the API of this commit")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each measurement")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    configure_logging("error")
    asyncio.run(_bench(arguments))


async def _bench(arguments: argparse.Namespace) -> None:
    seconds, rounds = arguments.seconds, arguments.rounds
    async with stage() as on:
        if arguments.beside:
            await compare(on, arguments.beside, seconds=seconds, rounds=rounds)
            return
        url = await on.database()
        async with gateway_server(on, url) as gateway, tutorial_server(on, await on.database()) as tutorial:
            pgbench = PgBench(url, BODY.decode(), seconds=seconds)
            await pgbench.prepare()
            servers = {server: await server.fill() for server in (gateway, tutorial)}
            await vacuum(url)
            rates = await _rates(servers, pgbench, seconds=seconds, rounds=rounds)
            met = _print_rates(rates, rounds)
            met.append(await _steady(gateway, pgbench))
            met.append(await _memory(gateway, servers[gateway]))
    if not all(met):
        raise SystemExit("A target is missed.")


async def _rates(
    servers: dict[Server, list[str]], pgbench: PgBench, *, seconds: float, rounds: int
) -> dict[tuple[str, str], list[float]]:
    """Requests per second by server and kind. Interleaved, so that disturbances of the machine affect all of them."""
    rates: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for target in TARGETS:
            rates.setdefault(("pgbench", target.kind), []).append(await pgbench.per_s(target.kind, CONNECTIONS))
            for server, ids in servers.items():
                load = await server.measure(target.kind, ids, seconds=seconds)
                rates.setdefault((server.name, target.kind), []).append(load.per_s)
    return rates


def _print_rates(rates: dict[tuple[str, str], list[float]], rounds: int) -> list[bool]:
    """Print medians of the rounds, and return whether each target is met. A share is computed for each round."""
    print(f"Requests per second, {CONNECTIONS} connections, one worker; median of {rounds} rounds")
    print(f"{'':14} {'pgbench':>9} {'tutorial':>9} {'gateway':>9}   share of pgbench")
    met = []
    for target in TARGETS:
        pgbenchs, tutorials, gateways = (rates[name, target.kind] for name in ("pgbench", "tutorial", "gateway"))
        share = median(rate / reference for rate, reference in zip(gateways, pgbenchs, strict=True))
        met.append(share >= target.share)
        numbers = " ".join(f"{median(each):9,.0f}" for each in (pgbenchs, tutorials, gateways))
        print(f"{target.kind:14} {numbers}   {share:.3f} ({_verdict(met[-1])}, at least {target.share})")
    return met


async def _steady(server: Server, pgbench: PgBench) -> bool:
    """Latency at half of the maximum rate of the same seconds, beside that of pgbench at the same rate."""
    rounds: list[tuple[float, float, float, float]] = []  # requests per second, p50, p99 and pgbench's p99
    others = 0
    for _ in range(STEADY_ROUNDS):
        per_s = (await server.measure(POST, [], seconds=STEADY_S / 2)).per_s * STEADY_SHARE
        load = await server.post_steadily(per_s, seconds=STEADY_S)
        others += sum(load.others.values())
        least_ms = percentile(await pgbench.times_ms(POST, CONNECTIONS, per_s=per_s), 0.99) or 0
        rounds.append((per_s, load.time_ms(0.5), load.time_ms(0.99), least_ms))
    per_s, p50_ms, p99_ms, least_ms = (median(values) for values in zip(*rounds, strict=True))
    met = p99_ms <= STEADY_P99_MS and not others
    p99s = ", ".join(f"{each[2]:.1f}" for each in rounds)
    print(
        f"POST at half of the maximum, {per_s:,.0f}/s; medians of {STEADY_ROUNDS} rounds of {STEADY_S:.0f} s: p50"
        f" {p50_ms:.1f} ms, p99 {p99_ms:.1f} ms ({_verdict(met)}, at most {STEADY_P99_MS:.0f}; rounds {p99s}; one"
        f" INSERT of pgbench at this rate {least_ms:.1f})"
    )
    return met


async def _memory(server: Server, ids: Sequence[str]) -> bool:
    """Whether memory stays constant after the first tenth of the requests."""
    began = time.monotonic()
    sizes = []
    for part in range(10):
        mix = [post(), *(request("GET", f"/v1/jobs/{job_id}", TOKEN) for job_id in ids[part::10][:98]), list_jobs()]
        await server.load(itertools.islice(itertools.cycle(mix), MEMORY_REQUESTS // 10), wanted=200)
        sizes.append(server.memory_mb)
    met = sizes[-1] - sizes[0] <= MEMORY_MB
    result = f"{sizes[0]:.0f} MB after the first tenth, {max(sizes):.0f} MB at most, {sizes[-1]:.0f} MB at the end"
    span = f"{MEMORY_REQUESTS:,} requests ({time.monotonic() - began:.0f} s)"
    print(f"Memory over {span}: {result} ({_verdict(met)}, constant)")
    return met


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"


if __name__ == "__main__":
    main()
