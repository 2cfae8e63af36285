"""Fixtures of all tests: a clean environment, cheap log lines, and an empty PostgreSQL database for each test."""

import asyncio
import atexit
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from sqlalchemy.ext.asyncio import AsyncEngine

from app import migrate
from app.db import Sessions, create_engine, create_sessions
from app.embedded.server import start_embedded
from app.settings import Settings
from tests.databases import Databases, on_server, with_database

SLOW_FOLDERS = {"chaos", "field", "linear_time"}
SLOW_FILES = {
    "test_api_page_runs",
    "test_cli",
    "test_doctor",
    "test_embedded",
    "test_migrations",
    "test_no_trace",
    "test_transitions",
}

# No example fails because the machine is busy. `make test-fast` tries a quarter of the examples.
PROFILE = hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.register_profile("asr-gateway", PROFILE)
hypothesis_settings.register_profile("fast", PROFILE, max_examples=25)
hypothesis_settings.load_profile("asr-gateway")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Set the markers that follow from the file or the fixtures of a test."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if item.path.parent.name in SLOW_FOLDERS or item.path.stem in SLOW_FILES or "start_poller" in fixtures:
            item.add_marker(pytest.mark.slow)
        if "statements" in fixtures:
            item.add_marker(pytest.mark.query_budget)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads the developer's settings: not their variables, not their `.env`."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _plain_log_lines() -> None:
    """One line for each event. structlog's default prints tracebacks with all variables: 4 s of CPU for one of ASGI."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ]
    )


@pytest.fixture(scope="session")
def server_url() -> str:
    """The PostgreSQL server: TEST_DATABASE_URL (any version), or an embedded one that lives as long as the tests."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        return url
    folder = tempfile.mkdtemp(prefix="asr-gateway-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # runs after the server's own stop
    return start_embedded(Path(folder))


@pytest.fixture(scope="session")
def template(server_url: str) -> Iterator[str]:
    """The name of a database that has the newest schema and is never connected to again."""
    name = f"asr_template_{os.getpid()}"
    if "TEST_DATABASE_URL" not in os.environ:
        # Tests do not survive a power failure, and need not.
        settings = [
            f"ALTER SYSTEM SET {setting} = off" for setting in ("fsync", "synchronous_commit", "full_page_writes")
        ]
        asyncio.run(on_server(server_url, *settings, "SELECT pg_reload_conf()"))
    asyncio.run(on_server(server_url, f'CREATE DATABASE "{name}"'))
    migrate.upgrade(with_database(server_url, name))
    yield name
    asyncio.run(on_server(server_url, f'DROP DATABASE "{name}"'))


@pytest.fixture(scope="session")
def _databases(server_url: str, template: str) -> Iterator[Databases]:
    databases = Databases(server_url, template)
    yield databases
    asyncio.run(databases.drop_all())


@pytest.fixture
async def database_url(_databases: Databases) -> AsyncIterator[str]:
    """An empty database of this test's own: several connections and processes may use it at once."""
    url = await _databases.take()
    yield url
    await _databases.give_back(url)


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database_url)
    yield engine
    await engine.dispose()


@pytest.fixture
def sessions(engine: AsyncEngine) -> Sessions:
    return create_sessions(engine)
