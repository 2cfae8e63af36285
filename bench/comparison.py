"""The API of this checkout and of another commit under the same load, interleaved: CPU per request, rates, latency."""

from dataclasses import astuple, dataclass
from statistics import median

from bench.api_server import BODY, CONNECTIONS, KINDS, POST, Server, gateway_server, vacuum
from bench.gateway import Stage
from bench.pgbench import PgBench
from bench.statistics import percentile


@dataclass(frozen=True, slots=True)
class Sample:
    """One kind of request in one round. CPU is that of the API process, for each request."""

    this_us: float
    other_us: float
    this_share: float
    other_share: float


@dataclass(frozen=True, slots=True)
class Latency:
    """POST at half of the maximum rate of the same server in the same round.

    `least_p99_ms` is that of pgbench at the same rate: the time of one INSERT and its commit.
    """

    per_s: float
    p50_ms: float
    p99_ms: float
    least_p99_ms: float


async def compare(stage: Stage, commit: str, *, seconds: float, rounds: int) -> None:
    """Print the tables. Each round has pgbench, this checkout and the commit one after the other for each kind."""
    with stage.at_commit(commit) as other_stage:
        this_url, other_url = await stage.database(), await other_stage.database()
        async with (
            gateway_server(stage, this_url, name="this") as this,
            gateway_server(other_stage, other_url, name="other") as other,
        ):
            pgbench = PgBench(this_url, BODY.decode(), seconds=seconds)
            await pgbench.prepare()
            ids = {server.name: await server.fill() for server in (this, other)}
            for url in (this_url, other_url):
                await vacuum(url)
            samples: dict[str, list[Sample]] = {kind: [] for kind in KINDS}
            latencies: list[tuple[Latency, Latency]] = []
            for _ in range(rounds):
                for kind in KINDS:
                    reference = await pgbench.per_s(kind, CONNECTIONS)
                    this_us, this_per_s = await _measure(this, kind, ids["this"], seconds)
                    other_us, other_per_s = await _measure(other, kind, ids["other"], seconds)
                    samples[kind].append(Sample(this_us, other_us, this_per_s / reference, other_per_s / reference))
                    if kind == POST:
                        here = await _latency(this, pgbench, this_per_s, seconds)
                        latencies.append((here, await _latency(other, pgbench, other_per_s, seconds)))
    _print_table(commit, samples, rounds=rounds, seconds=seconds)
    _print_latencies(commit, latencies)


async def _measure(server: Server, kind: str, ids: list[str], seconds: float) -> tuple[float, float]:
    """CPU for each request in microseconds, and requests per second."""
    before = server.process.cpu_s()
    load = await server.measure(kind, ids, seconds=seconds)
    return (server.process.cpu_s() - before) * 1e6 / len(load.times_s), load.per_s


async def _latency(server: Server, pgbench: PgBench, maximum_per_s: float, seconds: float) -> Latency:
    load = await server.post_steadily(maximum_per_s / 2, seconds=seconds)
    least = await pgbench.times_ms(POST, CONNECTIONS, per_s=maximum_per_s / 2)
    return Latency(load.per_s, load.time_ms(0.5), load.time_ms(0.99), percentile(least, 0.99) or 0)


def _print_table(commit: str, samples: dict[str, list[Sample]], *, rounds: int, seconds: float) -> None:
    print(f"CPU of the API for each request, {CONNECTIONS} connections; medians of {rounds} rounds of {seconds:g} s")
    print(f"{'':14} {'here':>8} {commit[:10]:>10} {'ratio':>6}   shares of pgbench: here, {commit[:10]}")
    for kind, rows in samples.items():
        here_us, there_us = median(row.this_us for row in rows), median(row.other_us for row in rows)
        ratio = median(row.this_us / row.other_us for row in rows)
        shares = f"{median(row.this_share for row in rows):.3f}, {median(row.other_share for row in rows):.3f}"
        print(f"{kind:14} {here_us:5.0f} µs {there_us:7.0f} µs {ratio:6.3f}   {shares}")


def _print_latencies(commit: str, latencies: list[tuple[Latency, Latency]]) -> None:
    print("POST at half of the maximum rate of its server; medians of the rounds")
    for name, found in zip(("here", commit[:10]), zip(*latencies, strict=True), strict=True):
        per_s, p50_ms, p99_ms, least_p99_ms = (median(values) for values in zip(*map(astuple, found), strict=True))
        least = f"pgbench at this rate {least_p99_ms:.1f} ms"
        print(f"{name:14} {per_s:5,.0f}/s   p50 {p50_ms:.1f} ms   p99 {p99_ms:.1f} ms, {least}")
