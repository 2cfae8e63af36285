"""What must hold before the gateway runs: a database with its tables, a token, a free port."""

import asyncio
import errno
import os
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import fasteners  # type: ignore[import-untyped]
import structlog
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from asyncpg import exceptions as pg
from sqlalchemy.exc import SQLAlchemyError

from app import migrate
from app.clients.service import is_revoked
from app.clients.tokens import new_token
from app.db import CONNECT_TIMEOUT_S, create_engine, create_sessions, transaction
from app.embedded.server import EmbeddedError, start_embedded
from app.errors import DatabaseUnavailable
from app.logs import register_secrets
from app.outages import connect_outage, explain, is_outage
from app.settings import Settings, SettingsError

DATABASE_PATIENCE_S = 30.0
RETRY_INTERVAL_S = 0.5
TOKEN_FILE = "api_token"  # noqa: S105 - a file's name

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
    """The gateway cannot start, though its settings may be right. The message is one line."""


def open_database(settings: Settings, *, patience_s: float = DATABASE_PATIENCE_S) -> str:
    """The URL of a database that answers. Waits for a configured one, starts or joins the embedded one.

    Raises StartError, or at once SettingsError when the server refuses the user, password or database of DATABASE_URL.
    """
    url = database_url(settings)
    _wait_while(lambda: _outage(url, pool_size=settings.database_pool_size), patience_s)
    return url


def database_url(settings: Settings) -> str:
    """The configured database, unseen, or the embedded one, which runs until the last process that uses it exits."""
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    try:
        url = start_embedded(settings.data_dir)
    except (OSError, EmbeddedError) as error:
        raise StartError(
            f"DATA_DIR got {str(settings.data_dir)!r}, needs a place where PostgreSQL can run"
            f" (its log is postgres.private/log there): {first_line(error)}"
        ) from error
    register_secrets([urlsplit(url).password or ""])
    return url


def migrate_database(url: str) -> None:
    """Bring the schema to the newest revision. Raises StartError, also when the database is newer than this code."""
    try:
        if asyncio.run(_revision(url)) == migrate.head():
            return
        migrate.upgrade(url)
    except _DATABASE_ERRORS as error:
        raise StartError(f"The database at {redacted_url(url)} cannot be migrated: {first_line(error)}") from error
    log.info("database migrated", revision=migrate.head())


def check_database(url: str) -> None:
    """Raises StartError when the database is not at the newest revision, or the code declares other tables."""
    try:
        migrate.check(url)
    except _DATABASE_ERRORS as error:
        raise StartError(
            f"The database at {redacted_url(url)} is not what the code declares: {first_line(error)}"
        ) from error


def wait_for_schema(url: str, *, patience_s: float = DATABASE_PATIENCE_S) -> None:
    """Wait until somebody has migrated the database. A newer schema counts too: a rollout may be under way."""
    older = {script.revision for script in ScriptDirectory(str(migrate.ROOT / "migrations")).walk_revisions()}
    older.discard(str(migrate.head()))
    _wait_while(lambda: _outage(url) or _schema_gap(url, older), patience_s)


def token_file(settings: Settings) -> Path:
    return settings.data_dir / TOKEN_FILE


def generated_token(settings: Settings, url: str) -> tuple[str, bool]:
    """The token of the client `default` when none is configured, and whether it was made just now.

    A token that was revoked is replaced. Two processes that start at once agree on one.
    """
    path = token_file(settings)
    if token := _valid_token(path, url):
        return token, False
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with fasteners.InterProcessLock(path.with_name(".api_token.lock")):
        if token := _valid_token(path, url):
            return token, False
        token = new_token()
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=".api_token-", delete=False
        ) as draft:  # mode 0600
            draft.write(f"{token}\n")
            draft.flush()
            os.fsync(draft.fileno())
        Path(draft.name).replace(path)
    return token, True


def bind(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen yet, so that clients are refused, not kept waiting, until all is ready."""
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


def _wait_while(trouble: Callable[[], str], patience_s: float) -> None:
    since, told = time.monotonic(), ""
    while reason := trouble():
        if time.monotonic() - since >= patience_s:
            raise StartError(f"{reason} (waited {patience_s:g} s)" if patience_s else reason)
        if reason != told:
            log.warning("waiting", reason=reason)
            told = reason
        time.sleep(RETRY_INTERVAL_S)


def _outage(url: str, *, pool_size: int | None = None) -> str:
    """Why the database cannot be reached; empty when it can. The message for a full server names `pool_size`."""
    try:
        asyncio.run(_connect_once(url))
    except Exception as error:  # noqa: BLE001 - nothing but the connection can fail here
        outage = connect_outage(error)
    else:
        return ""
    if outage.reason == "misconfigured":
        needs = "needs a URL such as postgresql://asr@db.example:5432/asr"
        raise SettingsError(f"DATABASE_URL got a value that is not shown, {needs}")
    if outage.reason in {"login_refused", "unknown_database"}:
        needs = "needs a database that lets the gateway in"
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


def _schema_gap(url: str, older: set[str]) -> str:
    try:
        revision = asyncio.run(_revision(url))
    except Exception as error:
        if not is_outage(error):
            raise
        return f"The database at {redacted_url(url)} cannot be reached: {explain(error)}"
    if revision is not None and revision not in older:
        return ""
    return f"The database at {redacted_url(url)} lacks tables of this version: run `python -m app migrate`"


async def _connect_once(url: str) -> None:
    connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)  # type: ignore[no-untyped-call]
    await connection.close()


async def _revision(url: str) -> str | None:
    connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)  # type: ignore[no-untyped-call]
    try:
        return str(await connection.fetchval("SELECT version_num FROM alembic_version"))
    except pg.UndefinedTableError:
        return None
    finally:
        await connection.close()


def redacted_url(url: str) -> str:
    """Where a database is, without user and password."""
    parts = urlsplit(url)
    return f"{parts.hostname or 'a local socket'}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _valid_token(path: Path, url: str) -> str:
    """The token in the file; empty when there is no file, or when the token was revoked."""
    if not path.exists():
        return ""
    token = path.read_text().strip()
    if not token:
        raise StartError(f"{path} is empty: delete it, and the next start makes a new token")
    return "" if asyncio.run(_is_revoked(url, token)) else token


async def _is_revoked(url: str, token: str) -> bool:
    engine = create_engine(url, pool_size=1, application_name="asr-gateway start")
    try:
        async with transaction(create_sessions(engine)) as session:
            return await is_revoked(session, token)
    finally:
        await engine.dispose()


def _not_bound(host: str, port: int, error: OSError) -> Exception:
    match error.errno:
        case errno.EADDRINUSE:
            return StartError(f"PORT got {port}, needs a free one: something listens on {host}:{port} already")
        case errno.EACCES:
            return StartError(f"PORT got {port}, needs one that this user may take, above 1023")
        case _:
            return SettingsError(f"HOST got {host!r}, needs an address of this machine: {error.strerror}")
