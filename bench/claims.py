"""`make bench-claims`: the cost of a claim among 1,000,000 finished and 100,000 waiting files, and its plans.

Real PostgreSQL with its usual durability and the gateway's `claim_tasks`, with a commit after each claim.
"""

import asyncio
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any
from uuid import uuid4

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db import Sessions, create_engine, create_sessions, transaction
from app.logs import configure_logging
from app.queue.claiming import claim_tasks
from app.queue.submit_queues import SubmitQueue
from bench.gateway import stage
from bench.statistics import percentile

FINISHED, WAITING, FILES_PER_JOB = 1_000_000, 100_000, 50
CLIENTS, GROUPS = 20, 7
GOAL_MS = 5.0
START_S = 4.0  # start-up time of the processes
WARM_UP = 20  # connecting, and the six executions until PostgreSQL uses a generic plan

# Job ids ordered by time like UUIDv7. Every pair of client and group has waiting files.
_FILL = f"""
    INSERT INTO clients (id, name, token_sha256)
    SELECT lpad(to_hex(n), 32, '0')::uuid, 'client ' || n, decode(lpad(to_hex(n), 8, '0'), 'hex')
    FROM generate_series(0, {CLIENTS - 1}) AS n;

    INSERT INTO tasks (id, account, region, model, parameters, file_count, state, done_at)
    SELECT lpad(to_hex(n), 32, '0')::uuid, 'beijing/bench', 'beijing', 'fun-asr', '{{}}', 100, 'done', now()
    FROM generate_series(0, {FINISHED // 100 - 1}) AS n;

    INSERT INTO jobs (id, client_id, status, model, region, requested_region, parameters, metadata,
                      files_total, files_queued, files_succeeded, finished_at)
    SELECT lpad(to_hex(n), 32, '0')::uuid, lpad(to_hex(n % {CLIENTS}), 32, '0')::uuid,
           CASE WHEN waits THEN 'queued' ELSE 'succeeded' END, 'fun-asr', 'beijing', 'beijing', '{{}}', '{{}}',
           {FILES_PER_JOB}, CASE WHEN waits THEN {FILES_PER_JOB} ELSE 0 END,
           CASE WHEN waits THEN 0 ELSE {FILES_PER_JOB} END, CASE WHEN waits THEN NULL ELSE now() END
    FROM generate_series(0, {(FINISHED + WAITING) // FILES_PER_JOB - 1}) AS n,
         LATERAL (SELECT n >= {FINISHED // FILES_PER_JOB}) AS state (waits);

    INSERT INTO files (job_id, index, client_id, region, model, group_key, url, status, attempts, task_id, finished_at)
    SELECT lpad(to_hex(n / {FILES_PER_JOB}), 32, '0')::uuid, n % {FILES_PER_JOB},
           lpad(to_hex(n / {FILES_PER_JOB} % {CLIENTS}), 32, '0')::uuid, 'beijing', 'fun-asr',
           lpad(to_hex(n / {FILES_PER_JOB} % {GROUPS}), 32, '0')::uuid, 'https://example.com/' || n || '.wav',
           CASE WHEN waits THEN 'queued' ELSE 'succeeded' END, CASE WHEN waits THEN 0 ELSE 1 END,
           CASE WHEN waits THEN NULL ELSE lpad(to_hex(n / 100), 32, '0')::uuid END,
           CASE WHEN waits THEN NULL ELSE now() END
    FROM generate_series(0, {FINISHED + WAITING - 1}) AS n, LATERAL (SELECT n >= {FINISHED}) AS state (waits);
"""  # noqa: S608 - our own numbers


@dataclass(frozen=True, slots=True)
class Round:
    files_per_task: int
    connections: int
    claims: int  # of each connection


ROUNDS = [Round(1, 1, 400), Round(1, 4, 200), Round(100, 1, 100), Round(100, 4, 50)]


def main() -> None:
    configure_logging("error")
    asyncio.run(_bench())


async def _bench() -> None:
    async with stage() as on:
        database_url = await on.database()
        engine = create_engine(database_url, pool_size=1)
        try:
            await _fill(engine)
            for files_per_task in (1, 100):
                await _show_plans(engine, _submit_queue(files_per_task))
        finally:
            await engine.dispose()
        print(f"\nload of the machine: {os.getloadavg()[0]:.1f}\n", flush=True)
        for each in ROUNDS:
            await asyncio.to_thread(_time, database_url, each)


