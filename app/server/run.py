"""Runs the API, the poller, or both in one event loop, until a signal or until one of them fails.

A part that ends by itself takes the process with it: better a restart than a gateway that limps.
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
from prometheus_client import REGISTRY
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp
from uvicorn.loops.auto import auto_loop_factory

from app.api.health import check_ready
from app.clients.service import ensure_default_client
from app.connections import Availability
from app.db import Sessions, create_engine, create_sessions, transaction
from app.embedded import server
from app.errors import DatabaseUnavailable, ServiceUnavailable
from app.jobs.long_poll import JobWaiters
from app.main import create_app
from app.outages import explain
from app.poller.poller import run_poller
from app.queue.wakeup import WakeUp
from app.readiness import watch_database
from app.server.http_protocol import HttpProtocol
from app.server.open_files import connection_limit, raise_file_limit
from app.settings import Settings

# On SIGTERM. A load balancer needs some seconds to see `/readyz` red, and kept-alive connections their last response.
DRAIN_S = 3.0
# For requests under way after that: less than the 10 s that container runtimes give in all.
GRACE_S = 6
# Longer than load balancers keep an idle connection, so that they close it first and never write into a closed one.
KEEP_ALIVE_S = 75
CLOSE_TIMEOUT_S = 1
RETRY_INTERVAL_S = 1
# Percent of the connections of `serve`. The poller's transactions are short; an API call may read for seconds.
POLLER_SHARE = 40
EMBEDDED_INTERVAL_S = 2
# Requests under way at once, and what they have made so far. With Python's 700 each request pays for two collections.
GC_THRESHOLD = 10_000
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

log = structlog.get_logger()


class Stop(asyncio.Event):
    """Set when the process has to end."""

    # How long the API still answers new requests: DRAIN_S after SIGTERM, which a load balancer stands behind.
    drain_s = 0.0


Service = Callable[[Stop], Coroutine[None, None, None]]
Visit = Callable[[], Coroutine[None, None, None]]


def run(main: Coroutine[None, None, None]) -> None:
    """Run the event loop, uvloop where there is one, with as many open files as connections may need."""
    raise_file_limit()
    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        runner.run(main)


async def run_gateway(
    settings: Settings, database_url: str, listener: socket.socket, token: str, *, until: Visit | None = None
) -> None:
    """API and poller, each with its share of the connections, until a signal or until the visit is over.

    The database must answer and have its tables.
    """
    wakeup = WakeUp()
    availability = Availability()
    for_poller = max(1, settings.database_pool_size * POLLER_SHARE // 100)
    for_api = settings.database_pool_size - for_poller
    async with (
        _engine(database_url, "api", for_api, availability) as api_engine,
        _engine(database_url, "poller", for_poller, availability) as poller_engine,
    ):
        sessions = create_sessions(api_engine)
        await _make_default_client(sessions, token)
        await _run_until_first_exit(
            _api(settings, sessions, listener, wakeup=wakeup),
            lambda stop: run_poller(settings, poller_engine, stop=stop, wakeup=wakeup),
            lambda stop: watch_database(sessions, stop),
            lambda stop: _keep_default_client(sessions, token, stop),
            *_embedded(settings),
            until=until,
        )


async def run_api(settings: Settings, database_url: str, listener: socket.socket) -> None:
    """The API alone. It starts while the database is away: `/readyz` is red until that is back."""
    async with _engine(database_url, "api", settings.database_pool_size, Availability()) as engine:
        sessions = create_sessions(engine)
        parts = [_api(settings, sessions, listener), *_embedded(settings)]
        parts.append(lambda stop: watch_database(sessions, stop))
        if settings.api_token is not None:
            token = settings.api_token.get_secret_value()
            parts.append(lambda stop: _keep_default_client(sessions, token, stop))
        await _run_until_first_exit(*parts)


async def run_poller_alone(settings: Settings, database_url: str, listener: socket.socket | None) -> None:
    """The poller; `/livez`, `/readyz` and `/metrics` on the listener, if there is one."""
    async with _engine(database_url, "poller", settings.database_pool_size, Availability()) as engine:
        sessions = create_sessions(engine)
        parts: list[Service] = [lambda stop: run_poller(settings, engine, stop=stop), *_embedded(settings)]
        parts.append(lambda stop: watch_database(sessions, stop))
        if listener is not None:
            parts.append(lambda stop: serve_http(_poller_pages(sessions), listener, stop))
        await _run_until_first_exit(*parts)


def _api(settings: Settings, sessions: Sessions, listener: socket.socket, *, wakeup: WakeUp | None = None) -> Service:
    waiters = JobWaiters(sessions)
    app = create_app(settings, sessions=sessions, waiters=waiters, wakeup=wakeup)

    def release() -> None:
        app.state.stopping = True
        waiters.close()

    return lambda stop: serve_http(app, listener, stop, release=release)


def _embedded(settings: Settings) -> list[Service]:
    if settings.database_url is not None:
        return []
    return [lambda stop: _supervise_embedded_postgres(settings.data_dir, stop)]


async def _supervise_embedded_postgres(data_dir: Path, stop: asyncio.Event) -> None:
    """Start the embedded PostgreSQL again when something killed it: nobody else would."""
    while not stop.is_set():
        try:
            if not server.is_running(data_dir):
                log.error("the embedded PostgreSQL is gone and is started again")
                await asyncio.to_thread(server.start_embedded, data_dir)
        except (OSError, RuntimeError) as error:
            # The next turn tries again.
            log.warning("the embedded PostgreSQL does not start", error=repr(error))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), EMBEDDED_INTERVAL_S)


async def serve_http(
    app: ASGIApp, listener: socket.socket, stop: Stop, *, release: Callable[[], None] = lambda: None
) -> None:
    """Serve until `stop`, then `release` long waits and drain.

    For `stop.drain_s` new requests still get their response, with `Connection: close`; then the listener and idle
    connections are closed, and requests under way have GRACE_S.
    """
    server = _Server(
        uvicorn.Config(
            app,
            http=HttpProtocol,
            ws="none",
            access_log=False,  # the API's own middleware logs, without query strings
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
    release()
    if not serving.done():
        server.close_after_responses()
        await asyncio.wait({serving}, timeout=stop.drain_s)
    server.should_exit = True
    await serving


class _Server(uvicorn.Server):
    """Leaves signals to the process, whose poller wants to know of them too."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        freeze_gc()
        for bound in sockets or ():
            log.info("listening", url=address(bound))

    def close_after_responses(self) -> None:
        """From now on each response is the last of its connection and says so."""
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
    """Import what libraries import at first use: an import fails when no file is left, and with it a part."""
    await anyio.lowlevel.checkpoint()  # loads anyio's backend for asyncio
    for attribute in ("connect_tcp", "create_memory_object_stream"):
        getattr(anyio, attribute)
    for codec in ("idna", "utf_16_le"):
        codecs.lookup(codec)


