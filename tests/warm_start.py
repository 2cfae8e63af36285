"""Starts processes of Python as forks of a process that has imported the gateway.

Importing takes more than one second of CPU, which is more than most commands of the tests take; a fork takes some
milliseconds. The started process has its own arguments, environment, working directory and output, and ends as
any process of Python does. It is not a child of the caller: a keeper waits for it and reports its exit code.

`python -m tests.warm_start SOCKET` runs the process that forks, until its standard input ends.
"""

import asyncio
import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
# What the commands import when they run. `tests/test_cli.py` starts processes that import by themselves, too.
PRELOADED = (
    "app.backup",
    "app.certify.runner",
    "app.commands",
    "app.demo",
    "app.doctor",
    "app.sandbox",
    "app.server.run",
    "app.server.startup",
    "app.transcribe.transcription",
)


class Request(NamedTuple):
    """Sent as a line of JSON, together with the descriptors of standard output and standard error.

    `program`: Python text, as after `python -c`. None: `python -m app`.
    """

    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: str
    program: str | None = None


class WarmProcess:
    """A started process, with the methods of `asyncio.subprocess.Process` that the tests call."""

    def __init__(self, pid: int, keeper: asyncio.StreamReader) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ending = asyncio.create_task(self._end(keeper))

    def send_signal(self, number: int) -> None:
        if self.returncode is not None:
            raise ProcessLookupError
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        return await asyncio.shield(self._ending)

    async def _end(self, keeper: asyncio.StreamReader) -> int:
        self.returncode = int(await keeper.readline())
        return self.returncode


@asynccontextmanager
async def warm_process(
    request: Request,
) -> AsyncIterator[tuple[WarmProcess, asyncio.StreamReader, asyncio.StreamReader]]:
    """Start a process. Yields it, its standard output and its standard error. It must end within the block."""
    async with AsyncExitStack() as stack:
        connection = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        connection.connect(str(_forking_process()))
        readers, ends = [], []
        for _ in range(2):
            read_end, write_end = os.pipe()
            ends.append(write_end)
            readers.append(await _reader(stack.enter_context(os.fdopen(read_end, "rb"))))
        socket.send_fds(connection, [json.dumps(request).encode() + b"\n"], ends)
        for end in ends:
            os.close(end)
        keeper, writer = await asyncio.open_unix_connection(sock=connection)
        stack.callback(writer.close)
        yield WarmProcess(int(await keeper.readline()), keeper), readers[0], readers[1]


async def _reader(pipe: IO[bytes]) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader


def clean_environment() -> dict[str, str]:
    """The environment of a process of Python, without the developer's settings. Warnings are errors."""
    inherited = {name: os.environ[name] for name in ("HOME", "LANG", "PATH", "TMPDIR") if name in os.environ}
    return inherited | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}


@cache
def _forking_process() -> Path:
    """The socket of the process that forks, which lives as long as this one."""
    folder = tempfile.TemporaryDirectory(prefix="asr-gateway-tests-")
    path = Path(folder.name) / "warm"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.warm_start", str(path)],
        cwd=ROOT,
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin
    assert process.stdout

    def stop() -> None:
        process.communicate()
        folder.cleanup()

    atexit.register(stop)
    assert process.stdout.readline() == b"ready\n"
    return path


def _serve(path: str) -> Request:
    """Fork for each connection. Returns in a started process only."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        os.write(sys.stdout.fileno(), b"ready\n")
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            with connection:
                if not os.fork():
                    return _keep(connection)
            _reap_keepers()
    _reap_keepers()
    sys.exit()


def _reap_keepers() -> None:
    """Reap those that have ended. `time` then counts their CPU, and that of the processes that they kept."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _keep(connection: socket.socket) -> Request:
    """Fork again, and report the process ID and the exit code of that process. Returns in it only."""
    received, descriptors, _, _ = socket.recv_fds(connection, 1 << 16, 2)
    while not received.endswith(b"\n"):
        received += connection.recv(1 << 16)
    started = os.fork()
    if not started:
        for number, descriptor in enumerate((os.open(os.devnull, os.O_RDONLY), *descriptors)):
            os.dup2(descriptor, number)
            os.close(descriptor)
        return Request(*json.loads(received))
    for descriptor in (0, 1, 2, *descriptors):
        os.close(descriptor)
    connection.sendall(b"%d\n" % started)
    _, status = os.waitpid(started, 0)
    connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _become(request: Request) -> None:
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv[1:] = request.arguments


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for module in PRELOADED:
        importlib.import_module(module)
    # At its exit, a process of Python looks at all objects that the garbage collector knows: 0.5 s of CPU. These stay.
    gc.freeze()
    request = _serve(sys.argv[1])
    _become(request)
    if request.program is None:
        runpy.run_module("app", run_name="__main__", alter_sys=True)
    else:
        exec(request.program, {"__name__": "__main__"})  # noqa: S102 - a program of the tests
