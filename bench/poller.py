"""`make bench-poller`: the official SDK, the theoretical optimum and the gateway, side by side on the same limits.

Every run has a sandbox process of its own with the strict limits of upstream: 10 submits/s, 20 queries/s and 20 list
calls/s. The SDK with retries takes four minutes, nearly all of them asleep: the runs of 500 files go on meanwhile.
What is measured in milliseconds or in CPU has the machine to itself.
"""

import argparse
import asyncio
import os
import time

from app.logs import configure_logging
from bench.figures import Figures, table
from bench.flight import Flight, run_in_flight
from bench.gateway import Stage, stage
from bench.goals import ONE_FILE, POSTED, SHARED, judged
from bench.runs import run_one_by_one, run_one_file_a_task, run_sdk, run_shared_tasks

FILES, RUN_S = 500, 20.0
MANY_FILES, SHORT_RUN_S = 2_000, 5.0
FLIGHT = Flight(tasks=1_500, more=500, ramp_s=30, settle_s=10, window_s=40, patience_s=10)
LARGE_FLIGHT = Flight(tasks=10_000, ramp_s=180, settle_s=130, window_s=60, patience_s=25)
GROUPS = ("sdk", "one", "shared", "posted", "flight")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the poller against the sandbox's limits.")
    parser.add_argument("--only", choices=[*GROUPS, "large"], action="append", help="these runs only; repeatable")
    parser.add_argument("--large", action="store_true", help="also 10,000 tasks in flight: seven minutes more")
    asked = parser.parse_args()
    wanted = set(asked.only or GROUPS) | ({"large"} if asked.large else set())
    configure_logging("error")
    asyncio.run(_bench(wanted))


async def _bench(wanted: set[str]) -> None:
    since = time.monotonic()
    async with stage() as on:
        lines = [*await _files_of_20_s(on, wanted), *await _posted_one_by_one(on, wanted), *await _flights(on, wanted)]
    print(f"\nAll runs took {time.monotonic() - since:.0f} s; load of the machine now: {os.getloadavg()[0]:.1f}\n")
    print(table(lines))
    print()
    for sentence in judged(lines):
        print(sentence)


async def _files_of_20_s(on: Stage, wanted: set[str]) -> list[Figures]:
    persistent = None
    if "sdk" in wanted:
        _say(f"{FILES} files of {RUN_S:g} s: the SDK with retries, and meanwhile the others …")
        retried = run_sdk(on, "SDK, 64 threads, all retried", files=FILES, run_s=RUN_S, persistent=True)
        persistent = asyncio.create_task(retried)
    lines = []
    if "sdk" in wanted:
        lines.append(await run_sdk(on, "SDK, 64 threads", files=FILES, run_s=RUN_S, persistent=False))
    if "one" in wanted:
        lines.append(await run_one_file_a_task(on, ONE_FILE, files=FILES, run_s=RUN_S))
    if "shared" in wanted:
        lines.append(await run_shared_tasks(on, SHARED, files=FILES, run_s=RUN_S))
    if persistent:
        lines.insert(1, await persistent)
    return lines


async def _posted_one_by_one(on: Stage, wanted: set[str]) -> list[Figures]:
    if "posted" not in wanted:
        return []
    _say(f"{MANY_FILES:,} files of {SHORT_RUN_S:g} s, posted one by one …")
    return [await run_one_by_one(on, POSTED, files=MANY_FILES, run_s=SHORT_RUN_S)]


async def _flights(on: Stage, wanted: set[str]) -> list[Figures]:
    lines: list[Figures] = []
    for name, flight in (("flight", FLIGHT), ("large", LARGE_FLIGHT)):
        if name in wanted:
            _say(f"{flight.tasks:,} tasks in flight, of which 10 end a second …")
            lines += await run_in_flight(on, flight)
    return lines


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
