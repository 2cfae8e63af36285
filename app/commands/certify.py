"""`certify`: checks what the gateway assumes about the live DashScope."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app import __version__
from app.commands.start import command_group, start, stop
from app.logs import redact

if TYPE_CHECKING:
    from app.catalogue import RegionName
    from app.certify.evidence import Exchange
    from app.certify.runner import Run
    from app.settings import Settings

commands = command_group()


class RegionChoice(StrEnum):
    BEIJING = "beijing"
    SINGAPORE = "singapore"


@commands.command()
def certify(
    region: Annotated[RegionChoice | None, typer.Option(help="Check one region. Unset: all that have a key.")] = None,
    record: Annotated[
        Path | None, typer.Option(help="Keep the requests and responses, without secrets, in this file.")
    ] = None,
) -> None:
    """Check what the gateway assumes about the live DashScope, with a key and for less than 0.05 yuan.

    Prints a line for each check: ok, differs or unknown, its name, and what was seen. Takes up to ten minutes. The
    exit code is 1 if something differs in a way that costs correctness. docs/certify.md explains each check.
    """
    settings = start()
    regions = _regions(settings, region)
    from app.certify.runner import certify as run_checks

    with ExitStack() as files:
        runs = asyncio.run(run_checks(settings, regions, record=_recorder(files, record)))
    for run in runs:
        for result in run.results:
            seen = " ".join(redact(f"{result.region}: {result.seen}").split())
            print(f"{result.verdict:<8} {result.check.name:<20} {seen}")
    _keep(settings, runs)
    if any(result.costs_correctness for run in runs for result in run.results):
        sys.exit(1)


def _regions(settings: "Settings", region: RegionChoice | None) -> "Sequence[RegionName]":
    served = settings.served_regions
    if region is not None and region.value not in served:
        stop(f"DASHSCOPE_{region.name}_API_KEY is not set, needs the API key to check {region} with", 2)
    if not served:
        stop("DASHSCOPE_BEIJING_API_KEY is not set, needs the API key to check with, or set that of Singapore", 2)
    return [name for name in served if region is None or name == region.value]


def _recorder(files: ExitStack, path: Path | None) -> "Callable[[Exchange], None] | None":
    from app.certify.recorder import open_record, write_record

    if path is None:
        return None
    try:
        return partial(write_record, files.enter_context(open_record(path)))
    except OSError as error:
        stop(f"--record got {path}, needs a file that can be written: {error.strerror}", 2)


def _keep(settings: "Settings", runs: "Sequence[Run]") -> None:
    """Write what was learned to DATA_DIR, where `doctor` reads it."""
    from app.certify.certificate import CertifiedCheck, write_certificate

    for run in runs:
        checks = [
            CertifiedCheck(each.check.name, each.check.severity, each.verdict, redact(each.seen))
            for each in run.results
        ]
        try:
            write_certificate(
                settings.data_dir,
                run.region,
                account=run.account,
                base_url=run.base_url,
                version=__version__,
                checks=checks,
            )
        except OSError as error:
            print(
                f"DATA_DIR {settings.data_dir} cannot be written, so doctor shows no result: {error.strerror}",
                file=sys.stderr,
            )
