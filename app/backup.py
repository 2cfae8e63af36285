"""Writes the database and the generated token to one file, and restores them into an empty database.

The file is a ZIP archive without further compression:

    backup.json      format, version of the gateway, revision of the schema, instant
    database.dump    the custom format of pg_dump
    api_token        the generated token of the client `default`, if DATA_DIR has one

`pg_dump` and `pg_restore` are those of the embedded PostgreSQL. They also work with the server of DATABASE_URL, unless
that is newer.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit
from zipfile import BadZipFile, ZipFile

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import __version__, migrate
from app.embedded.server import program
from app.queue.restoration import fail_unsubmitted
from app.readiness import read_revision, read_server_version
from app.server import startup
from app.server.startup import StartError
from app.settings import Settings

FORMAT = 1
STANDARD_STREAM = Path("-")
# pg_restore of the embedded version sets a parameter that older servers do not know.
OLDEST_SERVER = 17

_MANIFEST, _DUMP, _TOKEN = "backup.json", "database.dump", "api_token"


def write_backup(settings: Settings, target: Path) -> None:
    """Write a consistent backup, also while gateways run. `-` is standard output. Raises StartError."""
    url = startup.open_database(settings, patience_s=0)
    revision = startup.run_in_transaction(url, read_revision, command="backup")
    if revision is None:
        raise StartError(f"The database at {startup.redacted_url(url)} has no tables of the gateway.")
    manifest = {"format": FORMAT, "version": __version__, "revision": revision, "at": datetime.now(UTC).isoformat()}
    with _new_file(target) as file, ZipFile(file, "w") as archive:
        archive.writestr(_MANIFEST, json.dumps(manifest))
        with archive.open(_DUMP, "w", force_zip64=True) as dump, _client("pg_dump", url, "--format=custom") as process:
            shutil.copyfileobj(cast("IO[bytes]", process.stdout), dump)
        if (token := startup.token_file(settings)).exists():
            archive.write(token, _TOKEN)


def restore_backup(settings: Settings, source: Path, *, submit_waiting: bool) -> int:
    """Restore into an empty database, migrate it, and return the number of files that were failed. Raises StartError.

    `-` is standard input.
    Without `submit_waiting`, files that the backup shows as not submitted fail: see `app.queue.restoration`.
    """
    with _seekable(settings, source) as file, _open(source, file) as archive:
        token_path = startup.token_file(settings)
        has_token = _TOKEN in archive.namelist() and settings.api_token is None
        if has_token and token_path.exists():
            raise StartError(f"{token_path} exists and would be replaced: move it away, or use another DATA_DIR.")
        url = startup.open_database(settings, patience_s=0)
        startup.run_in_transaction(url, partial(_check_target, url=url), command="backup")
        with (
            archive.open(_DUMP) as dump,
            _client("pg_restore", url, "--single-transaction") as process,
            suppress(BrokenPipeError),  # pg_restore has ended; its errors say why
        ):
            shutil.copyfileobj(dump, cast("IO[bytes]", process.stdin))
        if has_token:
            settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            startup.store_token(token_path, archive.read(_TOKEN).decode().strip())
    startup.migrate_database(url)
    return 0 if submit_waiting else fail_waiting(settings)


def fail_waiting(settings: Settings) -> int:
    """Fail the files that have no upstream task, and return their number. No gateway may run meanwhile."""
    url = startup.open_database(settings, patience_s=0)
    total = 0
    while failed := startup.run_in_transaction(url, fail_unsubmitted, command="backup"):
        total += failed
    return total


@contextmanager
def _seekable(settings: Settings, source: Path) -> Iterator[Path | IO[bytes]]:
    """The file, or for `-` a copy of standard input in DATA_DIR, because an archive is read from its end."""
    if source != STANDARD_STREAM:
        yield source
        return
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=settings.data_dir) as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
        yield file


@contextmanager
def _open(source: Path, file: Path | IO[bytes]) -> Iterator[ZipFile]:
    """A backup that this version can restore. Raises StartError."""
    try:
        archive = ZipFile(file)
    except BadZipFile as error:
        raise StartError(f"{source} is not a backup of the gateway.") from error
    except OSError as error:
        raise StartError(f"{source} cannot be read: {error.strerror}") from error
    with archive:
        if not {_MANIFEST, _DUMP} <= set(archive.namelist()):
            raise StartError(f"{source} is not a backup of the gateway.")
        _check_manifest(json.loads(archive.read(_MANIFEST)))
        yield archive


def _check_manifest(manifest: dict[str, Any]) -> None:
    if manifest["format"] != FORMAT or not migrate.knows(manifest["revision"]):
        raise StartError(
            f"The backup is of version {manifest['version']} of the gateway, which is newer than {__version__}: restore"
            " it with that version."
        )


async def _check_target(session: AsyncSession, url: str) -> None:
    where = startup.redacted_url(url)
    if await session.scalar(_TABLES):
        raise StartError(f"The database at {where} is not empty: restore into a new DATA_DIR or a new database.")
    server = await read_server_version(session)
    if server < OLDEST_SERVER:
        raise StartError(
            f"The server at {where} is PostgreSQL {server}, `restore` needs {OLDEST_SERVER} or newer: use the server's"
            " own pg_dump and pg_restore, then `python -m app fail-waiting`."
        )


@contextmanager
def _new_file(target: Path) -> Iterator[IO[bytes]]:
    """A file of mode 0600 that appears under its name when it is complete, or standard output for `-`."""
    if target == STANDARD_STREAM:
        yield from _standard_output()
        return
    if target.exists():
        raise StartError(f"{target} exists: choose another name.")
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}-", delete=False) as file:
            unfinished = Path(file.name)
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                unfinished.rename(target)
            finally:
                unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise StartError(f"{target} cannot be written: {error.strerror}") from error


def _standard_output() -> Iterator[IO[bytes]]:
    try:
        yield sys.stdout.buffer
        sys.stdout.flush()
    except OSError as error:
        # Python writes what is still buffered at its exit, and would report the same error again.
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        raise StartError(f"Standard output cannot be written: {error.strerror}") from error


@contextmanager
def _client(name: str, url: str, *options: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A program of PostgreSQL, connected to the database. Raises StartError with its first line of errors."""
    address, password = split_password(url)
    environment = {**os.environ, "LC_ALL": "C", **({"PGPASSWORD": password} if password else {})}
    command = [str(program(name)), "--no-owner", "--no-privileges", "--no-password", *options, f"--dbname={address}"]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(  # noqa: S603 - a fixed program
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment
        ) as process,
    ):
        try:
            yield process
            process.communicate()
        except BaseException:
            # pg_dump would wait for a reader for ever, and PostgreSQL could remove no dead row meanwhile.
            process.kill()
            raise
        if process.returncode:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").splitlines()
            complaints = [line for line in lines if "error:" in line] or lines or [f"exit code {process.returncode}"]
            raise StartError(" ".join(complaints[:2]))


def split_password(url: str) -> tuple[str, str]:
    """The URL without its password, which other users could see among the arguments of a process, and the password."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    password = dict(query).get("password") or unquote(parts.password or "")
    user, _, host = parts.netloc.rpartition("@")
    netloc = f"{user.partition(':')[0]}@{host}" if user else host
    kept = urlencode([(name, value) for name, value in query if name != "password"], quote_via=quote)
    return urlunsplit(parts._replace(netloc=netloc, query=kept)), password


_TABLES = text("SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')")
