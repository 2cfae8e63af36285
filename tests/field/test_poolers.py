"""Real processes whose DATABASE_URL leads to PgBouncer in transaction mode, without support for prepared statements."""

import asyncio
import getpass
import os
import shutil
import socket
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx
import pytest
from sqlalchemy import text

from app import migrate
from app.db import Sessions, create_engine, create_sessions, raw_connection, transaction
from tests.database_proxy import database_proxy
from tests.processes import run, running, running_sandbox

PGBOUNCER = shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
pytestmark = pytest.mark.skipif(
    PGBOUNCER is None and not os.environ.get("CHECK_SKIPS_NOTHING"), reason="PgBouncer is not installed"
)

TOKEN = "a-token-of-the-test"
JOB = {"file_urls": ["https://example.com/a.wav"]}
# Fewer connections to the server than one gateway has to the pooler, so that transactions of all clients mix.
CONFIG = """
[databases]
* = host=127.0.0.1 port={server_port} user={user} password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = transaction
default_pool_size = 3
"""


@asynccontextmanager
async def pgbouncer(database_url: str) -> AsyncIterator[str]:
    """The URL of the database through PgBouncer."""
    async with database_proxy(database_url) as proxy:
        parts = urlsplit(proxy.url)
        with tempfile.TemporaryDirectory() as folder:
            config, port = write_config(Path(folder), proxy.url)
            # PgBouncer does not run as root.
            as_nobody = ("-u", "nobody") if getpass.getuser() == "root" else ()
            process = await asyncio.create_subprocess_exec(
                PGBOUNCER or "pgbouncer", *as_nobody, str(config), stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE
            )
            assert process.stderr
            await process.stderr.readuntil(b"process up")
            drain = asyncio.create_task(process.stderr.read())
            try:
                yield f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}"
            finally:
                process.terminate()
                await process.wait()
                await drain


def write_config(folder: Path, server_url: str) -> tuple[Path, int]:
    """The file, and the port of PgBouncer."""
    folder.chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    parts = urlsplit(server_url)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    users, config = folder / "users", folder / "pgbouncer.ini"
    users.write_text(f'"{user}" "{password}"\n')
    config.write_text(CONFIG.format(server_port=parts.port, user=user, password=password, port=port, users=users))
    return config, port


@pytest.fixture
async def pooler(database_url: str) -> AsyncIterator[str]:
    async with pgbouncer(database_url) as url:
        yield url


async def count(sessions: Sessions, number: int, *, autocommit: bool) -> int:
    async with transaction(sessions, autocommit=autocommit) as session:
        first = await session.scalar(text("SELECT CAST(:number AS int)"), {"number": number})
        return int(await session.scalar(text("SELECT CAST(:number AS int) + 1"), {"number": first}))


async def count_raw(sessions: Sessions, number: int) -> int:
    async with raw_connection(sessions) as connection:
        first = await connection.fetchval("SELECT $1::int", number)
        rows = await connection.fetch("SELECT $1::int + 1 AS next, $2::jsonb", first, "{}")
        return int(rows[0]["next"])


async def test_statements_of_many_connections_do_not_meet_each_other(pooler: str) -> None:
    engines = [create_engine(pooler, pool_size=6) for _ in range(2)]
    all_sessions = [create_sessions(engine) for engine in engines]
    for _ in range(3):
        asked = [
            ask
            for number in range(10)
            for sessions in all_sessions
            for ask in (
                count(sessions, number, autocommit=True),
                count(sessions, number, autocommit=False),
                count_raw(sessions, number),
            )
        ]
        answers = await asyncio.gather(*asked)
        assert answers == [number + 1 for number in range(10) for _ in range(6)]
    for engine in engines:
        await engine.dispose()


async def test_nothing_is_set_for_the_connections_of_others(pooler: str) -> None:
    engine = create_engine(pooler)
    async with transaction(create_sessions(engine)) as session:
        assert await session.scalar(text("SELECT current_setting('random_page_cost')")) == "4"
    await engine.dispose()


async def test_a_gateway_works_through_a_pooler(pooler: str) -> None:
    async with running_sandbox() as upstream:
        assert (await run("migrate", "--check", DATABASE_URL=pooler))[0] == 0
        settings = {"PORT": "0", "DATABASE_URL": pooler, "API_TOKEN": TOKEN, **upstream}
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with (
            running("serve", **settings) as process,
            httpx.AsyncClient(base_url=await process.url(), headers=headers, timeout=30) as api,
        ):
            posts = [api.post("/v1/jobs", json=JOB) for _ in range(12)]
            jobs = [response.json()["id"] for response in await asyncio.gather(*posts)]
            reads = await asyncio.gather(*(api.get(f"/v1/jobs/{job}?wait=20") for job in jobs))
            assert {response.json()["status"] for response in reads} == {"succeeded"}
            assert len((await api.get("/v1/jobs?limit=100")).json()["items"]) == 12
            assert (await api.get("/readyz")).status_code == 200
            assert (await run("doctor", **settings))[0] == 0
            assert await process.stop() == 0
    assert "Traceback" not in process.stderr
    assert "database unavailable" not in process.stderr


async def test_migrations_run_through_a_pooler(pooler: str, database_url: str) -> None:
    """Each holds two connections of the pooler's three: they take turns."""
    await asyncio.to_thread(migrate.downgrade, database_url, "base")
    results = await asyncio.gather(*(run("migrate", DATABASE_URL=pooler) for _ in range(2)))
    assert [code for code, _, _ in results] == [0, 0], results
    await asyncio.to_thread(migrate.check, database_url)


async def test_a_refused_parameter_is_reported_with_the_remedy(pooler: str) -> None:
    code, _, error = await run("migrate", DATABASE_URL=f"{pooler}?jit=off")
    assert code == 2
    assert error.count("\n") == 1
    assert "DATABASE_URL" in error
    assert "unsupported startup parameter: jit" in error
    assert "ignore_startup_parameters" in error
