"""The command line: `python -m app COMMAND`. Results go to standard output, logs to standard error.

Commands import the packages that they need: FastAPI, SQLAlchemy and Alembic take 1 s to import, `--help` 0.25 s.
"""
# ruff: noqa: PLC0415

import asyncio
import runpy
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar
from urllib.parse import unquote, urlsplit

import structlog
import typer

from app import __version__
from app.catalogue import REGIONS
from app.errors import DatabaseUnavailable, GatewayError
from app.log_stream import standard_error
from app.logs import configure_logging, redact, register_secrets
from app.settings import Settings, SettingsError, load_settings

if TYPE_CHECKING:
    import socket

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.db import Sessions
    from app.sandbox import RunningSandbox

T = TypeVar("T")

# As in `app.sandbox.config`, whose package takes 0.1 s to import.
SANDBOX_PORT = 18100
SANDBOX_RESULTS_PORT = 18101

cli = typer.Typer(
    help="A self-hosted gateway to DashScope's speech recognition of recorded files.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they print local variables, which may contain keys
    rich_markup_mode=None,
)
clients = typer.Typer(help="Create, list and revoke the tokens of clients.", no_args_is_help=True)
cli.add_typer(clients, name="clients")
log = structlog.get_logger()


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"asr-gateway {__version__}")
        raise typer.Exit


def main() -> None:
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGHUP, _exit)
    try:
        cli(prog_name="python -m app")
    except Exception as error:  # noqa: BLE001 - prints one line for a known error, a redacted traceback otherwise
        _fail(error)