def freeze_gc() -> None:
    """Everything made so far stays: without looking at it, garbage collections take 14 ms of a p99, not 49."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, *gc.get_threshold()[1:])


def address(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _run_until_first_exit(*parts: Service, until: Visit | None = None) -> None:
    """Run the parts until a signal, the end of the visit, or the end of a part. Raises what ended them."""
    stop = Stop()
    _stop_on_signals(stop)
    await finish_imports()
    visit = asyncio.create_task(until() if until else stop.wait())
    tasks = [visit, *(asyncio.create_task(part(stop)) for part in parts)]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    in_order = stop.is_set() or visit.done()
    stop.set()
    if until and not visit.done():
        visit.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()
    if not in_order:
        raise RuntimeError("a part of the gateway ended although nobody stopped it")
    log.info("stopped")


def _stop_on_signals(stop: Stop) -> None:
    """The first signal stops in order; a second one stops at once."""
    loop = asyncio.get_running_loop()

    def told(number: signal.Signals) -> None:
        log.info("stopping", signal=number.name)
        stop.drain_s = DRAIN_S if number == signal.SIGTERM else 0.0
        stop.set()
        for each in STOP_SIGNALS:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.default_int_handler)

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, told, number)


async def _keep_default_client(sessions: Sessions, token: str, stop: asyncio.Event) -> None:
    """Make the built-in client as soon as there is a database with tables."""
    told = False
    while not stop.is_set():
        if await _make_default_client(sessions, token, told=told):
            await stop.wait()
            return
        told = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), RETRY_INTERVAL_S)


async def _make_default_client(sessions: Sessions, token: str, *, told: bool = False) -> bool:
    """Whether the database let it be made. `told`: the reason was logged before."""
    try:
        async with transaction(sessions) as session:
            await ensure_default_client(session, token)
    except (DatabaseUnavailable, SQLAlchemyError) as error:
        if not told:
            log.warning("the default client waits for the database", error=explain(error))
        return False
    return True


@contextlib.asynccontextmanager
async def _engine(
    database_url: str, role: str, pool_size: int, availability: Availability
) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(
        database_url, pool_size=pool_size, application_name=f"asr-gateway {role}", availability=availability
    )
    try:
        yield engine
    finally:
        # Closing says goodbye to the server, which a server that hangs never answers.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await engine.dispose()


def _poller_pages(sessions: Sessions) -> Starlette:
    async def readyz(_request: Request) -> Response:
        try:
            await check_ready(sessions)
        except ServiceUnavailable as error:
            return JSONResponse({"status": "unavailable", "detail": error.detail}, 503)
        return JSONResponse({"status": "ok"})

    async def livez(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def metrics(_request: Request) -> Response:
        return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics)])
