"""Access to PostgreSQL: engine, sessions, transactions, raw connections and compiled queries.

Instants that several processes compare come from the database's clock (`now()`), never from Python's.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from asyncpg import Record
from sqlalchemy import ClauseElement, DateTime, MetaData, PoolProxiedConnection, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from app import poolers
from app.connections import POOL_TIMEOUT_S, Connections, DatabaseAvailability
from app.outages import connect_outage
from app.poolers import UNNAMED_STATEMENTS, PooledConnection, PoolerFound, ServerFacts, read_facts

CONNECT_TIMEOUT_S = 5
COMMAND_TIMEOUT_S = 30
# Bounds how long connections stay on an old server after a standby behind the same address was promoted.
RECYCLE_S = 300
POOL_SIZE = 10
# Shorter than proxies wait, and much longer than any compiled query takes.
QUERY_TIMEOUT_S = 10.0

# Settings of each session, where no pooler is in between.
# All statements are short: JIT compilation costs more than it saves. random_page_cost is the value for SSDs and cached
# rows. With the default of 4 and no statistics yet, a list of 50 jobs sorts all jobs of the client instead of reading
# the end of an index: 4.5 ms among 10,000 jobs instead of 0.25 ms.
_SET_PLANNING = "SET jit = off; SET random_page_cost = 1.1"

# Names for modules that need types and run no SQL themselves.
Engine = AsyncEngine
RawConnection = poolers.RawConnection
Session = AsyncSession
Sessions = async_sessionmaker[AsyncSession]
_AFTER_COMMIT = "after_commit"
DIALECT = dialect()  # type: ignore[no-untyped-call]


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - declared this way by SQLAlchemy
        datetime: DateTime(timezone=True),
        UUID: Uuid(),
        dict[str, Any]: JSONB,
        dict[str, str]: JSONB,
    }


_ENGINE_OPTIONS: dict[str, Any] = {
    "json_deserializer": msgspec.json.decode,  # faster than json: a list decodes a hundred small objects
    # Overflow connections would be opened and closed again with each request at peak load, 2 ms each.
    "max_overflow": 0,
    # The connections used last have the statements prepared.
    "pool_use_lifo": True,
    "pool_timeout": POOL_TIMEOUT_S,
    "pool_recycle": RECYCLE_S,
    # Parameters contain clients' URLs with signatures, which must not appear in tracebacks.
    "hide_parameters": True,
}


def create_engine(
    database_url: str,
    *,
    pool_size: int = POOL_SIZE,
    application_name: str = "asr-gateway",
    command_timeout_s: float | None = COMMAND_TIMEOUT_S,
    availability: DatabaseAvailability | None = None,
) -> AsyncEngine:
    """An engine for a libpq URL. asyncpg parses the URL, so `sslmode`, `host=/socket` and the like work.

    The engines of one process share their `availability`, which logs outages.
    Every failure to connect raises DatabaseUnavailable.
    """
    connections = Connections(pool_size, availability or DatabaseAvailability(log_changes=False))
    connect = partial(
        _connect,
        database_url,
        connections.availability,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=command_timeout_s,
        # Poolers pass this setting on, but refuse most others.
        server_settings={"application_name": application_name},
    )

    def create_connection() -> Any:
        dbapi: Any = engine.sync_engine.dialect.dbapi
        if not connections.behind_pooler:
            try:
                connection = dbapi.connect(async_creator_fn=connect)
            except PoolerFound:
                connections.behind_pooler = True
            else:
                connections.behind_pooler = False
                return connection
        return dbapi.connect(async_creator_fn=connect, **UNNAMED_STATEMENTS)

    engine = create_async_engine(
        "postgresql+asyncpg://",
        creator=create_connection,
        pool_size=pool_size,
        execution_options={"connections": connections},
        **_ENGINE_OPTIONS,
    )
    connections.listen(engine)
    return engine


async def _connect(url: str, availability: DatabaseAvailability, **arguments: Any) -> Any:
    """An asyncpg connection. Raises PoolerFound, or DatabaseUnavailable for any other failure."""
    try:
        connection, facts = await _open(url, **arguments)
    except PoolerFound:
        raise
    except Exception as error:
        raise connect_outage(error) from error
    availability.record_clock(facts.clock_ahead_s)
    return connection


async def _open(url: str, **arguments: Any) -> tuple[Any, ServerFacts]:
    """An asyncpg connection that is set up. Raises PoolerFound if it uses named statements and leads to a pooler."""
    connection: Any = await asyncpg.connect(url, **arguments)  # type: ignore[no-untyped-call]
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            facts = await read_facts(connection)
            if not facts.behind_pooler:
                await connection.execute(_SET_PLANNING)
    except BaseException:
        connection.terminate()
        raise
    if facts.behind_pooler and "statement_cache_size" not in arguments:
        connection.terminate()
        raise PoolerFound
    return connection, facts


def create_sessions(engine: AsyncEngine) -> Sessions:
    return async_sessionmaker(engine, expire_on_commit=False)


@asynccontextmanager
async def command_sessions(database_url: str, command: str) -> AsyncIterator[Sessions]:
    """The sessions of a short command, on one connection, which is closed at the end."""
    engine = create_engine(database_url, pool_size=1, application_name=f"asr-gateway {command}")
    try:
        yield create_sessions(engine)
    finally:
        await engine.dispose()


def connections_of(sessions: Sessions) -> Connections:
    engine: AsyncEngine = sessions.kw["bind"]
    connections: Connections = engine.get_execution_options()["connections"]
    return connections


@asynccontextmanager
async def transaction(sessions: Sessions, *, autocommit: bool = False) -> AsyncIterator[AsyncSession]:
    """One transaction: committed at the end of the block, rolled back on an error.

    With `autocommit` each statement is a transaction of its own, which saves two round trips. Behind a pooler this has
    no effect.
    Raises DatabaseUnavailable for every error that `app.outages` classifies as an outage.
    """
    connections = connections_of(sessions)
    with connections.translate_outages():
        session, ending = await connections.take(partial(_begin, sessions, autocommit, connections))
        try:
            async with ending:
                yield session
            for action in session.info.pop(_AFTER_COMMIT, ()):
                # The transaction is committed: a log that cannot be written must not make the caller repeat it.
                with suppress(Exception):
                    action()
        except Exception as error:
            connections.is_lost(error)
            raise
        finally:
            connections.release()


def after_commit(session: Session, action: Callable[[], None]) -> None:
    """Call `action` when the session's `transaction` is committed, and never if it is rolled back.

    For log lines and counters, which must not tell of a change that did not happen. An error of `action` is ignored.
    """
    session.info.setdefault(_AFTER_COMMIT, []).append(action)


async def _begin(sessions: Sessions, autocommit: bool, connections: Connections) -> tuple[AsyncSession, AsyncExitStack]:
    """A session with its connection, and the exit stack that commits."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(sessions.begin())
        # Before the first connection a pooler would not be known yet.
        directly = autocommit and connections.behind_pooler is False
        await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"} if directly else None)
        return session, stack.pop_all()


