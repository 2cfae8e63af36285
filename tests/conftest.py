"""Real PostgreSQL for every test that wants one: a database of its own, cloned from a migrated template."""

import asyncio
import atexit
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from sqlalchemy.ext.asyncio import AsyncEngine

from app import migrate
from app.db import Sessions, create_engine, create_sessions
from app.embedded.server import start_embedded
from app.settings import Settings

_numbers = itertools.count(1)

# No example fails because the machine is busy.
hypothesis_settings.register_profile("asr-gateway", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("asr-gateway")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads the developer's settings: not their variables, not their `.env`."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def server_url() -> str:
    """The PostgreSQL server: TEST_DATABASE_URL (any version), or an embedded one that lives as long as the tests."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        return url
    folder = tempfile.mkdtemp(prefix="asr-gateway-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # runs after the server's own stop
    return start_embedded(Path(folder))


@pytest.fixture(scope="session")
def template(server_url: str) -> str:
    """The name of a database that has the newest schema and is never connected to again."""
    name = f"asr_template_{os.getpid()}"
    asyncio.run(_on_server(server_url, f'CREATE DATABASE "{name}"'))
    migrate.upgrade(with_database(server_url, name))
    if "TEST_DATABASE_URL" not in os.environ:
        # Tests do not survive a power failure, and need not.
        asyncio.run(_on_server(server_url, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"))
    return name


@pytest.fixture
async def database_url(server_url: str, template: str) -> AsyncIterator[str]:
    """An empty database of this test's own: several connections and processes may use it at once."""
    name = f"asr_test_{os.getpid()}_{next(_numbers)}"
    await _on_server(server_url, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    yield with_database(server_url, name)
    await _on_server(server_url, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database_url)
    yield engine
    await engine.dispose()


@pytest.fixture
def sessions(engine: AsyncEngine) -> Sessions:
    return create_sessions(engine)


def with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def _on_server(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)  # type: ignore[no-untyped-call]
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
