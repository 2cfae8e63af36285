"""Runs of a fixed number of files by the SDK and by the gateway, each with its own sandbox process."""

import json
import time
from collections.abc import Awaitable, Callable, Sequence

from bench.gateway import Gateway, Meter, Stage, gateway
from bench.processes import running
from bench.statistics import RunStatistics, lags_s, optimum_s
from bench.upstream import Submitted, ends_of_files, file_url, upstream

SUBMITS_PER_S = 10  # upstream's limit for fun-asr
FILES_PER_TASK = 100
SDK_CAP_S = 300.0
GATEWAY_CAP_S = 240.0

Post = Callable[[Gateway, Sequence[str]], Awaitable[None]]


async def run_sdk(stage: Stage, label: str, *, files: int, run_s: float, persistent: bool) -> RunStatistics:
    folder = stage.new_folder("sdk")
    options = ["--files", str(files), "--run-s", str(run_s), "--cap-s", str(SDK_CAP_S)]
    if persistent:
        options.append("--persistent")
    async with upstream(folder) as served:
        arguments = ["-m", "bench.sdk", "--base-url", served.base_url, *options]
        async with running("sdk", folder, *arguments) as peer:
            await peer.process.wait()
            result = json.loads((await peer.line_with("peer: ")).removeprefix("peer: "))
        tasks = await served.submitted()
        wall_s = result["until"] - result["since"]
        return RunStatistics(
            label=label,
            wall_s=wall_s,
            optimum_s=optimum_s(tasks=files, submits_per_s=SUBMITS_PER_S, task_s=run_s),
            stats=await served.stats(),
            lost=files - len(result["finished"]),
            lags_s=lags_s(result["finished"], ends_of_files(tasks)),
            cpu_s=result["cpu_s"],
            cpu_share=result["cpu_s"] / wall_s,
        )


async def run_one_file_per_task(stage: Stage, label: str, *, files: int, run_s: float) -> RunStatistics:
    best_s = optimum_s(tasks=files, submits_per_s=SUBMITS_PER_S, task_s=run_s)
    settings = {"DASHSCOPE_BEIJING_MAX_FILES_PER_TASK": "1"}
    return await _run_gateway(stage, label, _post_at_once, files=files, run_s=run_s, best_s=best_s, settings=settings)


async def run_shared_tasks(stage: Stage, label: str, *, files: int, run_s: float) -> RunStatistics:
    tasks = -(-files // FILES_PER_TASK)
    best_s = optimum_s(tasks=tasks, submits_per_s=SUBMITS_PER_S, task_s=run_s)
    return await _run_gateway(stage, label, _post_at_once, files=files, run_s=run_s, best_s=best_s)


async def run_one_by_one(stage: Stage, label: str, *, files: int, run_s: float) -> RunStatistics:
    """One request at a time. There is no optimum: it depends on the rate of the requests."""
    return await _run_gateway(stage, label, _post_one_by_one, files=files, run_s=run_s)


async def _post_at_once(under_test: Gateway, urls: Sequence[str]) -> None:
    await under_test.post(urls)


async def _post_one_by_one(under_test: Gateway, urls: Sequence[str]) -> None:
    for url in urls:
        await under_test.post_one(url)


async def _run_gateway(
    stage: Stage,
    label: str,
    post: Post,
    *,
    files: int,
    run_s: float,
    best_s: float | None = None,
    settings: dict[str, str] | None = None,
) -> RunStatistics:
    folder = stage.new_folder("gateway")
    async with upstream(folder) as served, gateway(stage, folder, served, options=settings) as under_test:
        meter = Meter(stage, under_test)
        since = time.time()
        await post(under_test, [file_url(number, run_s) for number in range(files)])
        posted_s = time.time() - since
        await under_test.finish(files, GATEWAY_CAP_S)
        cpu = meter.read()
        stored, tasks, stats = await under_test.stored(), await served.submitted(), await served.stats()
        print(
            f"  {label}: last response after {posted_s:.1f} s, last of {len(tasks):,} tasks submitted"
            f" after {tasks[-1].at - since:.1f} s; 429s: {dict(stats.throttled_kinds)}",
            flush=True,
        )
        return RunStatistics(
            label=f"{label}{stage.suffix}",
            wall_s=max(stored.values()) - since,
            optimum_s=best_s,
            submits_per_s=_submit_rate(tasks),
            stats=stats,
            lost=files - len(stored),
            lags_s=lags_s(stored, ends_of_files(tasks)),
            cpu_s=cpu.poller_s,
            cpu_share=cpu.poller_s / cpu.span_s,
            postgres_share=cpu.postgres_s / cpu.span_s,
        )


def _submit_rate(tasks: Sequence[Submitted]) -> float | None:
    """Submits per second: the number of intervals by the time from the first to the last submit."""
    span_s = tasks[-1].at - tasks[0].at if tasks else 0
    return (len(tasks) - 1) / span_s if span_s else None
