"""Detection lag and CPU of the poller with many tasks in flight."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bench.gateway import Gateway, Meter, Stage, gateway
from bench.statistics import RunStatistics, lags_s
from bench.targets import in_flight
from bench.upstream import Upstream, ends_of_files, file_url, upstream

ENDS_PER_S = 10  # upstream's limit of submits
# Tasks that change their state while the list is read move other tasks between its pages.
QUEUE_S = 1.0


@dataclass(frozen=True, slots=True)
class InFlightLoad:
    """A constant number of tasks in flight: ENDS_PER_S end at random times, and as many start."""

    tasks: int
    ramp_s: float  # duration of the submits
    settle_s: float  # until tasks end at the full rate
    window_s: float
    patience_s: float  # to detect the tasks that end last in the window
    more: int = 0  # tasks added for a second window, which run longer than it

    @property
    def run_s(self) -> float:
        return self.tasks / ENDS_PER_S


async def run_in_flight(stage: Stage, load: InFlightLoad) -> list[RunStatistics]:
    """Detection lag and CPU with many tasks in flight. Upstream's limit of submits is lifted for the ramp."""
    folder = stage.new_folder("in-flight")
    settings = {"DASHSCOPE_BEIJING_MAX_FILES_PER_TASK": "1", "DASHSCOPE_BEIJING_SUBMIT_RPS": "1000"}
    chance = random.Random(0)  # noqa: S311 - repeatable
    durations_s = [load.ramp_s + chance.uniform(0, load.run_s) for _ in range(load.tasks)]
    first = [file_url(number, run_s, queue_s=QUEUE_S) for number, run_s in enumerate(durations_s)]
    async with (
        upstream(folder, "--unlimited-submits") as served,
        gateway(stage, folder, served, apart=True, options=settings) as under_test,
    ):
        since = time.monotonic()
        await under_test.post(first)
        await asyncio.sleep(since + load.ramp_s - time.monotonic())
        async with _replenish(under_test, load):
            await asyncio.sleep(load.settle_s)
            lines = [await _window(stage, under_test, served, load, in_flight(load.tasks))]
            if load.more:
                lasting = 3 * (load.settle_s + load.window_s + load.patience_s)
                await under_test.post(
                    file_url(9_000_000 + number, lasting, queue_s=QUEUE_S) for number in range(load.more)
                )
                await asyncio.sleep(load.settle_s)
                lines.append(await _window(stage, under_test, served, load, in_flight(load.tasks + load.more)))
        return lines


@asynccontextmanager
async def _replenish(under_test: Gateway, load: InFlightLoad) -> AsyncIterator[None]:
    """Create a job for each task that ends, until the end of the block."""

    async def feed() -> None:
        since = time.monotonic()
        for number in range(1_000_000):
            await asyncio.sleep(since + number / ENDS_PER_S - time.monotonic())
            await under_test.post_one(file_url(1_000_000 + number, load.run_s, queue_s=QUEUE_S))

    feeding = asyncio.create_task(feed())
    try:
        yield
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)


async def _window(stage: Stage, under_test: Gateway, served: Upstream, load: InFlightLoad, label: str) -> RunStatistics:
    meter, before, since = Meter(stage, under_test), await served.stats(), time.time()
    await asyncio.sleep(load.window_s)
    cpu, after, until = meter.read(), await served.stats(), time.time()
    print(f"  {label}: {await under_test.in_flight():,} at the end of the window", flush=True)
    # Files that are not stored after this time count as lost.
    await asyncio.sleep(load.patience_s)
    ended = {url: at for url, at in ends_of_files(await served.submitted()).items() if since <= at < until}
    lags = lags_s(await under_test.stored(), ended)
    return RunStatistics(
        label=f"{label}{stage.suffix}",
        stats=after.since(before),
        lost=len(ended) - len(lags),
        lags_s=lags,
        cpu_s=cpu.poller_s,
        cpu_share=cpu.poller_s / cpu.span_s,
        postgres_share=cpu.postgres_s / cpu.span_s,
    )
