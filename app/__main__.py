"""The command line: `python -m app COMMAND`. Results go to standard output, logs to standard error.

Commands import the packages that they need: FastAPI, SQLAlchemy and Alembic take 1 s to import, `--help` 0.25 s.
"""

import gc
import signal
from typing import Annotated

import typer

from app import __version__
from app.commands import certify, clients, operations, services, tools, transcribe
from app.commands.start import command_group, exit_on_signal, fail

# New objects before a collection of the young generation. The services set a lower one.
GC_THRESHOLD = 100_000

cli = command_group()
for group in (services, operations, transcribe, certify, tools):
    cli.add_typer(group.commands)
cli.add_typer(clients.commands, name="clients")


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"asr-gateway {__version__}")
        raise typer.Exit


def main() -> None:
    # Imports make 280,000 objects and little garbage. With Python's threshold, collections take 10 % of their CPU.
    gc.set_threshold(GC_THRESHOLD, *gc.get_threshold()[1:])
    signal.signal(signal.SIGTERM, exit_on_signal)
    signal.signal(signal.SIGHUP, exit_on_signal)
    try:
        cli(prog_name="python -m app")
    except Exception as error:  # noqa: BLE001 - prints one line for a known error, a redacted traceback otherwise
        fail(error)
    finally:
        # Without this, Python collects garbage several times more at its exit: 15 % of the CPU of a short command.
        gc.collect()
        gc.freeze()


@cli.callback()
def options(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A self-hosted gateway to DashScope's speech recognition of recorded files."""


if __name__ == "__main__":
    main()
