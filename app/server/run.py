"""Runs the API, the poller, or both in one event loop, until a signal or until one of them fails.

A service that ends by itself ends the process, so that the process is restarted and does not run on without it.
"""

import asyncio
import codecs
import contextlib
import gc
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path

import anyio
import anyio.lowlevel
import structlog
import uvicorn
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import ASGIApp
from uvicorn.loops.auto import auto_loop_factory

from app.api.health import create_health_app
from app.clients.service import ensure_default_client
from app.connections import DatabaseAvailability
from app.dashscope.transport import http_client
from app.db import Sessions, connections_of, create_engine, create_sessions, transaction
from app.embedded import server
from app.errors import DatabaseUnavailable
from app.jobs.long_poll import JobWaiters
from app.main import create_app
from app.outages import explain
from app.poller.poller import run_poller
from app.queue.wakeup import WakeUp
from app.readiness import missing_migration, watch_database
from app.server.http_protocol import HttpProtocol
from app.server.open_files import connection_limit, raise_file_limit
from app.settings import Settings

# Drain time after SIGTERM: a load balancer needs some seconds to see the 503 of `/readyz`.
DRAIN_S = 3.0
# For requests in progress after the drain. Both together stay below the 10 s that container runtimes allow.
GRACE_S = 6
# Longer than the idle timeout of load balancers, so that they never write to a connection that is being closed.
KEEP_ALIVE_S = 75
CLOSE_TIMEOUT_S = 1
RETRY_INTERVAL_S = 1
# The poller's share of the connections of `serve`. Its transactions are short; an API call may read for seconds.
POLLER_SHARE_PERCENT = 40
EMBEDDED_INTERVAL_S = 2
# Threshold of the young generation. At Python's default of 700 each request triggers two collections.
GC_THRESHOLD = 10_000
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

log = structlog.get_logger()


class Stop(asyncio.Event):
    """Set when the process has to end."""

    # How long the API still serves new requests: DRAIN_S after SIGTERM, which is how orchestrators stop a replica.
    drain_s = 0.0


Service = Callable[[Stop], Coroutine[None, None, None]]
Main = Callable[[], Coroutine[None, None, None]]


def run(main: Coroutine[None, None, None]) -> None:
    """Run the event loop, uvloop where it is installed, with a raised limit of open files."""
    raise_file_limit()
    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        runner.run(main)


async def run_gateway(
    settings: Settings, database_url: str, listener: socket.socket, token: str, *, main: Main | None = None
) -> None:
    """API and poller, each with its share of the database connections, until a signal or until `main` returns.

    The database must be reachable and migrated.
    """
    wakeup, stored = WakeUp(), WakeUp()
    availability = DatabaseAvailability()
    poller_pool_size = max(1, settings.database_pool_size * POLLER_SHARE_PERCENT // 100)
    api_pool_size = settings.database_pool_size - poller_pool_size
    async with (
        _engine(database_url, "api", api_pool_size, availability) as api_engine,
        _engine(database_url, "poller", poller_pool_size, availability) as poller_engine,
    ):
        sessions = create_sessions(api_engine)
        await _create_default_client(sessions, token)
        await _run_until_first_exit(
            _api(settings, sessions, listener, wakeup=wakeup, stored=stored),
            lambda stop: run_poller(settings, poller_engine, stop=stop, wakeup=wakeup, stored=stored),
            lambda stop: watch_database(sessions, stop),
            lambda stop: _ensure_default_client(sessions, token, stop),
            *_embedded(settings),
            main=main,
        )


async def run_api(settings: Settings, database_url: str, listener: socket.socket) -> None:
    """The API alone. It starts without a database: `/readyz` is 503 until there is one."""
    async with _engine(database_url, "api", settings.database_pool_size, DatabaseAvailability()) as engine:
        sessions = create_sessions(engine)
        services = [_api(settings, sessions, listener), *_embedded(settings)]
        services.append(lambda stop: watch_database(sessions, stop))
        if settings.api_token is not None:
            token = settings.api_token.get_secret_value()
            services.append(lambda stop: _ensure_default_client(sessions, token, stop))
        await _run_until_first_exit(*services)


async def run_poller_alone(settings: Settings, database_url: str, listener: socket.socket | None) -> None:
    """The poller. On the listener, if given, it serves `/livez`, `/readyz` and `/metrics`."""
    async with _engine(database_url, "poller", settings.database_pool_size, DatabaseAvailability()) as engine:
        sessions = create_sessions(engine)
        services: list[Service] = [lambda stop: run_poller(settings, engine, stop=stop), *_embedded(settings)]
        services.append(lambda stop: watch_database(sessions, stop))
        if listener is not None:
            services.append(lambda stop: serve_http(create_health_app(sessions, settings.account_ids), listener, stop))
        await _run_until_first_exit(*services)


def _api(
    settings: Settings,
    sessions: Sessions,
    listener: socket.socket,
    *,
    wakeup: WakeUp | None = None,
    stored: WakeUp | None = None,
) -> Service:
    waiters = JobWaiters(sessions, stored=stored)

    async def serve(stop: Stop) -> None:
        async with http_client() as http:
            app = create_app(settings, sessions=sessions, http=http, waiters=waiters, wakeup=wakeup)

            def on_stop() -> None:
                app.state.stopping = True
                waiters.close()

            await serve_http(app, listener, stop, on_stop=on_stop)

    return serve


def _embedded(settings: Settings) -> list[Service]:
    if settings.database_url is not None:
        return []
    return [lambda stop: _supervise_embedded_postgres(settings.data_dir, stop)]


async def _supervise_embedded_postgres(data_dir: Path, stop: asyncio.Event) -> None:
    """Restart the embedded PostgreSQL if it was killed."""
    while not stop.is_set():
        try:
            if not server.is_running(data_dir):
                log.error("the embedded PostgreSQL does not run: restarting")
                await asyncio.to_thread(server.start_embedded, data_dir)
        except (OSError, RuntimeError) as error:
            # Retried after EMBEDDED_INTERVAL_S.
            log.warning("the embedded PostgreSQL does not start", error=repr(error))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), EMBEDDED_INTERVAL_S)


