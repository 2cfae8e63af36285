"""`make bench-growth`: what requests, searches and claims cost with 1,000 and 100,000 files, and with FILES more.

Real PostgreSQL with its usual settings, and `python -m app api`. Read ratios: the seconds depend on the machine.
"""

import argparse
import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import uuid4

import aiohttp
from sqlalchemy import text

from app import migrate
from app.db import Sessions, create_engine, create_sessions, raw_connection, transaction
from app.logs import configure_logging
from app.queue.claiming import claim_tasks
from app.queue.submit_queues import SubmitQueue
from bench import fill
from bench.gateway import Stage, stage
from bench.processes import Running, running
from bench.statistics import percentile
from bench.upstream import KEY

SIZES = (1000, 100_000)
REPEATS, WARM_UP, CLAIMS = 30, 6, 40
MOST_CLIENTS = 1000
# From the first revision of each pair to the second, lists get their indexes, and usage is recorded. That can be
# repeated on a database that has it. Revisions between the pairs cannot be repeated: they create tables.
REPEATABLE = (("20261128_2110", "20261128_2130"), ("20261129_0040", "20261129_0320"))
GOAL_MS, MIGRATION_GOAL_MS = 50.0, 200.0
JOB = {"file_urls": ["https://example.com/new.wav"]}


@dataclass(slots=True)
class Column:
    """The measurements at one size by the label of their row.

    Milliseconds; milliseconds of CPU a request, of Python and PostgreSQL together; pages of 8 kB a request; others.
    """

    files: int
    ms: dict[str, Sequence[float]] = field(default_factory=dict)
    cpu_ms: dict[str, float] = field(default_factory=dict)
    pages: dict[str, float] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Read:
    label: str
    path: str
    client: int = fill.LARGE


def main() -> None:
    configure_logging("error")
    parser = argparse.ArgumentParser(description="Measure what requests cost with more and more stored files.")
    parser.add_argument("files", type=int, nargs="?", default=0, help=f"also with so many, above {SIZES[-1]:,}")
    largest = parser.parse_args().files
    sizes = [*SIZES, *([largest] if largest > SIZES[-1] else [])]
    columns = asyncio.run(_bench(sizes))
    print(f"\nload of the machine: {os.getloadavg()[0]:.1f}\n")
    print(_table(columns))
    _judge(columns[-1])


async def _bench(sizes: Sequence[int]) -> list[Column]:
    columns: list[Column] = []
    async with stage() as on:
        url = await on.database()
        engine = create_engine(url)
        sessions = create_sessions(engine)
        await fill.add_clients(sessions, MOST_CLIENTS)
        for files in sizes:
            column = Column(files)
            await _grow(sessions, columns[-1].files if columns else 0, column)
            await _measure_requests(on, url, sessions, column)
            await _measure_claims(on, sessions, column)
            await _measure_held_claims(on, sessions, column)
            await _measure_migration(on, url, sessions, column)
            columns.append(column)
        await engine.dispose()
    return columns


async def _grow(sessions: Sessions, filled: int, column: Column) -> None:
    since = time.monotonic()
    await fill.add_finished(sessions, filled, column.files)
    async with raw_connection(sessions) as connection:
        raw: Any = connection
        await raw.execute("VACUUM ANALYZE", timeout=3600)
        column.numbers["kB of the database a file"] = (
            await raw.fetchval("SELECT pg_database_size(current_database())") / 1024 / column.files
        )
    print(f"{column.files:,} files: filled in {time.monotonic() - since:.0f} s", flush=True)


async def _measure_requests(on: Stage, url: str, sessions: Sessions, column: Column) -> None:
    reads = await _reads(sessions)
    async with _api(on, url) as (api, http):

        def cpu_s() -> float:
            return api.cpu_s() + on.postgres_cpu_s()

        for read in reads:
            before = await _pages(sessions)
            await _measure(column, read.label, cpu_s, partial(_get, http, read))
            # A server process reports what it read with its first transaction a second after the last report.
            await asyncio.sleep(1.1)
            await _get(http, read)
            column.pages[read.label] = (await _pages(sessions) - before) / (WARM_UP + REPEATS + 1)
        await _measure(column, "POST a job", cpu_s, partial(_post, http))


