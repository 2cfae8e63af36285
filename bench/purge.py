"""`python -m bench.purge`: purges 10,000 finished jobs with their transcripts, and measures concurrent claims.

Real PostgreSQL with its usual durability, and the poller's own steps and pauses.
"""

import asyncio
import os
import time
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncEngine

from app.db import Sessions, create_engine, create_sessions, transaction
from app.identifiers import UUID_MIN
from app.logs import configure_logging
from app.poller.maintenance import PURGE_PAUSE_S
from app.queue.claiming import SubmitQueue, claim_files
from app.queue.retention import PurgeStep, delete_task_rows, purge_jobs
from bench.gateway import stage
from bench.statistics import percentile

JOBS, WAITING, BODY_BYTES = 10_000, 20_000, 4_000
DAYS = 30
CLAIM_EVERY_S = 0.01

# Job ids ordered by time like UUIDv7: old ones begin with zeros, waiting ones with an f.
_FILL = f"""
    INSERT INTO clients (id, name, token_sha256) VALUES (lpad('', 32, '0')::uuid, 'bench', 'bench');

    INSERT INTO tasks (id, account, region, model, parameters, file_count, state, done_at)
    SELECT lpad(to_hex(n), 32, '0')::uuid, 'beijing/bench', 'beijing', 'fun-asr', '{{}}', 1, 'done',
           now() - interval '31 days'
    FROM generate_series(1, {JOBS}) AS n;

    INSERT INTO jobs (id, client_id, status, model, region, requested_region, parameters, metadata,
                      files_total, files_queued, files_succeeded, finished_at)
    SELECT lpad(to_hex(n), 32, '0')::uuid, lpad('', 32, '0')::uuid, 'succeeded', 'fun-asr', 'beijing', 'beijing',
           '{{}}', '{{"call": "4711"}}', 1, 0, 1, now() - interval '31 days'
    FROM generate_series(1, {JOBS}) AS n;

    INSERT INTO jobs (id, client_id, model, region, requested_region, parameters, metadata, files_total, files_queued)
    SELECT ('f' || lpad(to_hex(n), 31, '0'))::uuid, lpad('', 32, '0')::uuid, 'fun-asr', 'beijing', 'beijing',
           '{{}}', '{{}}', 1, 1
    FROM generate_series(1, {WAITING}) AS n;

    INSERT INTO files (job_id, index, client_id, region, model, group_key, url, status, attempts, task_id, finished_at)
    SELECT id, 0, client_id, region, model, lpad('', 32, '0')::uuid, 'https://example.com/' || id || '.wav',
           CASE WHEN finished_at IS NULL THEN 'queued' ELSE 'succeeded' END, 0,
           CASE WHEN finished_at IS NULL THEN NULL ELSE id END, finished_at
    FROM jobs;

    INSERT INTO transcripts (id, client_id, job_id, file_index, file_url, model, region, audio_duration_ms, created_at)
    SELECT job_id, client_id, job_id, 0, url, model, region, 4726, finished_at FROM files WHERE status = 'succeeded';

    INSERT INTO transcript_bodies
    SELECT id, body, '', {BODY_BYTES}, body, '', {BODY_BYTES}
    FROM transcripts, decode(repeat('5a', {BODY_BYTES}), 'hex') AS body;

    INSERT INTO deliveries (id, job_id, client_id, type, url, host, body, status, finished_at)
    SELECT id, id, client_id, 'job.succeeded', 'https://example.com', 'example.com:443', '{{}}', 'succeeded',
           finished_at
    FROM jobs WHERE status = 'succeeded';
"""  # noqa: S608 - our own numbers


def main() -> None:
    configure_logging("error")
    asyncio.run(_bench())


async def _bench() -> None:
    async with stage() as on:
        engine = create_engine(await on.database())
        sessions = create_sessions(engine)
        try:
            await _fill(engine)
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


async def _fill(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        assert raw is not None
        await raw.execute(_FILL, timeout=600)
        await raw.execute("VACUUM ANALYZE", timeout=600)
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
            assert await claim_files(session, submit_queue, token=uuid4()), "too few files wait"
        taken.append(time.monotonic() - since)
        await asyncio.sleep(CLAIM_EVERY_S)
    await until
    return taken


if __name__ == "__main__":
    main()
