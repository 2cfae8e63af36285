"""`make bench-scale`: the cost of a file in the database, from which the cost of a million files per day follows.

The poller and the sandbox run in one process without limits. Statements are counted in the process, rows and bytes by
PostgreSQL.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import event, insert, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.catalogue import validate_job
from app.clients.models import Client
from app.db import Sessions, create_engine, create_sessions, raw_connection_of, transaction
from app.identifiers import new_id
from app.logs import configure_logging
from app.poller.poller import run_poller
from app.queue.creation import NewJob, create_jobs
from app.sandbox import SandboxConfig, running_sandbox
from app.settings import Settings, load_settings
from bench.gateway import stage

FILES = 1000
IDLE_S = 10
FILES_A_DAY = 1_000_000
POLLERS = 10
TABLES = ("files", "jobs", "tasks", "budgets", "turns")


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one file. `tasks` is the total number of tasks."""

    tasks: int
    statements: float
    dead: dict[str, float]
    wal_bytes: float


def main() -> None:
    configure_logging("error")
    asyncio.run(_bench())


async def _bench() -> None:
    async with stage() as on:
        idle = await _idle(await on.database())
        print(f"An idle poller with one account sends {idle:.0f} statements per second.")
        for most in (1, 100):
            cost = await _run(await on.database(), most)
            _show(most, cost, idle)


async def _idle(database_url: str) -> float:
    engine = create_engine(database_url)
    statements = _count_statements(engine)
    stop = asyncio.Event()
    async with running_sandbox(_config()) as sandbox:
        poller = asyncio.create_task(run_poller(_settings(sandbox.base_url("beijing"), 1), engine, stop=stop))
        await asyncio.sleep(1)
        before = statements.total()
        await asyncio.sleep(IDLE_S)
        sent = statements.total() - before
        stop.set()
        await poller
    await engine.dispose()
    return sent / IDLE_S


async def _run(database_url: str, most: int) -> Cost:
    engine = create_engine(database_url)
    sessions = create_sessions(engine)
    await _post(sessions)
    statements = _count_statements(engine)
    stop = asyncio.Event()
    since = await _wal(sessions)
    async with running_sandbox(_config()) as sandbox:
        poller = asyncio.create_task(run_poller(_settings(sandbox.base_url("beijing"), most), engine, stop=stop))
        await _all_final(database_url)
        stop.set()
        await poller
    cost = Cost(
        tasks=await _scalar(sessions, "SELECT count(*) FROM tasks"),
        statements=statements.total() / FILES,
        dead={table: await _dead(sessions, table) / FILES for table in TABLES},
        wal_bytes=(await _wal(sessions) - since) / FILES,
    )
    await engine.dispose()
    return cost


def _show(most: int, cost: Cost, idle: float) -> None:
    a_second = FILES_A_DAY / 86400
    print(f"\nUp to {most} files per task: {FILES} files in {cost.tasks} tasks. Cost of one file:")
    print(f"  {cost.statements:6.1f} statements")
    print(f"  {cost.wal_bytes / 1024:6.1f} kB of write-ahead log")
    for table, dead in cost.dead.items():
        print(f"  {dead:6.2f} row versions of {table} for vacuum")
    busy = a_second * cost.statements
    print(f"  {FILES_A_DAY:,} files per day: {busy:.0f} statements/s; {POLLERS} idle pollers {POLLERS * idle:.0f}/s")


def _count_statements(engine: AsyncEngine) -> Counter[str]:
    sent: Counter[str] = Counter()

    @event.listens_for(engine.sync_engine, "before_cursor_execute")
    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent[statement.split(None, 1)[0]] += 1

    return sent


def _config() -> SandboxConfig:
    return SandboxConfig(queue_s=0.2, run_s=1.0, submit_rps=float("inf"), query_rps=float("inf"))


def _settings(base_url: str, most: int) -> Settings:
    return load_settings(
        {
            "dashscope_beijing_api_key": "sk-sandbox-beijing",
            "dashscope_beijing_base_url": base_url,
            "dashscope_beijing_submit_rps": 50,
            "dashscope_beijing_query_rps": 100,
            "dashscope_beijing_max_files_per_task": most,
        }
    )


async def _post(sessions: Sessions) -> UUID:
    """Create a job for each file, which is the most expensive way."""
    client_id = new_id()
    validated = validate_job(model="fun-asr", region="beijing", parameters={}, served=["beijing"])
    async with transaction(sessions) as session:
        await session.execute(insert(Client).values(id=client_id, name="bench", token_sha256=b"bench"))
        urls = [f"https://example.com/{number}.wav" for number in range(FILES)]
        jobs = [NewJob(client_id, validated, "beijing", [url], {}, None, None, b"") for url in urls]
        await create_jobs(await raw_connection_of(session), jobs)
    return client_id


async def _all_final(database_url: str) -> None:
    engine = create_engine(database_url, pool_size=1)  # not counted
    sessions = create_sessions(engine)
    unfinished = "SELECT count(*) FROM jobs WHERE finished_at IS NULL"
    while await _scalar(sessions, unfinished):  # noqa: ASYNC110 - PostgreSQL has no event for it
        await asyncio.sleep(0.5)
    await engine.dispose()


async def _scalar(sessions: Sessions, query: str) -> int:
    async with transaction(sessions) as session:
        return int(await session.scalar(text(query)) or 0)


async def _wal(sessions: Sessions) -> int:
    return await _scalar(sessions, "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")


async def _dead(sessions: Sessions, table: str) -> int:
    """Dead row versions of updates and deletes, including those that vacuum has removed."""
    async with transaction(sessions) as session:
        await session.execute(text("SELECT pg_stat_force_next_flush()"))
    return await _scalar(sessions, f"SELECT n_tup_upd + n_tup_del FROM pg_stat_user_tables WHERE relname = '{table}'")  # noqa: S608


if __name__ == "__main__":
    main()
