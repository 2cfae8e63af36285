"""Fixtures of all tests: a clean environment, cheap log lines, and an empty PostgreSQL database for each test."""

import asyncio
import atexit
import gc
import inspect
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
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

from app.db import Sessions, create_sessions
from app.settings import Settings
from tests.databases import Databases
from tests.processes import copy_data_folder, data_folder, folder_for_databases
from tests.shared_server import SharedServer

SLOW_FOLDERS = {"certify", "chaos", "field", "generated", "linear_time"}
SLOW_FILES = {
    "test_api_page_runs",
    "test_backup",
    "test_caption_properties",
    "test_cli",
    "test_client_network",
    "test_command",
    "test_connections",
    "test_delivering",
    "test_doctor",
    "test_embedded",
    "test_event_stream",
    "test_house",
    "test_large",
    "test_lists",
    "test_migrations",
    "test_no_trace",
    "test_operations_page",
    "test_outages",
    "test_protocol",
    "test_retention",
    "test_schema_changes",
    "test_seekable_gzip",
    "test_sender",
    "test_server",
    "test_shutdown",
    "test_transitions",
}
# They start a server: the sandbox, and a poller beside it.
SLOW_FIXTURES = {"sandbox", "start_poller"}

# No example fails because the machine is busy. `make test-fast` tries 15 examples instead of 100.
PROFILE = hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.register_profile("asr-gateway", PROFILE)
hypothesis_settings.register_profile("fast", PROFILE, max_examples=15)
hypothesis_settings.load_profile("asr-gateway")


RUN_FOLDER = pytest.StashKey[Path]()
# No test reads the developer's settings.
for name in Settings.model_fields:
    os.environ.pop(name.upper(), None)


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder of the run's PostgreSQL. A worker of pytest-xdist uses that of the process that started it."""
    if path := getattr(config, "workerinput", {}).get("run_folder"):
        config.stash[RUN_FOLDER] = Path(path)
        return
    folder = Path(tempfile.mkdtemp(prefix="asr-gateway-tests-", dir=folder_for_databases()))
    config.stash[RUN_FOLDER] = folder
    folder.chmod(0o711)  # root runs PostgreSQL as another user, who must enter the folder
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # runs after the server's own stop


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist the folder of the run."""
    node.workerinput["run_folder"] = str(node.config.stash[RUN_FOLDER])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Drop the template after the last test of all workers."""
    if not hasattr(config, "workerinput"):
        SharedServer(config.stash[RUN_FOLDER]).drop_template()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is imported and collected stays until the end of the run: the garbage collector need not look at it."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Set the markers that follow from the file or the fixtures of a test."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        in_slow_file = item.path.parent.name in SLOW_FOLDERS or item.path.stem in SLOW_FILES
        if in_slow_file or not SLOW_FIXTURES.isdisjoint(fixtures):
            item.add_marker(pytest.mark.slow)
        if "statements" in fixtures:
            item.add_marker(pytest.mark.query_budget)


@pytest.fixture(scope="session")
def _empty_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("working-folder-of-all-tests")


@pytest.fixture(autouse=True)
def _surroundings(request: pytest.FixtureRequest, _empty_folder: Path) -> Iterator[None]:
    """No test reads the developer's `.env`, and no test leaves a task.

    A slow test, or one with `tmp_path`, works in a folder of its own. Making a folder takes as long as many tests take,
    so the others share one, in which they may not write. Each fixture that all tests have takes 0.7 s of CPU in a run.
    """
    if inspect.iscoroutinefunction(request.function):
        request.getfixturevalue("_at_end")
    is_own = "tmp_path" in request.fixturenames or request.node.get_closest_marker("slow")
    os.chdir(request.getfixturevalue("tmp_path") if is_own else _empty_folder)
    yield
    written = [] if is_own else os.listdir(_empty_folder)  # noqa: PTH208 - takes half of the time of iterdir
    if written:
        shutil.rmtree(_empty_folder)
        _empty_folder.mkdir()
    assert not written, "a test that writes to the working folder needs `tmp_path`"


# One list for all tests: an application outlives a test, and its logger keeps the list that `capture_logs` changes.
LOG_PROCESSORS: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.format_exc_info,
    structlog.processors.KeyValueRenderer(key_order=["event"]),
]


def pytest_runtest_setup() -> None:
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


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A DATA_DIR that does not exist yet."""
    with data_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def _used_data_folder(_server: SharedServer) -> Path:
    return _server.used_data_folder()


@pytest.fixture
def used_data_dir(data_dir: Path, _used_data_folder: Path) -> Path:
    """A DATA_DIR with the embedded database of an earlier start, which saves initdb and the migrations: 2 s of CPU."""
    copy_data_folder(_used_data_folder, data_dir)
    return data_dir


@pytest.fixture(scope="session")
async def _databases(server_url: str, template: str) -> AsyncIterator[Databases]:
    databases = Databases(server_url, template)
    yield databases
    await databases.drop_all()


@pytest.fixture(scope="session")
async def _event_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


AtEnd = list[Callable[[], Awaitable[None]]]


@pytest.fixture
def _at_end(_event_loop: asyncio.AbstractEventLoop) -> Iterator[AtEnd]:
    """Calls for the end of the test, after its other fixtures. Before them, tasks that the test left are canceled.

    All tests of a process share an event loop, so that connections to the database can stay open.
    """
    before = asyncio.all_tasks(_event_loop)
    calls: AtEnd = []
    yield calls

    async def end(left: set[asyncio.Task[Any]]) -> None:
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for call in calls:
            await call()

    left = asyncio.all_tasks(_event_loop) - before
    if left or calls:
        _event_loop.run_until_complete(end(left))


@pytest.fixture
async def database_url(_databases: Databases, _at_end: AtEnd) -> str:
    """An empty database of this test's own: several connections and processes may use it at once."""
    url = await _databases.take()
    _at_end.append(partial(_databases.give_back, url))
    return url


@pytest.fixture
async def engine(_databases: Databases, database_url: str, request: pytest.FixtureRequest) -> AsyncEngine:
    """May have open connections of earlier tests, unless the test is marked `new_connections`."""
    engine = _databases.engine(database_url)
    if request.node.get_closest_marker("new_connections"):
        await engine.dispose()
    return engine


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
    for connection in listening:
        connection.remove_query_logger(note_driver)