async def _reads(sessions: Sessions) -> list[Read]:
    async with transaction(sessions) as session:
        large = {"client_id": fill.client_id(fill.LARGE)}
        job_id, transcript_id = (await session.execute(_MIDDLE, large)).one()
        oldest, day, day_after, newest = (await session.execute(_TIMES, large)).one()
    between = f"created_after={day}&created_before={day_after}"
    return [
        Read("GET a job", f"/v1/jobs/{job_id}"),
        Read("GET a transcript", f"/v1/transcripts/{transcript_id}"),
        Read("jobs", "/v1/jobs"),
        Read("jobs by metadata that all of its jobs have", "/v1/jobs?metadata.env=test"),
        Read("jobs by metadata that only others have", "/v1/jobs?metadata.env=production"),
        Read("the same for the small client", "/v1/jobs?metadata.env=test", fill.SMALL),
        Read("jobs by a rare model", f"/v1/jobs?model={fill.RARE_MODEL}"),
        Read("jobs by an absent model", "/v1/jobs?model=fun-asr-mtl"),
        Read("jobs by an absent region", "/v1/jobs?region=singapore"),
        Read("jobs with status=running, none", "/v1/jobs?status=running"),
        Read("jobs with status=failed", "/v1/jobs?status=failed"),
        Read("transcripts", "/v1/transcripts"),
        Read("transcripts before all", f"/v1/transcripts?created_before={oldest}"),
        Read("transcripts of a day", f"/v1/transcripts?{between}"),
        Read("transcripts after all", f"/v1/transcripts?created_after={newest}"),
        Read("transcripts by an absent model", "/v1/transcripts?model=fun-asr-mtl"),
        Read("search: in half of the transcripts", f"/v1/search?q={fill.COMMON_PHRASE}"),
        Read("search: in 7 %", f"/v1/search?q={fill.SOME_PHRASE}"),
        Read("search: in 2 %", f"/v1/search?q={fill.FEW_PHRASE}"),
        Read("search: in 0.05 %", f"/v1/search?q={fill.RARE_PHRASE}"),
        Read("search: in none", "/v1/search?q=xylophone"),
        Read("search: in 2 %, of a day", f"/v1/search?q={fill.FEW_PHRASE}&{between}"),
        Read("search: two words that no sentence has both", f"/v1/search?q={fill.SOME_PHRASE}+{fill.FEW_PHRASE}"),
    ]


async def _measure_claims(on: Stage, sessions: Sessions, column: Column) -> None:
    for clients in (20, MOST_CLIENTS):
        await fill.add_waiting(sessions, 5 * MOST_CLIENTS, clients)
        for files in (1, 100):
            label = f"claim of {files} of {clients:,} clients"
            await _measure(column, label, _own_cpu(on), partial(_claim, sessions, files), CLAIMS)
        await fill.delete_waiting(sessions)


async def _measure_held_claims(on: Stage, sessions: Sessions, column: Column) -> None:
    """Claims just after all holds have ended, while no budget has room."""
    await fill.add_waiting(sessions, 5 * MOST_CLIENTS, MOST_CLIENTS)
    await fill.add_full_budgets(sessions, MOST_CLIENTS)
    label = f"claim among {MOST_CLIENTS:,} clients whose budgets have no room"
    taken: list[float] = []
    cpu_s, used_s = _own_cpu(on), 0.0
    for _ in range(WARM_UP + CLAIMS):
        await fill.end_holds(sessions)
        since_s = cpu_s()
        taken += await _timed(partial(_claim, sessions, 1), 1)
        used_s += cpu_s() - since_s
    column.ms[label] = sorted(taken[WARM_UP:])
    column.cpu_ms[label] = used_s * 1000 / len(taken)
    await fill.delete_waiting(sessions)


def _own_cpu(on: Stage) -> Callable[[], float]:
    """A clock of the CPU seconds of this process and PostgreSQL."""
    return lambda: time.process_time() + on.postgres_cpu_s()


async def _claim(sessions: Sessions, max_files: int) -> None:
    submit_queue = SubmitQueue("beijing/bench", "beijing", "fun-asr", max_files=max_files, submits_per_s=10)
    async with transaction(sessions) as session:
        await claim_tasks(session, submit_queue, tokens=[uuid4()])


async def _measure_migration(on: Stage, url: str, sessions: Sessions, column: Column) -> None:
    """Requests one after the other while the REPEATABLE revisions run again.

    No downgrade: the API needs the tables of the newest revision.
    """
    async with raw_connection(sessions) as connection:
        await connection.execute("DROP INDEX ix_jobs_model, ix_transcripts_model")
    async with _api(on, url) as (_, http):
        since = time.monotonic()
        migration = asyncio.create_task(_migrate_again(url, sessions))
        taken: list[float] = []
        while not migration.done():
            taken += await _timed(partial(_post, http), 1)
            taken += await _timed(partial(_get, http, Read("", "/v1/jobs")), 1)
        await migration
        took_s = time.monotonic() - since
    column.ms["requests beside a migration"] = sorted(taken)
    column.numbers["the longest of them, ms"] = max(taken)
    column.numbers["time of the migration, s"] = took_s


async def _migrate_again(url: str, sessions: Sessions) -> None:
    for before, after in REPEATABLE:
        await _set_revision(sessions, before)
        await asyncio.to_thread(migrate.upgrade, url, after)
    await _set_revision(sessions, migrate.head())


