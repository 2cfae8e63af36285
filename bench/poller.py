"""`make bench-poller`: the official SDK, the theoretical optimum and the gateway under the same limits.

Each run has its own sandbox process with the limits of DashScope: 10 submits/s, 20 queries/s and 20 list calls/s. The
SDK with retries takes four minutes, mostly asleep, so the runs of 500 files go on meanwhile. Runs that measure
milliseconds or CPU have the machine for themselves.

`python -m bench.poller --beside COMMIT` repeats each run with the gateway of another commit.
"""

import argparse
import asyncio
import os
import time
from contextlib import nullcontext

from app.logs import configure_logging
from bench.fixed_load import run_one_by_one, run_one_file_per_task, run_sdk, run_shared_tasks
from bench.gateway import Stage, stage
from bench.in_flight import InFlightLoad, run_in_flight
from bench.statistics import RunStatistics, table
from bench.targets import ONE_FILE, POSTED, SHARED, verdicts
from bench.waiting import run_burst, run_lone_files

FILES, RUN_S = 500, 20.0
MANY_FILES, SHORT_RUN_S = 2_000, 5.0
IN_FLIGHT = InFlightLoad(tasks=1_500, more=500, ramp_s=30, settle_s=10, window_s=40, patience_s=10)
LARGE_IN_FLIGHT = InFlightLoad(tasks=10_000, ramp_s=180, settle_s=130, window_s=60, patience_s=25)
LONE_FILES, BURST_FILES = 12, 400
GROUPS = ("sdk", "one", "shared", "posted", "lone", "burst", "flight")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the poller against the sandbox's limits.")
    parser.add_argument("--only", choices=[*GROUPS, "large"], action="append", help="only these runs; repeatable")
    parser.add_argument("--large", action="store_true", help="also 10,000 tasks in flight, which takes seven minutes")
    parser.add_argument("--beside", metavar="COMMIT", help="run the gateway of this commit too, after each run")
    arguments = parser.parse_args()
    wanted = set(arguments.only or GROUPS) | ({"large"} if arguments.large else set())
    configure_logging("error")
    asyncio.run(_bench(wanted, arguments.beside))


async def _bench(wanted: set[str], commit: str | None) -> None:
    since = time.monotonic()
    lines: list[RunStatistics] = []
    async with stage() as on:
        with on.at_commit(commit) if commit else nullcontext() as other:
            for runs in (_files_of_20_s, _posted_one_by_one, _waiting, _in_flight):
                lines += await runs(on, wanted)
                if other is not None:
                    lines += await runs(other, wanted - {"sdk"})
    print(f"\nAll runs took {time.monotonic() - since:.0f} s; load of the machine now: {os.getloadavg()[0]:.1f}\n")
    print(table(lines))
    print()
    for sentence in verdicts(lines):
        print(sentence)


async def _files_of_20_s(on: Stage, wanted: set[str]) -> list[RunStatistics]:
    persistent = None
    if "sdk" in wanted:
        _print(f"{FILES} files of {RUN_S:g} s: the SDK with retries, meanwhile the other runs …")
        retried = run_sdk(on, "SDK, 64 threads, all retried", files=FILES, run_s=RUN_S, persistent=True)
        persistent = asyncio.create_task(retried)
    lines = []
    if "sdk" in wanted:
        lines.append(await run_sdk(on, "SDK, 64 threads", files=FILES, run_s=RUN_S, persistent=False))
    if "one" in wanted:
        lines.append(await run_one_file_per_task(on, ONE_FILE, files=FILES, run_s=RUN_S))
    if "shared" in wanted:
        lines.append(await run_shared_tasks(on, SHARED, files=FILES, run_s=RUN_S))
    if persistent:
        lines.insert(1, await persistent)
    return lines


async def _posted_one_by_one(on: Stage, wanted: set[str]) -> list[RunStatistics]:
    if "posted" not in wanted:
        return []
    _print(f"{MANY_FILES:,} files of {SHORT_RUN_S:g} s, posted one by one …")
    return [await run_one_by_one(on, POSTED, files=MANY_FILES, run_s=SHORT_RUN_S)]


async def _waiting(on: Stage, wanted: set[str]) -> list[RunStatistics]:
    lines = []
    if "lone" in wanted:
        _print(f"{LONE_FILES} files of 0.3 to 6 s, one at a time …")
        lines.append(await run_lone_files(on, files=LONE_FILES))
    if "burst" in wanted:
        _print(f"{BURST_FILES} tasks of 10 to 25 s that start together …")
        lines.append(await run_burst(on, files=BURST_FILES))
    return lines


async def _in_flight(on: Stage, wanted: set[str]) -> list[RunStatistics]:
    lines: list[RunStatistics] = []
    for name, load in (("flight", IN_FLIGHT), ("large", LARGE_IN_FLIGHT)):
        if name in wanted:
            _print(f"{load.tasks:,} tasks in flight, 10 end per second …")
            lines += await run_in_flight(on, load)
    return lines


def _print(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
