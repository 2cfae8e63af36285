"""Start-up checks: a reachable and migrated database, a token, a free port."""

import asyncio
import atexit
import errno
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import asyncpg
import fasteners  # type: ignore[import-untyped]
import structlog
from alembic.util import CommandError
from asyncpg import exceptions as pg
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from app import migrate
from app.clients.service import is_revoked
from app.clients.tokens import new_token
from app.db import CONNECT_TIMEOUT_S, command_sessions, transaction
from app.embedded.server import EmbeddedError, start_embedded
from app.errors import DatabaseUnavailable
from app.logs import register_secrets
from app.outages import connect_outage
from app.readiness import read_revision
from app.setting_warnings import setting_warnings
from app.settings import Settings, SettingsError

DATABASE_PATIENCE_S = 30.0
RETRY_INTERVAL_S = 0.5
TOKEN_FILE = "api_token"  # noqa: S105 - a file's name

T = TypeVar("T")
log = structlog.get_logger()


_DATABASE_ERRORS = (
    CommandError,
    DatabaseUnavailable,
    OSError,
    SQLAlchemyError,
    pg.InterfaceError,
    pg.InternalClientError,
    pg.PostgresError,
)


class StartError(Exception):
    """The gateway cannot start although its settings may be right. The message is one line."""


def temporary_data_dir(name: str) -> Path:
    """A DATA_DIR that is deleted when the process ends. Call this before `open_database`.

    What is registered first runs last: the folder is deleted after its database has stopped.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"asr-gateway-{name}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def open_database(settings: Settings, *, patience_s: float = DATABASE_PATIENCE_S) -> str:
    """The URL of a reachable database. Waits for a configured one, starts or joins the embedded one.

    Raises StartError, or SettingsError at once if the server refuses the user, password or database of DATABASE_URL.
    """
    url = database_url(settings)
    _wait_while(lambda: _outage(url, pool_size=settings.database_pool_size), patience_s)
    return url


def database_url(settings: Settings) -> str:
    """The configured URL, unchecked, or that of the embedded server, which this starts or joins."""
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    try:
        url = start_embedded(settings.data_dir)
    except (OSError, EmbeddedError) as error:
        raise StartError(
            f"DATA_DIR got {str(settings.data_dir)!r}, needs a folder in which PostgreSQL can run"
            f" (its log is postgres.private/log there): {first_line(error)}"
        ) from error
    register_secrets([urlsplit(url).password or ""])
    return url


def migrate_database(url: str) -> None:
    """Migrate to the newest revision. Raises StartError, also if the database is newer than this version."""
    try:
        if run_in_transaction(url, read_revision) == migrate.head():
            return
        migrate.upgrade(url)
    except _DATABASE_ERRORS as error:
        raise StartError(
            f"The database at {redacted_url(url)} cannot be migrated: {first_line(error)}{_grant_hint(error)}"
        ) from error
    log.info("database migrated", revision=migrate.head())


def check_database(url: str) -> None:
    """Raises StartError if the database is not at the newest revision, or differs from the declared tables."""
    try:
        migrate.check(url)
    except _DATABASE_ERRORS as error:
        raise StartError(
            f"The database at {redacted_url(url)} differs from the declared tables: {first_line(error)}"
        ) from error


def wait_for_schema(url: str, *, patience_s: float = DATABASE_PATIENCE_S) -> None:
    """Wait until another process has migrated the database. A newer schema is accepted. Raises StartError."""
    _wait_while(lambda: _outage(url) or _schema_gap(url), patience_s)


def token_file(settings: Settings) -> Path:
    return settings.data_dir / TOKEN_FILE


def generated_token(settings: Settings, url: str) -> tuple[str, bool]:
    """The token of the client `default` if none is configured, and whether it is new.

    A revoked token is replaced. Processes that start at the same time get the same token.
    """
    path = token_file(settings)
    if token := _valid_token(path, url):
        return token, False
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with fasteners.InterProcessLock(path.with_name(".api_token.lock")):
        if token := _valid_token(path, url):
            return token, False
        token = new_token()
        store_token(path, token)
    return token, True


def store_token(path: Path, token: str) -> None:
    """Write the token file atomically, readable only by this user."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".api_token-", delete=False) as file:  # mode 0600
        file.write(f"{token}\n")
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(path)


