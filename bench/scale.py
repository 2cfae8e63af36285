"""`make bench-scale`: the cost of a file in the poller and in the database, and that of an idle poller.

The poller, the sandbox and the API are real processes. The jobs wait before the poller starts. A proxy counts the
statements; rows and bytes are counted by PostgreSQL.

`python -m bench.scale --beside COMMIT` repeats each run with the gateway of another commit. `--statements` prints each
statement with its number for a file.
"""

import argparse
import asyncio
import math
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from app.logs import configure_logging
from bench.gateway import TOKEN, Gateway, Stage, http_session, stage
from bench.processes import Running, running
from bench.statement_counter import StatementCounter, statement_counter
from bench.upstream import Upstream, account_keys, file_url, upstream

RUN_S = 4.0
IDLE_S = 10
SETTLE_S = 3.0
CAP_S = 300.0
TABLES = ("files", "jobs", "tasks", "budgets", "turns")


@dataclass(frozen=True, slots=True)
class Goal:
    statements: float
    poller_ms: float = math.inf

    def __str__(self) -> str:
        cpu = f", {self.poller_ms:g} ms of Python" if self.poller_ms < math.inf else ""
        return f"at most {self.statements:g} statements{cpu}"


IDLE_GOAL, FILE_GOAL = Goal(8), Goal(15, 12)


@dataclass(frozen=True, slots=True)
class Load:
    """Files of RUN_S, one in each job, which all wait at the start."""

    accounts: int
    files: int
    files_per_task: int

    @property
    def label(self) -> str:
        return f"{self.accounts} accounts, up to {self.files_per_task} files in a task"


