"""Classifies database errors: outages become DatabaseUnavailable, with a reason and an explanation.

After an outage the same statement may succeed later: the server is unreachable or starting, refuses the login, is
read-only or out of a resource, or the transaction conflicted with another one.
"""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from asyncpg import exceptions as pg
from sqlalchemy.exc import DBAPIError, EmulatedDBAPIException
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.errors import DatabaseUnavailable

# Reasons in `/readyz`, logs and metrics by SQLSTATE or its class. The full code takes precedence over the class.
_SQLSTATE_REASONS = {
    "08": "connection_lost",
    "25006": "read_only",
    "25P03": "connection_lost",  # idle_in_transaction_session_timeout ends the session
    "25P04": "canceled",  # transaction_timeout
    # A connection pooler changed the server connection between the preparation and the use of a statement.
    "26000": "pooler",
    "28": "login_refused",
    "3D": "unknown_database",
    "40001": "conflict",
    "40003": "connection_lost",
    "40P01": "conflict",
    "42P05": "pooler",
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
# Beginnings and parts of messages of PgBouncer, which gives all its errors the SQLSTATE 08P01 (protocol violation).
_POOLER_REASONS = {
    "unsupported startup parameter": "pooler_refused",
    "bind message supplies": "pooler",  # another client's statement without a name
    "no such database": "unknown_database",
    "database does not allow connections": "unknown_database",
    "no such user": "login_refused",
    "authentication failed": "login_refused",
    "auth failed": "login_refused",
    "no more connections allowed": "too_many_connections",
    "query_wait_timeout": "too_many_connections",
    "client_login_timeout": "unreachable",
    "cannot connect to server": "unreachable",
    "server login has been failing": "unreachable",
    "query_timeout": "canceled",
}
_REMEDIES = {
    "pooler": (
        "the connection pooler in DATABASE_URL does not keep prepared statements: use its session mode, or PgBouncer"
        " 1.21 or newer with max_prepared_statements"
    ),
    "pooler_refused": (
        "the connection pooler in DATABASE_URL refuses a parameter: take it out of the URL, or add it to"
        " ignore_startup_parameters of PgBouncer"
    ),
}
# In place of messages that tell an operator nothing, or too much. The first match counts.
_EXPLANATIONS: tuple[tuple[type[BaseException], str], ...] = (
    (TimeoutError, "no response in time"),
    (ValueError, "DATABASE_URL is invalid"),  # the message may quote a part of the password
    # "cannot switch to state 12; another operation (2) is in progress": a statement came after the last message of a
    # server that stops, and before the end of the connection.
    (pg.InternalClientError, "the server ended the connection"),
)
# The first match counts: TimeoutError and ssl.SSLError are OSErrors, and some InterfaceErrors are ValueErrors.
_EXCEPTION_REASONS: tuple[tuple[type[BaseException], str | None], ...] = (
    (pg.ClientConfigurationError, None),  # an invalid URL
    (ssl.SSLError, "tls_failed"),
    (TimeoutError, "timeout"),
    (OSError, "unreachable"),
    (PoolTimeoutError, "pool_exhausted"),
    (pg.TargetServerAttributeNotMatched, "read_only"),
    (pg.InterfaceError, "connection_lost"),
    (pg.InternalClientError, "connection_lost"),
)
# Failures of a single statement, which say nothing about the database as a whole.
PASSING = {"canceled", "conflict", "locked", "pool_exhausted", "schema_changed"}
# Reads still succeed after these.
WRITE_FAILURES = {"disk_full", "out_of_memory", "out_of_resources", "read_only", "system_error"}
_ENDED = {
    *("connection_lost", "pooler", "shutting_down", "starting"),
    *("timeout", "tls_failed", "unknown_database", "unreachable"),
}


def is_outage(error: BaseException) -> bool:
    """Whether the same statement may succeed later without a change of the statement or the schema."""
    return _reason(_root(error)) is not None


def as_outage(error: Exception) -> Exception:
    """DatabaseUnavailable if `error` is an outage, otherwise `error` itself."""
    if isinstance(error, DatabaseUnavailable):
        return error
    root = _root(error)
    reason = _reason(root)
    return error if reason is None else _unavailable(reason, root)


def connect_outage(error: Exception) -> DatabaseUnavailable:
    """DatabaseUnavailable for any failure to connect: no query was sent, so the server or its address is at fault."""
    root = _root(error)
    reason = _reason(root)
    if reason is None:
        reason = "login_refused" if isinstance(root, pg.PostgresError) else "misconfigured"
    return _unavailable(reason, root)


@contextmanager
def translate_outages() -> Iterator[None]:
    """Raise DatabaseUnavailable for an outage. Other errors pass unchanged."""
    try:
        yield
    except Exception as error:
        outage = as_outage(error)
        if outage is error:
            raise
        raise outage from error


def ends_connection(error: BaseException) -> bool:
    """Whether the connection that raised the error is unusable."""
    return _reason(_root(error)) in _ENDED


def is_full(error: BaseException) -> bool:
    """Whether a connection limit of the server, the role or the database is reached."""
    return _reason(_root(error)) == "too_many_connections"


def is_pooler_error(error: BaseException) -> bool:
    """Whether a connection pooler lost the prepared statements of the connection."""
    return _reason(_root(error)) == "pooler"


def is_missing_object(error: BaseException) -> bool:
    """Whether a table, a column or a function does not exist, as before a migration."""
    return getattr(_root(error), "sqlstate", None) in {"42P01", "42703", "42883"}


def is_write_failure(error: BaseException) -> bool:
    """Whether the server still serves reads after this error."""
    return _reason(_root(error)) in WRITE_FAILURES


def is_stale(error: BaseException) -> bool:
    """Whether other open connections may lead to a server that is gone or no longer the primary."""
    reason = _reason(_root(error))
    return reason == "read_only" or reason in _ENDED


def explain(error: BaseException) -> str:
    """The message of the server or of asyncpg, in one line. Never contains the password of DATABASE_URL."""
    root = _root(error)
    if isinstance(root, DatabaseUnavailable):
        return root.explanation
    if isinstance(root, ssl.SSLCertVerificationError):
        return f"the server's TLS certificate is not accepted: {root.verify_message}"
    if isinstance(root, ssl.SSLError):
        return f"TLS failed: {root.reason or type(root).__name__}"
    if fixed := next((words for kind, words in _EXPLANATIONS if isinstance(root, kind)), None):
        return fixed
    remedy = _REMEDIES.get(_reason(root) or "")
    # asyncpg adds a hint of its own to errors of poolers, for developers.
    message = str(root).partition("\nHINT:")[0] if remedy else str(root)
    text = " ".join(message.split()) or type(root).__name__
    return f"{text}; {remedy}" if remedy else text


def _unavailable(reason: str, root: BaseException) -> DatabaseUnavailable:
    detail = f"The database is unavailable ({reason}); try again in a moment."
    return DatabaseUnavailable(detail, reason=reason, explanation=explain(root))


def _root(error: BaseException) -> BaseException:
    """The error of asyncpg inside the wrappers of SQLAlchemy and its dialect."""
    root = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    if isinstance(root, EmulatedDBAPIException):
        return root.orig or root.__cause__ or root
    return root


def _reason(root: BaseException) -> str | None:
    if isinstance(root, DatabaseUnavailable):
        return root.reason
    # Raised by asyncpg with the SQLSTATE of "feature not supported". The next attempt prepares the statement again.
    if isinstance(root, (pg.InvalidCachedStatementError, pg.OutdatedSchemaCacheError)):
        return "schema_changed"
    if isinstance(root, pg.ProtocolViolationError):
        return next((reason for part, reason in _POOLER_REASONS.items() if part in str(root)), "connection_lost")
    if isinstance(root, pg.PostgresError):
        state = str(getattr(root, "sqlstate", None) or "")
        return next(
            (_SQLSTATE_REASONS[state[:length]] for length in (5, 2) if state[:length] in _SQLSTATE_REASONS), None
        )
    return next((reason for kind, reason in _EXCEPTION_REASONS if isinstance(root, kind)), None)
