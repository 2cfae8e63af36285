"""Waiting that upstream does not cause: one short file at a time, and more ended tasks than the queries can read."""

import random
import time
from collections.abc import Iterable

from bench.gateway import Gateway, Stage, gateway
from bench.statistics import RunStatistics, lags_s
from bench.targets import BURST, LONE
from bench.upstream import ends_of_files, file_url, upstream

QUERIES_PER_S = 20  # upstream's limit
SHORTEST_S, LONGEST_S = 0.3, 6.0
WAIT_S = 30
BURST_SHORTEST_S, BURST_LONGEST_S = 10.0, 25.0
BURST_CAP_S = 150.0


async def run_lone_files(stage: Stage, *, files: int) -> RunStatistics:
    """One file at a time on an idle gateway that knows no durations. The lag is that of the response to `?wait`."""
    step_s = (LONGEST_S - SHORTEST_S) / max(files - 1, 1)
    durations_s = [SHORTEST_S + number * step_s for number in range(files)]
    random.Random(0).shuffle(durations_s)  # noqa: S311 - repeatable
    folder = stage.new_folder("lone")
    async with upstream(folder) as served, gateway(stage, folder, served) as under_test:
        lags = []
        for number, run_s in enumerate(durations_s):
            since = time.monotonic()
            await _post_and_wait(under_test, file_url(number, run_s))
            lags.append(time.monotonic() - since - run_s)
        return RunStatistics(
            label=f"{LONE}{stage.suffix}",
            wall_s=sum(durations_s) + sum(lags),
            optimum_s=sum(durations_s),
            stats=await served.stats(),
            lost=files - len(await under_test.stored()),
            lags_s=sorted(lags),
            least_lags_s=[0.0],
        )


async def run_burst(stage: Stage, *, files: int) -> RunStatistics:
    """More tasks end per second than upstream allows queries. The least lags are those of first come, first served."""
    chance = random.Random(0)  # noqa: S311 - repeatable
    folder = stage.new_folder("burst")
    settings = {"DASHSCOPE_BEIJING_MAX_FILES_PER_TASK": "1", "DASHSCOPE_BEIJING_SUBMIT_RPS": "1000"}
    urls = [file_url(number, chance.uniform(BURST_SHORTEST_S, BURST_LONGEST_S)) for number in range(files)]
    async with (
        upstream(folder, "--unlimited-submits") as served,
        gateway(stage, folder, served, options=settings) as under_test,
    ):
        since = time.time()
        await under_test.post(urls)
        await under_test.finish(files, BURST_CAP_S)
        stored, ended = await under_test.stored(), ends_of_files(await served.submitted())
        return RunStatistics(
            label=f"{BURST}{stage.suffix}",
            wall_s=max(stored.values()) - since,
            stats=await served.stats(),
            lost=files - len(stored),
            lags_s=lags_s(stored, ended),
            least_lags_s=least_lags_s(ended.values(), per_s=QUERIES_PER_S),
        )


def least_lags_s(ends: Iterable[float], *, per_s: float) -> list[float]:
    """Seconds from each end to its query, sorted, if each end were known at once and `per_s` queries were sent."""
    lags, queried_at = [], 0.0
    for end in sorted(ends):
        queried_at = max(end, queried_at + 1 / per_s)
        lags.append(queried_at - end)
    return sorted(lags)


async def _post_and_wait(under_test: Gateway, url: str) -> None:
    async with under_test.http.post(f"/v1/jobs?wait={WAIT_S}", json={"file_urls": [url]}) as response:
        job = await response.json()
        if response.status != 202 or job["status"] != "succeeded":
            raise RuntimeError(f"HTTP {response.status}: {job}")