async def serve_http(
    app: ASGIApp, listener: socket.socket, stop: Stop, *, on_stop: Callable[[], None] = lambda: None
) -> None:
    """Serve until `stop` is set, then call `on_stop` and drain.

    For `stop.drain_s` new requests are still served, with `Connection: close`. Then the listener and idle connections
    are closed, and requests in progress have GRACE_S to end.
    """
    server = _Server(
        uvicorn.Config(
            app,
            http=HttpProtocol,
            ws="none",
            access_log=False,  # the API's middleware logs requests, without query strings
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
            limit_concurrency=connection_limit(),
        )
    )
    serving = asyncio.create_task(server.serve([listener]))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    on_stop()
    if not serving.done():
        server.close_after_responses()
        await asyncio.wait({serving}, timeout=stop.drain_s)
    server.should_exit = True
    await serving


class _Server(uvicorn.Server):
    """A uvicorn server that leaves signals to the process, because they stop the poller too."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        freeze_gc()
        for bound in sockets or ():
            log.info("listening", url=address(bound))

    def close_after_responses(self) -> None:
        """Close every connection after its next response, which carries `Connection: close`."""
        close = (b"connection", b"close")
        self.config.encoded_headers.append(close)
        self.server_state.default_headers = [*self.server_state.default_headers, close]
        for connection in self.server_state.connections:
            cycle = getattr(connection, "cycle", None)
            if cycle is not None:
                cycle.keep_alive = False

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def finish_imports() -> None:
    """Import modules that libraries import at first use: without a free file descriptor a late import would fail."""
    await anyio.lowlevel.checkpoint()  # loads anyio's backend for asyncio
    for attribute in ("connect_tcp", "create_memory_object_stream"):
        getattr(anyio, attribute)
    for codec in ("idna", "utf_16_le"):
        codecs.lookup(codec)


def freeze_gc() -> None:
    """Exempt all present objects from garbage collection: collections take 14 ms of the p99 instead of 49 ms."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, *gc.get_threshold()[1:])


def address(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _run_until_first_exit(*services: Service, main: Main | None = None) -> None:
    """Run the services until a signal, until `main` returns, or until a service ends. Raises the error of any."""
    stop = Stop()
    _stop_on_signals(stop)
    await finish_imports()
    main_task = asyncio.create_task(main() if main else stop.wait())
    tasks = [main_task, *(asyncio.create_task(service(stop)) for service in services)]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    expected = stop.is_set() or main_task.done()
    stop.set()
    if main and not main_task.done():
        main_task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()
    if not expected:
        raise RuntimeError("a service of the gateway ended without being stopped")
    log.info("stopped")


def _stop_on_signals(stop: Stop) -> None:
    """The first signal starts a graceful shutdown. A second one ends the process at once."""
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        log.info("stopping", signal=number.name)
        stop.drain_s = DRAIN_S if number == signal.SIGTERM else 0.0
        stop.set()
        for each in STOP_SIGNALS:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.default_int_handler)

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal, number)


async def _ensure_default_client(sessions: Sessions, token: str, stop: asyncio.Event) -> None:
    """Create the built-in client as soon as the database is available and migrated."""
    log_failure = True
    while not stop.is_set():
        if await _create_default_client(sessions, token, log_failure=log_failure):
            await stop.wait()
            return
        log_failure = False
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), RETRY_INTERVAL_S)


async def _create_default_client(sessions: Sessions, token: str, *, log_failure: bool = True) -> bool:
    """Whether the client exists now. False if the database is unavailable or not migrated."""
    try:
        async with transaction(sessions) as session:
            await ensure_default_client(session, token)
    except (DatabaseUnavailable, SQLAlchemyError) as error:
        if log_failure:
            reason = None
            with contextlib.suppress(DatabaseUnavailable, SQLAlchemyError):
                reason = await missing_migration(sessions, error)
            log.warning("the default client waits for the database", error=reason or explain(error))
        return False
    return True


@contextlib.asynccontextmanager
async def _engine(
    database_url: str, role: str, pool_size: int, availability: DatabaseAvailability
) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(
        database_url, pool_size=pool_size, application_name=f"asr-gateway {role}", availability=availability
    )
    connections_of(create_sessions(engine)).observe(role)
    try:
        yield engine
    finally:
        # A graceful close never ends while the server hangs.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await engine.dispose()