async def _fill(engine: AsyncEngine) -> None:
    print(f"{FINISHED:,} finished and {WAITING:,} waiting files of {CLIENTS} clients in {GROUPS} groups …", flush=True)
    since = time.monotonic()
    async with engine.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        assert raw is not None
        await raw.execute(_FILL, timeout=600)
        await raw.execute("VACUUM ANALYZE", timeout=600)
    print(f"filled in {time.monotonic() - since:.0f} s", flush=True)


def _submit_queue(files_per_task: int) -> SubmitQueue:
    return SubmitQueue("beijing/bench", "beijing", "fun-asr", max_files=files_per_task, submits_per_s=10)


async def _show_plans(engine: AsyncEngine, submit_queue: SubmitQueue) -> None:
    """Print each statement of a claim with its plan. The claim is rolled back."""
    async with engine.connect() as connection:
        with _recorded(engine) as statements:
            async with create_sessions(engine)(bind=connection) as session:
                await claim_tasks(session, submit_queue, tokens=[uuid4()])
                await session.rollback()
        print(f"\nThe statements of a claim of {submit_queue.max_files}:")
        total_ms = 0.0
        for statement, parameters in statements:
            plan = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS) {statement}", parameters)
            lines = [str(row[0]) for row in plan]
            total_ms += float(lines[-1].removeprefix("Execution Time: ").removesuffix(" ms"))
            print("\n".join(["", f"{' '.join(statement.split())[:110]} …", *(f"    {line}" for line in lines)]))
        await connection.rollback()
        print(f"\nTogether: {total_ms:.1f} ms of execution.")


@contextmanager
def _recorded(engine: AsyncEngine) -> Iterator[list[tuple[str, Any]]]:
    statements: list[tuple[str, Any]] = []

    def record(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    event.listen(engine.sync_engine, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", record)


def _time(database_url: str, each: Round) -> None:
    """Time claims. Each connection belongs to a separate process, like those of pollers."""
    start_at = time.time() + START_S
    with ProcessPoolExecutor(each.connections, mp_context=get_context("spawn")) as pool:
        claiming = [pool.submit(_claim_repeatedly, database_url, each, start_at) for _ in range(each.connections)]
        timed = [future.result() for future in claiming]
    taken_ms = sorted(ms for of_connection, _ in timed for ms in of_connection)
    p50_ms, p95_ms = percentile(taken_ms, 0.5) or 0, percentile(taken_ms, 0.95) or 0
    print(
        f"{'met   ' if p95_ms < GOAL_MS else 'MISSED'}  {each.files_per_task} files a task, {each.connections} at once:"
        f" p50 {p50_ms:.1f} ms, p95 {p95_ms:.1f} ms, longest {taken_ms[-1]:.1f} ms,"
        f" {sum(failed for _, failed in timed)} failed of {each.claims * each.connections}",
        flush=True,
    )


def _claim_repeatedly(database_url: str, each: Round, start_at: float) -> tuple[list[float], int]:
    return asyncio.run(_claims(database_url, each, start_at))


async def _claims(database_url: str, each: Round, start_at: float) -> tuple[list[float], int]:
    """Milliseconds of each claim including its commit, and the number of failures. Excludes the warm-up."""
    engine = create_engine(database_url, pool_size=1)
    taken_ms, failures = [], 0
    await asyncio.sleep(start_at - time.time())
    for _ in range(WARM_UP + each.claims):
        since = time.perf_counter()
        try:
            failures += not await _claim(create_sessions(engine), each.files_per_task)
        except DBAPIError as error:
            failures += 1
            print(f"  {error.orig}", flush=True)
        taken_ms.append((time.perf_counter() - since) * 1000)
    await engine.dispose()
    return taken_ms[WARM_UP:], failures


async def _claim(sessions: Sessions, files_per_task: int) -> bool:
    """Whether a claim found files that no concurrent claim had locked."""
    async with transaction(sessions) as session:
        return await claim_tasks(session, _submit_queue(files_per_task), tokens=[uuid4()]) != []


if __name__ == "__main__":
    main()