@cli.callback()
def options(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Run a command of the gateway."""


@cli.command()
def serve(
    *,
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Use the bundled simulation of DashScope for both regions, and no key.")
    ] = False,
    sandbox_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the API of --sandbox. 0: a free port.")
    ] = SANDBOX_PORT,
) -> None:
    """Migrate the database, then run the API and the poller in one process."""
    settings = _start_service()
    from app.server import run, startup

    with startup.bind(settings.host, settings.port) as listener:
        startup.warn_of_settings(settings, needs_key=not sandbox)
        url = startup.open_database(settings)
        startup.migrate_database(url)
        token = _default_token(settings, url)
        if sandbox:
            run.run(_serve_with_sandbox(url, listener, token, sandbox_port))
        else:
            run.run(run.run_gateway(settings, url, listener, token))


async def _serve_with_sandbox(url: str, listener: "socket.socket", token: str, port: int) -> None:
    from app.sandbox import running_sandbox
    from app.server import run

    async with running_sandbox(port=port) as running:
        overrides = {name.lower(): value for name, value in running.settings.items()}
        for region in REGIONS:  # an account of its own: tasks of a real account are not looked up in the sandbox
            overrides[f"dashscope_{region}_api_key"] = f"sandbox={overrides[f'dashscope_{region}_api_key']}"
        print(
            f"DashScope is simulated at {running.api_origin}: transcripts are invented. See docs/sandbox.md", flush=True
        )
        await run.run_gateway(load_settings(overrides), url, listener, token)


@cli.command()
def api() -> None:
    """Run the API without a poller.

    It starts without a database, and becomes ready when there is one.
    """
    settings = _start_service()
    from app.server import run, startup

    with startup.bind(settings.host, settings.port) as listener:
        startup.warn_of_settings(settings)
        run.run(run.run_api(settings, startup.database_url(settings), listener))


@cli.command()
def poller(
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port for /livez, /readyz and /metrics. Unset: no port."),
    ] = None,
) -> None:
    """Run the poller without the API. It processes jobs.

    Several pollers may use the same database.
    """
    settings = _start_service()
    from app.server import run, startup

    listener = None if port is None else startup.bind(settings.host, port)
    startup.warn_of_settings(settings)
    url = startup.open_database(settings)
    startup.wait_for_schema(url)
    run.run(run.run_poller_alone(settings, url, listener))


@cli.command()
def migrate(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing. Fail if the tables differ from this version.")
    ] = False,
) -> None:
    """Migrate the database to this version.

    Safe while gateways run, and if several processes migrate at once.
    """
    settings = _start()
    from app import migrate as migrations
    from app.server import startup

    url = startup.open_database(settings)
    if check:
        startup.check_database(url)
        return
    startup.migrate_database(url)
    print(f"The database is at revision {migrations.head()}.")


@cli.command()
def doctor(*, json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False) -> None:
    """Check the database, migrations, clocks and keys, and list waiting files.

    Changes nothing. The exit code is 1 if jobs cannot be processed. docs/operations.md explains each finding.
    """
    settings = _start()
    from app.doctor import as_json, examine
    from app.server import startup

    findings = asyncio.run(examine(settings, startup.database_url(settings)))
    if json:
        print(redact(as_json(findings).decode()))
    for finding in [] if json else findings:
        print(redact(f"{finding.level:<8} {finding.subject:<32} {finding.detail}"))
    if any(finding.level == "error" for finding in findings):
        sys.exit(1)


@cli.command()
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


@cli.command()
def bench(
    which: Annotated[Bench, typer.Argument(help="poller takes about 8 minutes.")] = Bench.POLLER,
) -> None:
    """Reproduce the measurements of the README.

    Needs a checkout: the benchmarks and the official SDK are not installed with the gateway.
    """
    sys.argv = [f"bench.{which}"]
    try:
        runpy.run_module(f"bench.{which}", run_name="__main__")
    except ModuleNotFoundError as error:
        _stop(f"bench needs a checkout with its development tools (`make setup`): {error.name} is not installed", 1)


@cli.command()
def demo() -> None:
    """Transcribe two sample recordings and print them.

    Database, token and port are temporary. Upstream is the bundled sandbox unless a region has a key.
    """
    from app.demo import run_demo

    configure_logging("error")
    run_demo()


@cli.command()
def backup(file: Annotated[Path, typer.Argument(help="A new file, or - for standard output.")]) -> None:
    """Write the database and the generated token to a file. Gateways may run meanwhile."""
    settings = _start()
    from app.backup import write_backup

    write_backup(settings, file)


@cli.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A file that `backup` wrote, or - for standard input.")],
    submit_waiting: Annotated[
        bool, typer.Option("--submit-waiting", help="Submit waiting files. Only if no gateway ran after the backup.")
    ] = False,
) -> None:
    """Restore a backup into a new DATA_DIR or an empty database.

    Files that were waiting fail, because they may have been submitted after the backup and would be billed twice.
    """
    settings = _start()
    from app.backup import restore_backup

    failed = restore_backup(settings, file, submit_waiting=submit_waiting)
    print(f"Restored. {failed} waiting files failed with restored_from_backup; a retry of their job submits them.")


@cli.command("fail-waiting")
def fail_waiting_files() -> None:
    """Fail waiting files after other tools restored the database, as `restore` does. No gateway may run."""
    settings = _start()
    from app.backup import fail_waiting

    print(f"{fail_waiting(settings)} waiting files failed with restored_from_backup.")


@clients.command("create")
def create_client(name: Annotated[str, typer.Argument(help="Letters, digits, dots, underscores, hyphens.")]) -> None:
    """Create a client and print its token, which is shown only once."""
    from app.clients import service

    client, token = _with_database(lambda session: service.create_client(session, name))
    print(f"The token of the client {client.name}, shown only once: {token}")


@clients.command("list")
def list_clients() -> None:
    """List all clients including revoked ones, newest first."""
    from app.clients import service

    rows = [("NAME", "CREATED", "LAST USED", "REVOKED")]
    rows += [
        (client.name, _minute(client.created_at), _minute(client.last_used_at), _minute(client.revoked_at))
        for client in _with_database(service.list_clients)
    ]
    for row in rows:
        print(f"{row[0]:<32}  {row[1]:<16}  {row[2]:<16}  {row[3]}")


@clients.command("revoke")
def revoke_client(
    name: Annotated[str, typer.Argument()],
    *,
    cancel_jobs: Annotated[
        bool, typer.Option("--cancel-jobs", help="Cancel all jobs of the client, also if it is revoked already.")
    ] = False,
    delete_vocabularies: Annotated[
        bool,
        typer.Option("--delete-vocabularies", help="Delete its hot-word lists, also if it is revoked already."),
    ] = False,
) -> None:
    """Revoke the client's token permanently. Its webhook deliveries end.

    Its jobs continue, and are billed, unless --cancel-jobs is given. Its hot-word lists stay, and count for the limit
    of their accounts, unless --delete-vocabularies is given. The built-in client `default` gets a new token at the
    next start.
    """
    from app.clients import service
    from app.queue import revocation
    from app.vocabularies.lists import delete_lists_of_revoked

    canceled = _with_sessions(
        lambda sessions: revocation.revoke_client(
            sessions, name, cancel_jobs=cancel_jobs, may_be_revoked=delete_vocabularies
        )
    )
    print(f"The token of the client {name} is revoked.")
    if cancel_jobs:
        print(f"Jobs canceled: {canceled}.")
    if delete_vocabularies:
        deleted = _with_sessions(lambda sessions: delete_lists_of_revoked(load_settings(), sessions, name))
        print(f"Hot-word lists deleted: {deleted}.")
    if name == service.DEFAULT_CLIENT:
        print("The next start of `serve` generates a new token, or needs a new API_TOKEN if that is set.")


def _minute(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}" if at else "-"


def _start() -> Settings:
    settings = load_settings()
    configure_logging(settings.log_level, stream=standard_error())
    register_secrets(_secrets(settings))
    return settings


def _start_service() -> Settings:
    """`_start` of a command that runs until a signal: a signal during the start is an orderly end too."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    return _start()


def _secrets(settings: Settings) -> Iterator[str]:
    for token in (settings.api_token, settings.admin_token):
        if token is not None:
            yield token.get_secret_value()
    for region in settings.served_regions.values():
        for account in region.accounts:
            yield account.key.get_secret_value()
    if settings.database_url is not None:
        password = urlsplit(settings.database_url.get_secret_value()).password or ""
        yield from {password, unquote(password)}


def _default_token(settings: Settings, url: str) -> str:
    from app.server.startup import generated_token, token_file

    if settings.api_token is not None:
        return settings.api_token.get_secret_value()
    token, is_new = generated_token(settings, url)
    register_secrets([token])
    if is_new:
        print(
            f"The token of the client default, shown only once, stored in {token_file(settings)}: {token}",
            flush=True,
        )
    else:
        print(f"The token of the client default is in {token_file(settings)}", flush=True)
    return token


def _with_database(work: Callable[["AsyncSession"], Coroutine[Any, Any, T]]) -> T:
    """The result of `work` in a transaction."""

    async def in_transaction(sessions: "Sessions") -> T:
        from app.db import transaction

        async with transaction(sessions) as session:
            return await work(session)

    return _with_sessions(in_transaction)


def _with_sessions(work: Callable[["Sessions"], Coroutine[Any, Any, T]]) -> T:
    """The result of `work`, which makes its own transactions."""
    settings = _start()
    from app.db import create_engine, create_sessions
    from app.server import startup

    url = startup.open_database(settings, patience_s=0)
    if settings.database_url is None:
        startup.migrate_database(url)  # nothing else migrates an embedded database
    startup.wait_for_schema(url, patience_s=0)

    async def on_engine() -> T:
        engine = create_engine(url, pool_size=1, application_name="asr-gateway clients")
        try:
            return await work(create_sessions(engine))
        finally:
            await engine.dispose()

    return asyncio.run(on_engine())


def _show_sandbox(running: "RunningSandbox") -> None:
    print("The sandbox is ready. Settings for the gateway:\n")
    for name, value in running.settings.items():
        print(f"export {name}={value}")
    sys.stdout.flush()


def _exit(number: int, _frame: FrameType | None) -> NoReturn:
    """Exit like on SIGINT, so that the embedded database is stopped."""
    sys.exit(128 + number)


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)


def _fail(error: Exception) -> NoReturn:
    if isinstance(error, SettingsError):
        _stop(str(error), 2)
    if isinstance(error, DatabaseUnavailable):
        _stop(f"The database cannot be used: {error.explanation}", 1)
    if isinstance(error, GatewayError):
        _stop(error.detail, 1)
    from app.sandbox import CannotListen
    from app.server.startup import StartError

    if isinstance(error, StartError):
        _stop(str(error), 1)
    if isinstance(error, CannotListen):
        _stop(f"The sandbox cannot listen on {error}; choose another port, or stop the program that uses it", 1)
    log.error("crashed", exc_info=error)
    sys.exit(1)


def _stop(message: str, code: int) -> NoReturn:
    print(redact(message), file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
