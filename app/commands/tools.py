"""Commands that need no gateway: `sandbox`, `bench` and `demo`."""

import asyncio
import runpy
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands.start import command_group, stop
from app.logs import configure_logging

if TYPE_CHECKING:
    from app.sandbox import RunningSandbox

# As in `app.sandbox.config`, whose package takes 0.1 s to import.
SANDBOX_PORT = 18100
SANDBOX_RESULTS_PORT = 18101

commands = command_group()


@commands.command()
def sandbox(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the API of both regions. 0: a free port.")
    ] = SANDBOX_PORT,
    results_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of result files. 0: a free port.")
    ] = SANDBOX_RESULTS_PORT,
) -> None:
    """Run the bundled simulation of DashScope.

    It serves both regions, without a key, a network or costs. `serve --sandbox` runs it together with the gateway.

    The query of a file's URL controls what becomes of the file: `?sandbox=fail:DECODE_ERROR`, `fail_once:CODE`,
    `silent`, `refuse`, `deny`, `queue:5`, `run:5`, `seconds:60`, `words:100`, separated by commas. `PUT
    /control/faults` injects faults, `POST /control/clock` advances the clock. docs/sandbox.md explains all of them.
    """
    configure_logging("info")
    from app.sandbox import serve_sandbox

    asyncio.run(serve_sandbox(host=host, port=port, results_port=results_port, on_ready=_show_sandbox))


class Bench(StrEnum):
    """The benchmarks; each is a module of `bench/`."""

    API = "api"
    DROPINS = "dropins"
    SEARCH = "search"
    TRANSCRIPTS = "transcripts"
    POLLER = "poller"
    CLAIMS = "claims"
    SCALE = "scale"
    WAITERS = "waiters"
    GROWTH = "growth"
    UPLOADS = "uploads"


@commands.command()
def bench(
    which: Annotated[Bench, typer.Argument(help="poller takes ten minutes.")] = Bench.POLLER,
) -> None:
    """Reproduce the measurements of docs/measured.md and docs/scale.md.

    Needs a checkout: the benchmarks and the official SDK are not installed with the gateway.
    """
    sys.argv = [f"bench.{which}"]
    try:
        runpy.run_module(f"bench.{which}", run_name="__main__")
    except ModuleNotFoundError as error:
        stop(f"bench needs a checkout with its development tools (`make setup`): {error.name} is not installed", 1)


@commands.command()
def demo() -> None:
    """Transcribe two sample recordings and print them.

    Database, token and port are temporary. Upstream is the bundled sandbox unless a region has a key.
    """
    from app.demo import run_demo

    configure_logging("error")
    run_demo()


def _show_sandbox(running: "RunningSandbox") -> None:
    print("The sandbox is ready. Settings for the gateway:\n")
    for name, value in running.settings.items():
        print(f"export {name}={value}")
    sys.stdout.flush()