async def _set_revision(sessions: Sessions, revision: str | None) -> None:
    async with raw_connection(sessions) as connection:
        await connection.execute(f"UPDATE alembic_version SET version_num = '{revision}'")  # noqa: S608 - our own name


async def _pages(sessions: Sessions) -> int:
    """Pages that all processes have read from the cache or from files, as far as reported."""
    async with transaction(sessions) as session:
        return int(await session.scalar(text(_PAGES)) or 0)


@asynccontextmanager
async def _api(on: Stage, database_url: str) -> AsyncIterator[tuple[Running, aiohttp.ClientSession]]:
    settings = {
        "DATABASE_URL": database_url,
        "PORT": "0",
        "API_TOKEN": "a-token-of-the-benchmark",
        "DASHSCOPE_BEIJING_API_KEY": KEY,
    }
    async with (
        running("api", on.new_folder("api"), "-m", "app", "api", **settings) as api,
        aiohttp.ClientSession(base_url=await api.url()) as http,
    ):
        yield api, http


async def _get(http: aiohttp.ClientSession, read: Read) -> None:
    async with http.get(read.path, headers=_authorization(read.client)) as response:
        await _require(response, 200)


async def _post(http: aiohttp.ClientSession) -> None:
    async with http.post("/v1/jobs", json=JOB, headers=_authorization(fill.LARGE)) as response:
        await _require(response, 202)


def _authorization(client: int) -> dict[str, str]:
    return {"Authorization": f"Bearer {fill.token(client)}"}


async def _require(response: aiohttp.ClientResponse, status: int) -> None:
    body = await response.text()
    if response.status != status:
        raise RuntimeError(f"{response.method} {response.url} failed with HTTP {response.status}: {body}")


async def _measure(
    column: Column,
    label: str,
    cpu_s: Callable[[], float],
    request: Callable[[], Awaitable[None]],
    repeats: int = REPEATS,
) -> None:
    since_s = cpu_s()
    column.ms[label] = await _timed(request, repeats)
    column.cpu_ms[label] = (cpu_s() - since_s) * 1000 / (WARM_UP + repeats)


async def _timed(request: Callable[[], Awaitable[None]], repeats: int = REPEATS) -> list[float]:
    """Milliseconds of each, sorted. Of several, the first are not counted: connecting, and plans."""
    taken = []
    for _ in range(repeats + (WARM_UP if repeats > 1 else 0)):
        since = time.perf_counter()
        await request()
        taken.append((time.perf_counter() - since) * 1e3)
    return sorted(taken[-repeats:])


def _table(columns: Sequence[Column]) -> str:
    """A Markdown table: p50 / p95 / CPU in milliseconds / pages of a request, and the other numbers."""
    lines = ["| | " + " | ".join(f"{column.files:,} files" for column in columns) + " |"]
    lines.append("| --- |" + " ---: |" * len(columns))
    for label in columns[0].ms:
        cells = [_cell(each, label) for each in columns]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    lines += [
        f"| {label} | " + " | ".join(f"{each.numbers[label]:.1f}" for each in columns) + " |"
        for label in columns[0].numbers
    ]
    return "\n".join(lines)


def _cell(column: Column, label: str) -> str:
    ms = column.ms[label]
    cpu = f" / {column.cpu_ms[label]:.1f}" if label in column.cpu_ms else ""
    pages = f" / {column.pages[label]:,.0f}" if label in column.pages else ""
    return f"{percentile(ms, 0.5):.1f} / {percentile(ms, 0.95):.1f}{cpu}{pages}"


def _judge(column: Column) -> None:
    print()
    for label, taken in column.ms.items():
        p95 = percentile(taken, 0.95) or 0
        if p95 > GOAL_MS and "migration" not in label:
            print(f"MISSED  {label}: p95 {p95:.0f} ms with {column.files:,} files (at most {GOAL_MS:.0f})")
    if column.numbers["the longest of them, ms"] > MIGRATION_GOAL_MS:
        print(f"MISSED  a request beside a migration took more than {MIGRATION_GOAL_MS:.0f} ms")


_PAGES = "SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = current_database()"

_MIDDLE = text("""
    SELECT job_id, id FROM transcripts WHERE client_id = :client_id ORDER BY id
    OFFSET (SELECT count(*) / 2 FROM transcripts WHERE client_id = :client_id) LIMIT 1
""")

_TIMES = text("""
    SELECT to_char(oldest, format), to_char(newest - interval '1 day', format), to_char(newest, format),
           to_char(newest + interval '10 day', format)
    FROM (SELECT min(created_at) AT TIME ZONE 'UTC' AS oldest, max(created_at) AT TIME ZONE 'UTC' AS newest
          FROM transcripts WHERE client_id = :client_id) AS times,
         (SELECT 'YYYY-MM-DD"T"HH24:MI:SS"Z"' AS format) AS given
""")


if __name__ == "__main__":
    main()