LOADS = (Load(10, 1000, 1), Load(1, 200, 1), Load(10, 1000, 100))


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one file, or of one second of an idle poller."""

    statements: float
    transaction_ends: float
    poller_ms: float
    postgres_ms: float
    wal_kb: float
    sent: Sequence[tuple[str, float]]  # each statement with its number
    dead: dict[str, float]

    def meets(self, goal: Goal) -> bool:
        return self.statements <= goal.statements and self.poller_ms <= goal.poller_ms


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a file costs.")
    parser.add_argument("--beside", metavar="COMMIT", help="run the gateway of this commit too")
    parser.add_argument("--statements", action="store_true", help="print each statement")
    arguments = parser.parse_args()
    configure_logging("error")
    asyncio.run(_bench(arguments.beside, texts=arguments.statements))


async def _bench(commit: str | None, *, texts: bool) -> None:
    async with stage() as on:
        beside: AbstractContextManager[Stage | None] = on.at_commit(commit) if commit else nullcontext()
        with beside as other:
            stages = [each for each in (on, other) if each]
            for each in stages:
                goal = IDLE_GOAL if each is on else None
                _show(f"idle, 10 accounts, a second{each.suffix}", await _idle(each), goal, show_statements=texts)
            for load in LOADS:
                for each in stages:
                    goal = FILE_GOAL if each is on else None
                    _show(f"{load.label}, a file{each.suffix}", await _run(each, load), goal, show_statements=texts)


async def _idle(on: Stage) -> Cost:
    folder, database_url = on.new_folder("idle"), await on.database()
    async with (
        upstream(folder, "--accounts", "10") as served,
        statement_counter(database_url) as counter,
        _poller(on, folder, counter.url, served, Load(10, 0, 1)) as poller,
        _connection(database_url) as database,
    ):
        await poller.line_with('"listening"')
        await asyncio.sleep(SETTLE_S)
        meter = await Meter.start(on, poller, counter, database)
        await asyncio.sleep(IDLE_S)
        return await meter.cost(IDLE_S)


async def _run(on: Stage, load: Load) -> Cost:
    folder, database_url = on.new_folder("scale"), await on.database()
    async with upstream(folder, "--accounts", str(load.accounts)) as served, _connection(database_url) as database:
        options = _settings(on, database_url, served, load)
        async with running("api", folder, "-m", "app", "api", **options, PORT="0", API_TOKEN=TOKEN) as api:
            url = await api.url()
            async with http_session(url) as http:
                await Gateway(url, api, database, http).post(file_url(each, RUN_S) for each in range(load.files))
        async with (
            statement_counter(database_url) as counter,
            _poller(on, folder, counter.url, served, load) as poller,
        ):
            await poller.line_with('"listening"')
            meter = await Meter.start(on, poller, counter, database)
            async with asyncio.timeout(CAP_S):
                while await database.fetchval("SELECT count(*) FROM jobs WHERE finished_at IS NULL"):  # noqa: ASYNC110
                    await asyncio.sleep(0.5)
            return await meter.cost(load.files)


def _poller(
    on: Stage, folder: Path, database_url: str, served: Upstream, load: Load
) -> AbstractAsyncContextManager[Running]:
    settings = _settings(on, database_url, served, load)
    return running("poller", folder, "-m", "app", "poller", "--port", "0", **settings)


def _settings(on: Stage, database_url: str, served: Upstream, load: Load) -> dict[str, str]:
    return {
        "DATABASE_URL": database_url,
        "DASHSCOPE_BEIJING_API_KEY": account_keys(load.accounts),
        "DASHSCOPE_BEIJING_BASE_URL": served.base_url,
        "DASHSCOPE_BEIJING_MAX_FILES_PER_TASK": str(load.files_per_task),
        **on.environment,
    }


@dataclass(frozen=True, slots=True)
class Meter:
    """Measures what a poller and its database have done since `start`."""

    on: Stage
    poller: Running
    counter: StatementCounter
    database: Any
    poller_s: float
    postgres_s: float
    wal: int

    @classmethod
    async def start(cls, on: Stage, poller: Running, counter: StatementCounter, database: Any) -> "Meter":
        counter.sent.clear()
        return cls(on, poller, counter, database, poller.cpu_s(), on.postgres_cpu_s(), await _wal(database))

    async def cost(self, units: int) -> Cost:
        """The cost of each unit."""
        sent = self.counter.sent.most_common()
        return Cost(
            statements=self.counter.statements / units,
            transaction_ends=self.counter.transaction_ends / units,
            poller_ms=(self.poller.cpu_s() - self.poller_s) * 1000 / units,
            postgres_ms=(self.on.postgres_cpu_s() - self.postgres_s) * 1000 / units,
            wal_kb=(await _wal(self.database) - self.wal) / 1024 / units,
            sent=[(text, count / units) for text, count in sent],
            dead={table: await _dead(self.database, table) / units for table in TABLES},
        )


def _show(label: str, cost: Cost, goal: Goal | None, *, show_statements: bool) -> None:
    print(
        f"{label}: {cost.statements:.1f} statements, {cost.transaction_ends:.1f} BEGIN and COMMIT,"
        f" {cost.poller_ms:.1f} ms of Python, {cost.postgres_ms:.1f} ms of PostgreSQL,"
        f" {cost.wal_kb:.1f} kB of write-ahead log; row versions for vacuum: "
        + ", ".join(f"{table} {dead:.1f}" for table, dead in cost.dead.items()),
        flush=True,
    )
    if goal:
        print(f"  {'met   ' if cost.meets(goal) else 'MISSED'}  {goal}")
    if show_statements:
        for text, number in cost.sent:
            print(f"  {number:7.2f}  {text[:130]}", flush=True)


def _connection(url: str) -> Any:
    return asyncpg.create_pool(url, min_size=1, max_size=1)  # type: ignore[no-untyped-call]


async def _wal(database: Any) -> int:
    return int(await database.fetchval("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"))


async def _dead(database: Any, table: str) -> int:
    """Dead row versions of updates and deletes, including those that vacuum has removed."""
    await database.execute("SELECT pg_stat_force_next_flush()")
    return int(
        await database.fetchval("SELECT n_tup_upd + n_tup_del FROM pg_stat_user_tables WHERE relname = $1", table)
    )


if __name__ == "__main__":
    main()