def bind(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen yet: until the gateway is ready, clients are refused instead of waiting."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise SettingsError(f"HOST got {host!r}, needs an address of this machine: {error.strerror}") from error
    bound = socket.socket(family, kind, protocol)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise _not_bound(host, port, error) from error
    return bound


def first_line(error: BaseException) -> str:
    if isinstance(error, DatabaseUnavailable):
        return error.explanation
    text = str(getattr(error, "orig", None) or error).strip()
    return " ".join((text.splitlines() or [type(error).__name__])[0].split())


def _wait_while(obstacle: Callable[[], str], patience_s: float) -> None:
    """Wait until `obstacle` returns an empty string. Raises StartError with its message after `patience_s`."""
    started_at, logged = time.monotonic(), ""
    while reason := obstacle():
        if time.monotonic() - started_at >= patience_s:
            raise StartError(f"{reason} (waited {patience_s:g} s)" if patience_s else reason)
        if reason != logged:
            log.warning("waiting", reason=reason)
            logged = reason
        time.sleep(RETRY_INTERVAL_S)


def _outage(url: str, *, pool_size: int | None = None) -> str:
    """Why the database cannot be reached, empty if it can. For a full server the message names `pool_size`."""
    try:
        asyncio.run(_connect_once(url))
    except Exception as error:  # noqa: BLE001 - only connecting can fail here
        outage = connect_outage(error)
    else:
        return ""
    if outage.reason == "misconfigured":
        needs = "needs a URL such as postgresql://asr@db.example:5432/asr"
        raise SettingsError(f"DATABASE_URL got a value that is not shown, {needs}")
    if outage.reason == "pooler_refused":
        raise SettingsError(f"DATABASE_URL got {redacted_url(url)}: {outage.explanation}")
    if outage.reason in {"login_refused", "unknown_database"}:
        needs = "needs a database that accepts the gateway's login"
        raise SettingsError(f"DATABASE_URL got {redacted_url(url)}, {needs}: {outage.explanation}")
    return (
        f"The database at {redacted_url(url)} cannot be reached: {outage.explanation}{_hint(outage.reason, pool_size)}"
    )


def _hint(reason: str, pool_size: int | None) -> str:
    if reason == "tls_failed":
        return " (see sslmode and sslrootcert in DATABASE_URL)"
    if reason == "too_many_connections" and pool_size is not None:
        return (
            f" (this process needs up to {pool_size} connections;"
            " lower DATABASE_POOL_SIZE of each process or raise max_connections)"
        )
    return ""


def _grant_hint(error: BaseException) -> str:
    """The right that a migration lacks, and the statement that grants it."""
    denied = re.search(r"permission denied for (schema|database|table|sequence) (\S+)", str(error))
    if denied is not None and denied[1] == "schema":
        return f" (as its owner: GRANT USAGE, CREATE ON SCHEMA {denied[2]} TO the user of DATABASE_URL)"
    if denied is not None or "must be owner of" in str(error):
        return " (migrate with the user that owns the tables)"
    return ""


def _schema_gap(url: str) -> str:
    try:
        gap = migrate.schema_gap(run_in_transaction(url, read_revision))
    except DatabaseUnavailable as error:
        return f"The database at {redacted_url(url)} cannot be reached: {error.explanation}"
    return f"{redacted_url(url)}: {gap}" if gap else ""


async def _connect_once(url: str) -> None:
    connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)  # type: ignore[no-untyped-call]
    await connection.close()


def run_in_transaction(url: str, work: Callable[[AsyncSession], Awaitable[T]], *, command: str = "start") -> T:
    """The result of `work` in a transaction on a connection of its own."""

    async def in_transaction() -> T:
        async with command_sessions(url, command) as sessions, transaction(sessions) as session:
            return await work(session)

    return asyncio.run(in_transaction())


def redacted_url(url: str) -> str:
    """Host, port and database of a URL, without user and password."""
    parts = urlsplit(url)
    return f"{parts.hostname or 'a local socket'}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _valid_token(path: Path, url: str) -> str:
    """The token in the file; empty if there is no file or the token was revoked."""
    if not path.exists():
        return ""
    token = path.read_text().strip()
    if not token:
        raise StartError(f"{path} is empty: delete it, and the next start generates a token")
    return "" if run_in_transaction(url, partial(is_revoked, token=token)) else token


def _not_bound(host: str, port: int, error: OSError) -> Exception:
    match error.errno:
        case errno.EADDRINUSE:
            return StartError(f"PORT got {port}, needs a free port: another process listens on {host}:{port}")
        case errno.EACCES:
            return StartError(f"PORT got {port}, needs a port that this user may bind, above 1023")
        case _:
            return SettingsError(f"HOST got {host!r}, needs an address of this machine: {error.strerror}")


def warn_of_settings(settings: Settings, *, needs_key: bool = True) -> None:
    """Log the warnings of `serve`, `api` and `poller` at their start."""
    for warning in setting_warnings(settings, needs_key=needs_key):
        log.warning("doubtful setting", detail=warning)
