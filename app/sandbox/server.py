"""Serves the sandbox over TCP: one uvicorn server per origin, both in one event loop."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from app.sandbox.app import Sandbox, create_sandbox
from app.sandbox.config import API_PORT, REGIONS, RESULTS_PORT, SandboxConfig
from app.sandbox.responses import DROP_EXTENSION
from app.sandbox.state import SandboxState


class CannotListen(OSError):
    """An address cannot be listened on. The message names the address and the reason."""


@dataclass(frozen=True, slots=True)
class RunningSandbox:
    sandbox: Sandbox
    api_origin: str
    results_origin: str

    @property
    def state(self) -> SandboxState:
        return self.sandbox.state

    def base_url(self, region: str) -> str:
        return f"{self.api_origin}/{region}/api/v1"

    @property
    def settings(self) -> dict[str, str]:
        """Settings of a gateway that uses this sandbox for both regions, by the names of `.env.example`."""
        settings = {}
        for region in REGIONS:
            settings[f"DASHSCOPE_{region.upper()}_BASE_URL"] = self.base_url(region)
            settings[f"DASHSCOPE_{region.upper()}_API_KEY"] = f"sk-sandbox-{region}"
        return settings

    @property
    def overrides(self) -> dict[str, Any]:
        """The same for `load_settings`."""
        return {name.lower(): value for name, value in self.settings.items()}


async def serve_sandbox(
    config: SandboxConfig | None = None,
    host: str = "127.0.0.1",
    port: int = API_PORT,
    results_port: int = RESULTS_PORT,
    *,
    on_ready: Callable[[RunningSandbox], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM. `on_ready` gets the addresses, which are unknown before if a port is 0."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: KeyboardInterrupt ends the loop
            loop.add_signal_handler(number, stop.set)
    async with running_sandbox(config, host, port, results_port) as running:
        if on_ready is not None:
            on_ready(running)
        await stop.wait()


@contextlib.asynccontextmanager
async def running_sandbox(
    config: SandboxConfig | None = None, host: str = "127.0.0.1", port: int = 0, results_port: int = 0
) -> AsyncIterator[RunningSandbox]:
    """A sandbox that serves inside the block. Port 0 selects a free port. Raises CannotListen."""
    with contextlib.ExitStack() as sockets:
        api_socket = sockets.enter_context(_bound(host, port))
        results_socket = sockets.enter_context(_bound(host, results_port))
        config = replace(config or SandboxConfig(), results_port=results_socket.getsockname()[1])
        sandbox = create_sandbox(config)
        async with _serving((sandbox.api, api_socket), (sandbox.results, results_socket)):
            results_origin = config.results_origin or _origin(results_socket)
            yield RunningSandbox(sandbox, _origin(api_socket), results_origin)


class _Server(uvicorn.Server):
    """A server that its owner stops, not signals, and that reports when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _DroppableHTTPProtocol(AutoHTTPProtocol):  # type: ignore[misc,valid-type]
    """Lets the app abort the TCP connection of a request, which ASGI does not offer."""

    app: ASGIApp

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.app = _with_drop(self.app, transport)


def _with_drop(app: ASGIApp, transport: asyncio.Transport) -> ASGIApp:
    async def droppable(scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"] = {DROP_EXTENSION: {"drop": transport.abort}}
        await app(scope, receive, send)

    return droppable


@contextlib.asynccontextmanager
async def _serving(*origins: tuple[ASGIApp, socket.socket]) -> AsyncIterator[None]:
    """Serve each application on its socket. The servers stop side by side: uvicorn takes about 0.2 s to stop one."""
    servers = [_Server(_config(app)) for app, _ in origins]
    serving = [asyncio.create_task(server.serve([bound])) for server, (_, bound) in zip(servers, origins, strict=True)]
    try:
        for server, task in zip(servers, serving, strict=True):
            listening = asyncio.create_task(server.listening.wait())
            await asyncio.wait({task, listening}, return_when=asyncio.FIRST_COMPLETED)
            listening.cancel()
            if task.done():
                task.result()
        yield
    finally:
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*serving)


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_DroppableHTTPProtocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="error",
        timeout_graceful_shutdown=1,
    )


def _bound(host: str, port: int) -> socket.socket:
    # asyncio sets TCP_NODELAY only on sockets whose protocol is named; without it each response takes 40 ms longer.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise CannotListen(f"{address}: {error.strerror}") from error
    return bound


def _origin(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
