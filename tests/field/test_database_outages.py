"""Outages of a real database: callers get a 503, and work continues afterwards.

Each test connects as its own role, because superusers are exempt from the limits of PostgreSQL.
"""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from sqlalchemy import text

from app.db import connections_of, create_engine, create_sessions, transaction
from app.errors import DatabaseUnavailable
from app.readiness import watch_database
from app.settings import Settings
from tests.api_fixtures import application, caller, new_client
from tests.database_proxy import database_proxy
from tests.processes import run, running, running_sandbox
from tests.test_outages import ROLE_PASSWORD, as_user

TOKEN = "a-token-of-the-test"
JOB = {"file_urls": ["https://example.com/a.wav"]}
LOGOUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"
FULL_DISK = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION refuse();
"""
# The statements that begin and end each outage.
OUTAGES = {
    "login_refused": ('ALTER ROLE "{role}" NOLOGIN', 'ALTER ROLE "{role}" LOGIN'),
    "closed": ('ALTER DATABASE "{name}" ALLOW_CONNECTIONS false', 'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'),
    "unknown_database": ('ALTER DATABASE "{name}" RENAME TO "{name}_"', 'ALTER DATABASE "{name}_" RENAME TO "{name}"'),
    "too_many_connections": ('ALTER ROLE "{role}" CONNECTION LIMIT 0', 'ALTER ROLE "{role}" CONNECTION LIMIT -1'),
    "read_only": (
        'ALTER ROLE "{role}" SET default_transaction_read_only = on',
        'ALTER ROLE "{role}" RESET default_transaction_read_only',
    ),
}


@dataclass
class Server:
    """A database on the test server as one role sees it. The owner's own connection is to another database."""

    url: str
    role: str
    name: str
    owner: Any  # asyncpg's Connection, most of which has no types
    owner_url: str

    async def run(self, statement: str) -> None:
        await self.owner.execute(statement.format(role=self.role, name=self.name))

    @asynccontextmanager
    async def outage(self, outage: str) -> AsyncIterator[None]:
        await self.begin(outage)
        try:
            yield
        finally:
            await self.end(outage)

    async def begin(self, outage: str) -> None:
        await self.run(OUTAGES[outage][0] if outage != "unknown_database" else "SELECT 1")
        await self.run(LOGOUT)
        if outage == "unknown_database":
            await self.rename()

    async def rename(self) -> None:
        """Renaming needs a database without connections, and the gateway connects continuously."""
        await self.run('ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        async with asyncio.timeout(10):
            while True:
                await self.run(LOGOUT)
                try:
                    await self.run(OUTAGES["unknown_database"][0])
                except asyncpg.ObjectInUseError:
                    await asyncio.sleep(0.05)
                else:
                    return

    async def end(self, outage: str) -> None:
        await self.run(OUTAGES[outage][1])
        if outage == "unknown_database":
            await self.run('ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')

    async def in_database(self, script: str) -> None:
        connection = await asyncpg.connect(self.owner_url)  # type: ignore[no-untyped-call]
        await connection.execute(script)
        await connection.close()


@pytest.fixture
async def server(database_url: str, server_url: str) -> AsyncIterator[Server]:
    name = urlsplit(database_url).path[1:]
    role = f"role_of_{name}"
    owner = await asyncpg.connect(server_url)  # type: ignore[no-untyped-call]
    state = Server(as_user(database_url, role), role, name, owner, database_url)
    await state.run(f"CREATE ROLE \"{{role}}\" LOGIN PASSWORD '{ROLE_PASSWORD}'")
    await state.in_database(f'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{role}"')
    yield state
    await state.run(LOGOUT)
    await state.in_database(f'DROP OWNED BY "{role}"')
    await state.run('DROP ROLE "{role}"')
    await owner.close()


@asynccontextmanager
async def gateway(server: Server, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """The API with open connections, and the watch of its database."""
    engine = create_engine(server.url)
    sessions = create_sessions(engine)
    stop = asyncio.Event()
    watch = asyncio.create_task(watch_database(sessions, stop))
    _, token = await new_client(sessions, "tester")
    async with caller(application(settings, sessions), token) as api:
        assert (await api.post("/v1/jobs", json=JOB)).status_code == 202
        yield api
    stop.set()
    await watch
    await engine.dispose()


async def until(api: httpx.AsyncClient, path: str, status: int, words: str = "") -> httpx.Response:
    async with asyncio.timeout(15):
        while (response := await api.get(path)).status_code != status or words not in response.text:  # noqa: ASYNC110 - the gateway sends no signal
            await asyncio.sleep(0.05)
    return response


@pytest.mark.parametrize(
    ("outage", "reason", "words"),
    [
        ("login_refused", "login_refused", "is not permitted to log in"),
        ("closed", "login_refused", "is not currently accepting connections"),
        ("unknown_database", "unknown_database", "does not exist"),
        ("too_many_connections", "too_many_connections", "too many connections for role"),
        ("read_only", "read_only", "read-only"),
    ],
)
async def test_an_outage_is_a_503_with_its_reason_until_it_ends(
    server: Server, settings: Settings, outage: str, reason: str, words: str
) -> None:
    async with gateway(server, settings) as api:
        async with server.outage(outage):
            await until(api, "/readyz", 503, reason)
            for _ in range(3):
                response = await api.post("/v1/jobs", json=JOB)
                assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
                assert response.headers["retry-after"]
            assert words in (await run("doctor", DATABASE_URL=server.url))[1]
        await until(api, "/readyz", 200)
        await until(api, "/v1/jobs", 200)
        assert (await api.post("/v1/jobs", json=JOB)).status_code == 202


async def test_connections_that_were_opened_during_an_outage_do_not_outlive_it(server: Server) -> None:
    engine = create_engine(server.url)
    sessions = create_sessions(engine)
    async with server.outage("read_only"):
        for _ in range(2):  # the second failure comes too soon to replace the connections again
            with pytest.raises(DatabaseUnavailable):
                await new_client(sessions, "tester")
        async with transaction(sessions) as session:
            await session.execute(text("SELECT 1"))
    connections_of(sessions).availability.record_recovery()
    await new_client(sessions, "tester")
    await engine.dispose()


async def test_a_full_disk_refuses_jobs_and_readiness_but_not_reads(server: Server, settings: Settings) -> None:
    async with gateway(server, settings) as api:
        await server.in_database(FULL_DISK)
        response = await api.post("/v1/jobs", json=JOB)
        assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
        await until(api, "/readyz", 503, "disk_full")
        assert (await api.get("/v1/jobs")).status_code == 200
        await server.in_database("DROP TRIGGER refuse ON jobs")
        assert (await api.post("/v1/jobs", json=JOB)).status_code == 202
        await until(api, "/readyz", 200)


async def test_readiness_is_a_503_without_permission_to_read_the_revision(server: Server, settings: Settings) -> None:
    async with gateway(server, settings) as api:
        await server.in_database(f'REVOKE ALL ON alembic_version FROM "{server.role}"')
        assert (await api.get("/readyz")).status_code == 503


@pytest.mark.parametrize("outage", ["login_refused", "too_many_connections", "read_only"])
async def test_serve_survives_an_outage_and_finishes_its_jobs(server: Server, outage: str) -> None:
    async with (
        running_sandbox() as upstream,
        running("serve", PORT="0", DATABASE_URL=server.url, API_TOKEN=TOKEN, **upstream) as process,
    ):
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(base_url=await process.url(), headers=headers, timeout=30) as api:
            jobs = [(await api.post("/v1/jobs", json=JOB)).json()["id"]]
            async with server.outage(outage):
                await process.line_with(f'"reason":"{outage}"')
                await until(api, "/readyz", 503, outage)
            await process.line_with("database available again")
            await until(api, "/readyz", 200)
            response = await api.post("/v1/jobs", json=JOB)
            assert response.status_code == 202
            for job in [*jobs, response.json()["id"]]:
                assert (await api.get(f"/v1/jobs/{job}?wait=20")).json()["status"] in {"succeeded", "failed"}
        assert await process.stop() == 0
    lines = [json.loads(line) for line in process.err if line.startswith("{")]
    events = [line for line in lines if line["event"] in {"database unavailable", "database available again"}]
    assert [line["event"] for line in events] == ["database unavailable", "database available again"]
    assert events[0]["reason"]
    assert events[0]["error"]
    assert "Traceback" not in process.stderr


async def test_a_process_has_at_most_database_pool_size_connections(server: Server) -> None:
    async with (
        running_sandbox() as upstream,
        running(
            "serve", PORT="0", DATABASE_URL=server.url, DATABASE_POOL_SIZE="3", API_TOKEN=TOKEN, **upstream
        ) as process,
    ):
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(base_url=await process.url(), headers=headers, timeout=30) as api:
            posts = [asyncio.create_task(api.post("/v1/jobs", json=JOB)) for _ in range(60)]
            counts = []
            while not all(post.done() for post in posts):
                row = await server.owner.fetchrow(
                    "SELECT count(*) FROM pg_stat_activity WHERE usename = $1", server.role
                )
                counts.append(row[0])
            assert {(await post).status_code for post in posts} == {202}
        assert max(counts) <= 3


async def test_sigterm_stops_a_gateway_while_its_database_hangs(server: Server) -> None:
    async with (
        database_proxy(server.url) as proxy,
        running_sandbox() as upstream,
        running("serve", PORT="0", DATABASE_URL=proxy.url, API_TOKEN=TOKEN, **upstream) as process,
    ):
        async with httpx.AsyncClient(base_url=await process.url()) as stranger:
            await until(stranger, "/readyz", 200)
            proxy.silent = True
            await until(stranger, "/readyz", 503, "timeout")
        assert await process.stop(signal.SIGTERM) == 0
