"""Fixtures of all tests: a clean environment, cheap log lines, and an empty PostgreSQL database for each test."""

import asyncio
import atexit
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest
import structlog
from asyncpg.connection import LoggedQuery
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db import Sessions, create_engine, create_sessions
from app.settings import Settings
from tests.databases import Databases
from tests.shared_server import SharedServer

SLOW_FOLDERS = {"chaos", "field", "linear_time"}
SLOW_FILES = {
    "test_api_page_runs",
    "test_cli",
    "test_command",
    "test_doctor",
    "test_embedded",
    "test_large",
    "test_migrations",
    "test_no_trace",
    "test_schema_changes",
    "test_transitions",
}

# No example fails because the machine is busy. `make test-fast` tries 15 examples instead of 100.
PROFILE = hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.register_profile("asr-gateway", PROFILE)
hypothesis_settings.register_profile("fast", PROFILE, max_examples=15)
hypothesis_settings.load_profile("asr-gateway")


RUN_FOLDER = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder of the run's PostgreSQL. A worker of pytest-xdist uses that of the process that started it."""
    if path := getattr(config, "workerinput", {}).get("run_folder"):
        config.stash[RUN_FOLDER] = Path(path)
        return
    config.stash[RUN_FOLDER] = folder = Path(tempfile.mkdtemp(prefix="asr-gateway-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # runs after the server's own stop


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist the folder of the run."""
    node.workerinput["run_folder"] = str(node.config.stash[RUN_FOLDER])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Drop the template after the last test of all workers."""
    if not hasattr(config, "workerinput"):
        SharedServer(config.stash[RUN_FOLDER]).drop_template()


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


# One list for all tests: an application outlives a test, and its logger keeps the list that `capture_logs` changes.
LOG_PROCESSORS: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.format_exc_info,
    structlog.processors.KeyValueRenderer(key_order=["event"]),
]


@pytest.fixture(autouse=True)
def _plain_log_lines() -> None:
    """One line for each event. structlog's default prints tracebacks with all variables: 4 s of CPU for one of ASGI."""
    structlog.configure(processors=LOG_PROCESSORS)


@pytest.fixture(scope="session")
def _server(pytestconfig: pytest.Config) -> SharedServer:
    return SharedServer(pytestconfig.stash[RUN_FOLDER])


@pytest.fixture(scope="session")
def server_url(_server: SharedServer) -> str:
    """The PostgreSQL server: TEST_DATABASE_URL (any version), or an embedded one that the workers of a run share."""
    return _server.url()


@pytest.fixture(scope="session")
def template(_server: SharedServer) -> str:
    """The name of a database that has the newest schema and is never connected to again."""
    return _server.template()


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


@pytest.fixture
def statements(engine: AsyncEngine) -> Iterator[list[str]]:
    """All statements that the test and the application send, without BEGIN and the like.

    Statements on raw connections appear one iteration of the event loop later.
    """
    sent: list[str] = []
    listening: WeakSet[Any] = WeakSet()

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    # asyncpg does not log statements that SQLAlchemy prepared, and SQLAlchemy does not see those on raw connections.
    def note_driver(logged: LoggedQuery) -> None:
        if not logged.query.startswith(("BEGIN", "COMMIT", "ROLLBACK")):
            sent.append(logged.query)

    def listen(adapted: Any, *_: Any) -> None:
        if adapted.driver_connection not in listening:
            listening.add(adapted.driver_connection)
            adapted.driver_connection.add_query_logger(note_driver)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    event.listen(engine.sync_engine, "checkout", listen)
    yield sent
    event.remove(engine.sync_engine, "before_cursor_execute", note)
    event.remove(engine.sync_engine, "checkout", listen)
