"""Which errors mean that the database cannot do its work now, and how they are told.

The same statement may succeed later: the server is away or starting, refuses a login, is read-only or short of
something, or another transaction was in the way. All of them become DatabaseUnavailable.
"""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from asyncpg import exceptions as pg
from sqlalchemy.exc import DBAPIError, EmulatedDBAPIException
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.errors import DatabaseUnavailable

# The words of `/readyz`, logs and metrics. A longer prefix of the SQLSTATE goes before a shorter one.
_REASONS = {
    "08": "connection_lost",
    "25006": "read_only",
    "25P03": "connection_lost",  # idle_in_transaction_session_timeout ends the session
    "25P04": "canceled",  # transaction_timeout
    "28": "login_refused",
    "3D": "unknown_database",
    "40001": "conflict",
    "40003": "connection_lost",
    "40P01": "conflict",
    "53": "out_of_resources",
    "53100": "disk_full",
    "53200": "out_of_memory",
    "53300": "too_many_connections",
    "55P03": "locked",
    "57": "shutting_down",
    "57014": "canceled",
    "57P03": "starting",
    "57P04": "unknown_database",
    "57P05": "connection_lost",
    "58": "system_error",
}
# The first that fits: TimeoutError and ssl.SSLError are OSErrors, and some InterfaceErrors are ValueErrors.
_DRIVER_REASONS: tuple[tuple[type[BaseException], str | None], ...] = (
    (pg.ClientConfigurationError, None),  # a URL that no server would take
    (ssl.SSLError, "tls_failed"),
    (TimeoutError, "timeout"),
    (OSError, "unreachable"),
    (PoolTimeoutError, "pool_exhausted"),
    (pg.TargetServerAttributeNotMatched, "read_only"),
    (pg.InterfaceError, "connection_lost"),
    (pg.InternalClientError, "connection_lost"),
)
# These concern one statement: they do not say that the database is away.
PASSING = {"canceled", "conflict", "locked", "pool_exhausted", "schema_changed"}
# The server still answers queries that only read.
WRITE_FAILURES = {"disk_full", "out_of_memory", "out_of_resources", "read_only", "system_error"}
_ENDED = {"connection_lost", "shutting_down", "starting", "tls_failed", "timeout", "unknown_database", "unreachable"}


def is_outage(error: BaseException) -> bool:
    """Whether the same statement may succeed later without a change of the statement or the schema."""
    return _reason(_root(error)) is not None


def as_outage(error: Exception) -> Exception:
    """DatabaseUnavailable if `error` is an outage, else `error` itself."""
    if isinstance(error, DatabaseUnavailable):
        return error
    root = _root(error)
    reason = _reason(root)
    return error if reason is None else _unavailable(reason, root)


def connect_outage(error: Exception) -> DatabaseUnavailable:
    """For any error of an attempt to connect. No query was sent, so nothing but the server or its address is wrong."""
    root = _root(error)
    reason = _reason(root)
    if reason is None:
        reason = "login_refused" if isinstance(root, pg.PostgresError) else "misconfigured"
    return _unavailable(reason, root)


@contextmanager
def translate_outages() -> Iterator[None]:
    """Raises DatabaseUnavailable for an outage, and every other error as it is."""
    try:
        yield
    except Exception as error:
        outage = as_outage(error)
        if outage is error:
            raise
        raise outage from error


def ends_connection(error: BaseException) -> bool:
    """Whether the connection on which the error came cannot be used again."""
    return _reason(_root(error)) in _ENDED


def is_full(error: BaseException) -> bool:
    """Whether the server, or its limit for the role or database, gives no more connections."""
    return _reason(_root(error)) == "too_many_connections"


def is_write_failure(error: BaseException) -> bool:
    """Whether the server could still be asked for what needs no write."""
    return _reason(_root(error)) in WRITE_FAILURES


def is_stale(error: BaseException) -> bool:
    """Whether the other connections that are open may lead to a server that is gone, or is no longer the primary."""
    reason = _reason(_root(error))
    return reason == "read_only" or reason in _ENDED


def explain(error: BaseException) -> str:
    """The server's or driver's own words in one line. Never contains the password of DATABASE_URL."""
    root = _root(error)
    if isinstance(root, DatabaseUnavailable):
        return root.explanation
    if isinstance(root, ssl.SSLCertVerificationError):
        return f"the server's TLS certificate is not accepted: {root.verify_message}"
    if isinstance(root, ssl.SSLError):
        return f"TLS failed: {root.reason or type(root).__name__}"
    if isinstance(root, TimeoutError):
        return "no answer in time"
    if isinstance(root, ValueError):
        return "DATABASE_URL cannot be read"  # the message may quote a piece of the password
    text = " ".join(str(root).split())
    return text or type(root).__name__


def _unavailable(reason: str, root: BaseException) -> DatabaseUnavailable:
    detail = f"The database cannot do this now ({reason}); try again in a moment."
    return DatabaseUnavailable(detail, reason=reason, explanation=explain(root))


def _root(error: BaseException) -> BaseException:
    """The driver's error under what SQLAlchemy and its dialect wrap around it."""
    root = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    if isinstance(root, EmulatedDBAPIException):
        return root.orig or root.__cause__ or root
    return root


def _reason(root: BaseException) -> str | None:
    if isinstance(root, DatabaseUnavailable):
        return root.reason
    # asyncpg reports this one itself, with the SQLSTATE of "feature not supported". The next try prepares anew.
    if isinstance(root, (pg.InvalidCachedStatementError, pg.OutdatedSchemaCacheError)):
        return "schema_changed"
    if isinstance(root, pg.PostgresError):
        state = str(getattr(root, "sqlstate", None) or "")
        return next((_REASONS[state[:length]] for length in (5, 2) if state[:length] in _REASONS), None)
    return _driver_reason(root)


def _driver_reason(root: BaseException) -> str | None:
    return next((reason for kind, reason in _DRIVER_REASONS if isinstance(root, kind)), None)
