"""Many tasks in flight, for as long as it takes to see how soon their ends are seen, and what that costs."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bench.figures import Figures, lags_s
from bench.gateway import Gateway, Meter, Stage, gateway
from bench.goals import in_flight
from bench.upstream import Upstream, ends_of_files, file_url, upstream

ENDS_PER_S = 10  # as many as upstream's limit lets start
# Tasks that start while the list is read move others from page to page, as ends and submits do.
QUEUE_S = 1.0


@dataclass(frozen=True, slots=True)
class Flight:
    """So many tasks are kept in flight: ENDS_PER_S end, at instants that nobody can foresee, and as many start."""

    tasks: int
    ramp_s: float  # to get them there
    settle_s: float  # until all that was posted first is far enough to end at the full rate
    window_s: float
    patience_s: float  # for the last that end in the window to be seen
    more: int = 0  # added for a second window, which they outlast

    @property
    def run_s(self) -> float:
        return self.tasks / ENDS_PER_S


async def run_in_flight(stage: Stage, flight: Flight) -> list[Figures]:
    """Detection lag and CPU with many tasks in flight. Upstream's limit of submits is lifted, to get them there."""
    room = stage.room("flight")
    settings = {"DASHSCOPE_BEIJING_MAX_FILES_PER_TASK": "1", "DASHSCOPE_BEIJING_SUBMIT_RPS": "1000"}
    dice = random.Random(0)  # noqa: S311 - repeatable, not unguessable
    spans = [flight.ramp_s + dice.uniform(0, flight.run_s) for _ in range(flight.tasks)]
    first = [file_url(number, run_s, queue_s=QUEUE_S) for number, run_s in enumerate(spans)]
    async with (
        upstream(room, "--unlimited-submits") as served,
        gateway(stage, room, served, apart=True, options=settings) as under_test,
    ):
        since = time.monotonic()
        await under_test.post(first)
        await asyncio.sleep(since + flight.ramp_s - time.monotonic())
        async with _fed(under_test, flight):
            await asyncio.sleep(flight.settle_s)
            lines = [await _window(stage, under_test, served, flight, in_flight(flight.tasks))]
            if flight.more:
                lasting = 3 * (flight.settle_s + flight.window_s + flight.patience_s)
                await under_test.post(
                    file_url(9_000_000 + number, lasting, queue_s=QUEUE_S) for number in range(flight.more)
                )
                await asyncio.sleep(flight.settle_s)
                lines.append(await _window(stage, under_test, served, flight, in_flight(flight.tasks + flight.more)))
        return lines


@asynccontextmanager
async def _fed(under_test: Gateway, flight: Flight) -> AsyncIterator[None]:
    """Posts a file for each one that ends, all along the block."""

    async def feed() -> None:
        since = time.monotonic()
        for number in range(1_000_000):
            await asyncio.sleep(since + number / ENDS_PER_S - time.monotonic())
            await under_test.post_one(file_url(1_000_000 + number, flight.run_s, queue_s=QUEUE_S))

    feeding = asyncio.create_task(feed())
    try:
        yield
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)


async def _window(stage: Stage, under_test: Gateway, served: Upstream, flight: Flight, way: str) -> Figures:
    meter, before, since = Meter(stage, under_test), await served.stats(), time.time()
    await asyncio.sleep(flight.window_s)
    cpu, after, until = meter.read(), await served.stats(), time.time()
    print(f"  {way}: {await under_test.in_flight():,} at the end of the window", flush=True)
    # What is not seen even after that counts as lost.
    await asyncio.sleep(flight.patience_s)
    ended = {url: at for url, at in ends_of_files(await served.submitted()).items() if since <= at < until}
    lags = lags_s(await under_test.stored(), ended)
    return Figures(
        way=way,
        stats=after.since(before),
        lost=len(ended) - len(lags),
        lags_s=lags,
        cpu_s=cpu.poller_s,
        cpu_share=cpu.poller_s / cpu.span_s,
        postgres_share=cpu.postgres_s / cpu.span_s,
    )
