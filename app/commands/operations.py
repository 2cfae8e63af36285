"""Commands of the operator: `migrate`, `doctor`, `backup`, `restore` and `fail-waiting`."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from app.commands.start import command_group, start
from app.logs import redact

commands = command_group()


@commands.command()
def migrate(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing. Fail if the tables differ from this version.")
    ] = False,
) -> None:
    """Migrate the database to this version.

    Safe while gateways run, and if several processes migrate at once.
    """
    settings = start()
    from app import migrate as migrations
    from app.server import startup

    url = startup.open_database(settings)
    if check:
        startup.check_database(url)
        return
    startup.migrate_database(url)
    print(f"The database is at revision {migrations.head()}.")


@commands.command()
def doctor(*, json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False) -> None:
    """Check the database, migrations, clocks and keys, and list waiting files.

    Changes nothing. The exit code is 1 if jobs cannot be processed. docs/operations.md explains each finding.
    """
    settings = start()
    from app.doctor import as_json, examine
    from app.server import startup

    findings = asyncio.run(examine(settings, startup.database_url(settings)))
    if json:
        print(redact(as_json(findings).decode()))
    for finding in [] if json else findings:
        print(redact(f"{finding.level:<8} {finding.subject:<32} {finding.detail}"))
    if any(finding.level == "error" for finding in findings):
        sys.exit(1)


@commands.command()
def backup(file: Annotated[Path, typer.Argument(help="A new file, or - for standard output.")]) -> None:
    """Write the database and the generated token to a file. Gateways may run meanwhile."""
    settings = start()
    from app.backup import write_backup

    write_backup(settings, file)


@commands.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A file that `backup` wrote, or - for standard input.")],
    submit_waiting: Annotated[
        bool, typer.Option("--submit-waiting", help="Submit waiting files. Only if no gateway ran after the backup.")
    ] = False,
) -> None:
    """Restore a backup into a new DATA_DIR or an empty database.

    Files that were waiting fail, because they may have been submitted after the backup and would be billed twice.
    """
    settings = start()
    from app.backup import restore_backup

    failed = restore_backup(settings, file, submit_waiting=submit_waiting)
    print(f"Restored. {failed} waiting files failed with restored_from_backup; a retry of their job submits them.")


@commands.command("fail-waiting")
def fail_waiting_files() -> None:
    """Fail waiting files after other tools restored the database, as `restore` does. No gateway may run."""
    settings = start()
    from app.backup import fail_waiting

    print(f"{fail_waiting(settings)} waiting files failed with restored_from_backup.")
