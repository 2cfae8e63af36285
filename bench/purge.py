"""`python -m bench.purge`: purges 10,000 finished jobs with their transcripts, and measures concurrent claims.

Real PostgreSQL with its usual durability, and the poller's own steps and pauses.
"""

import asyncio
import os
import time
from uuid import uuid4

from app.db import Sessions, create_engine, create_sessions, raw_connection, transaction
from app.identifiers import UUID_MIN
from app.logs import configure_logging
from app.poller.maintenance import PURGE_PAUSE_S
from app.queue.claiming import claim_tasks
from app.queue.retention import PurgeStep, delete_task_rows, purge_jobs
from app.queue.submit_queues import SubmitQueue
from bench import fill
from bench.gateway import stage
from bench.statistics import percentile

JOBS, WAITING = 10_000, 20_000
DAYS = 30
CLAIM_EVERY_S = 0.01

_DELIVERIES = """
    INSERT INTO deliveries (id, job_id, client_id, type, url, host, body, status, finished_at)
    SELECT id, id, client_id, 'job.succeeded', 'https://example.com', 'example.com:443', '{}', 'succeeded', finished_at
    FROM jobs WHERE finished_at IS NOT NULL
"""


def main() -> None:
    configure_logging("error")
    asyncio.run(_bench())


async def _bench() -> None:
    async with stage() as on:
        engine = create_engine(await on.database())
        sessions = create_sessions(engine)
        try:
            await _fill(sessions)
            await _claims(sessions, until=asyncio.create_task(asyncio.sleep(2)))  # connecting, and the first plans
            await _show("alone", sessions, asyncio.create_task(asyncio.sleep(10)))
            steps: list[float] = []
            await _show("while purging", sessions, asyncio.create_task(_purge(sessions, steps)))
            await _show("alone again", sessions, asyncio.create_task(asyncio.sleep(10)))
        finally:
            await engine.dispose()
        steps.sort()
        print(f"\n{JOBS:,} jobs with a transcript, a delivery and a task each, in {len(steps)} transactions:")
        print(f"{sum(steps):.1f} s in transactions, and as many pauses of {PURGE_PAUSE_S} s")
        print(f"a transaction: median {steps[len(steps) // 2] * 1000:.0f} ms, longest {steps[-1] * 1000:.0f} ms")


async def _fill(sessions: Sessions) -> None:
    await fill.add_clients(sessions)
    await fill.add_finished(sessions, 0, JOBS)
    await fill.add_waiting(sessions, WAITING, 1)
    async with raw_connection(sessions) as connection:
        await connection.execute(_DELIVERIES)
        await connection.execute("VACUUM ANALYZE")
    print(f"{JOBS:,} old jobs and {WAITING:,} waiting files; load of the machine: {os.getloadavg()[0]:.1f}\n")


async def _purge(sessions: Sessions, steps: list[float]) -> None:
    """`app.poller.maintenance.purge` with the time of each step."""
    jobs, step, deleted = 0, PurgeStep(0, UUID_MIN), 1
    while not step.done:
        since = time.monotonic()
        async with transaction(sessions) as session:
            step = await purge_jobs(session, DAYS, after=step.after)
        steps.append(time.monotonic() - since)
        jobs += step.jobs
        await asyncio.sleep(PURGE_PAUSE_S)
    while deleted:
        since = time.monotonic()
        async with transaction(sessions) as session:
            deleted = await delete_task_rows(session, min_hours=24 * DAYS)
        steps.append(time.monotonic() - since)
        await asyncio.sleep(PURGE_PAUSE_S)
    assert jobs == JOBS


async def _show(when: str, sessions: Sessions, until: "asyncio.Task[None]") -> None:
    taken = sorted(await _claims(sessions, until=until))
    median, late = percentile(taken, 0.5), percentile(taken, 0.95)
    assert median is not None
    assert late is not None
    times = ", ".join(
        f"{name} {seconds * 1000:.1f} ms"
        for name, seconds in (("median", median), ("p95", late), ("longest", taken[-1]))
    )
    print(f"a claim {when:14} {times} ({len(taken)} claims)", flush=True)


async def _claims(sessions: Sessions, *, until: "asyncio.Task[None]") -> list[float]:
    """Claim one file at a time until the task ends. Returns the seconds of each claim."""
    submit_queue = SubmitQueue("beijing/bench", "beijing", "fun-asr", max_files=1, submits_per_s=10)
    taken = []
    while not until.done():
        since = time.monotonic()
        async with transaction(sessions) as session:
            assert await claim_tasks(session, submit_queue, tokens=[uuid4()]), "too few files wait"
        taken.append(time.monotonic() - since)
        await asyncio.sleep(CLAIM_EVERY_S)
    await until
    return taken


if __name__ == "__main__":
    main()