class CompiledQuery:
    """A statement of SQLAlchemy Core that is compiled once and run on a raw connection.

    Running a statement through SQLAlchemy costs 0.15 ms of CPU, three times as much as asyncpg takes.
    Rows are asyncpg's records: JSON columns are text in them. A query fails after `timeout_s` seconds.
    With `custom_plan` it is planned for its values each time, at the cost of a transaction with one statement more.
    """

    def __init__(
        self, statement: ClauseElement, *, timeout_s: float = QUERY_TIMEOUT_S, custom_plan: bool = False
    ) -> None:
        self._timeout_s = timeout_s
        self._custom_plan = custom_plan
        compiled: Any = statement.compile(dialect=DIALECT)
        self._sql = str(compiled)
        self._names: list[str] = compiled.positiontup or []
        self._constants: dict[str, Any] = compiled.params  # values that the statement itself contains

    async def fetch(self, connection: RawConnection, **values: Any) -> list[Record]:
        parameters = self._constants | values
        arguments = [parameters[name] for name in self._names]
        if not self._custom_plan:
            return await connection.fetch(self._sql, *arguments, timeout=self._timeout_s)
        async with connection.transaction():
            await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
            return await connection.fetch(self._sql, *arguments, timeout=self._timeout_s)


@asynccontextmanager
async def raw_connection(sessions: Sessions) -> AsyncIterator[RawConnection]:
    """An asyncpg connection out of the engine's pool. Each statement is a transaction of its own.

    `AsyncEngine.connect()` costs 100 µs of CPU for each checkout, this 45 µs.
    Raises DatabaseUnavailable as `transaction` does.
    """
    engine: AsyncEngine = sessions.kw["bind"]
    connections = connections_of(sessions)
    with connections.translate_outages():
        pooled = await connections.take(engine.raw_connection)
        lost = False
        try:
            yield _usable(_unwrap(pooled), connections)
        except Exception as error:
            lost = connections.is_lost(error)
            raise
        finally:
            connections.release()  # a waiting caller runs later: nothing below awaits
            _return_to_pool(pooled, lost)


async def raw_connection_of(session: AsyncSession) -> RawConnection:
    """The asyncpg connection of a session. What runs on it is part of the session's transaction."""
    connection = await session.connection()
    connections: Connections = connection.engine.get_execution_options()["connections"]
    return _usable(_unwrap(await connection.get_raw_connection()), connections)


def _usable(connection: RawConnection, connections: Connections) -> RawConnection:
    return PooledConnection(connection) if connections.behind_pooler else connection


def _unwrap(pooled: PoolProxiedConnection) -> RawConnection:
    connection: RawConnection = pooled.driver_connection  # type: ignore[assignment]
    return connection


def _return_to_pool(pooled: PoolProxiedConnection, lost: bool) -> None:
    """Discards the connection if it is lost, or if a transaction is open because its end was canceled.

    Needs no await, and so none of SQLAlchemy's greenlets: the pool's reset finds nothing to roll back, because it
    does not see transactions that were begun on the raw connection.
    """
    connection = _unwrap(pooled)
    if lost or (not connection.is_closed() and connection.is_in_transaction()):
        connection.terminate()  # a graceful close takes 2 s while the server does not respond
        pooled.invalidate()
    pooled.close()
