"""The one PostgreSQL database: engine, sessions, metadata and transactions.

Instants that are compared between processes come from the database's clock (`now()`), never from Python's.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any, Protocol
from uuid import UUID

import asyncpg
import msgspec
from asyncpg import Record
from sqlalchemy import ClauseElement, DateTime, MetaData, PoolProxiedConnection, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.util.concurrency import greenlet_spawn

from app.connections import POOL_TIMEOUT_S, Availability, Connections
from app.outages import connect_outage

CONNECT_TIMEOUT_S = 5
COMMAND_TIMEOUT_S = 30
# A standby that was promoted behind the same address is found within this time although nothing failed.
RECYCLE_S = 300
POOL_SIZE = 10
# Shorter than proxies wait, and much longer than any compiled query takes.
QUERY_TIMEOUT_S = 10.0

_PLANNING = {
    # Every statement here is short: planning with JIT costs more than it saves.
    "jit": "off",
    # Disks without heads, and rows that were written lately. With the default of 4, and no statistics yet, a list of
    # 50 sorts all jobs of the client instead of reading the end of an index: 4.5 ms among 10,000, and not 0.25.
    "random_page_cost": "1.1",
}

Sessions = async_sessionmaker[AsyncSession]
_DIALECT = dialect()  # type: ignore[no-untyped-call]


class RawConnection(Protocol):
    """The methods of an asyncpg connection that the gateway calls. asyncpg itself has no types for most of them."""

    async def execute(self, query: str, *args: Any) -> str: ...

    async def fetch(
        self,
        query: str,
        *args: Any,
        timeout: float | None = None,  # noqa: ASYNC109 - asyncpg's own parameter
    ) -> list[Record]: ...

    async def fetchval(self, query: str, *args: Any) -> Any: ...

    def transaction(self) -> AbstractAsyncContextManager[None]: ...

    def get_server_pid(self) -> int: ...

    def is_closed(self) -> bool: ...

    def is_in_transaction(self) -> bool: ...

    def terminate(self) -> None: ...


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
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own declaration
        datetime: DateTime(timezone=True),
        UUID: Uuid(),
        dict[str, Any]: JSONB,
        dict[str, str]: JSONB,
    }


def create_engine(
    database_url: str,
    *,
    pool_size: int = POOL_SIZE,
    application_name: str = "asr-gateway",
    command_timeout_s: float | None = COMMAND_TIMEOUT_S,
    availability: Availability | None = None,
) -> AsyncEngine:
    """An engine for a libpq URL. asyncpg reads the URL itself, so `sslmode`, `host=/socket` and the like work.

    Engines of one long-lived process share their `availability`, which logs outages.
    Whatever fails while connecting is DatabaseUnavailable.
    """

    async def connect(**_: Any) -> Any:
        try:
            return await asyncpg.connect(  # type: ignore[no-untyped-call]
                database_url,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=command_timeout_s,
                server_settings={"application_name": application_name, **_PLANNING},
            )
        except Exception as error:
            raise connect_outage(error) from error

    connections = Connections(pool_size, availability or Availability(log_changes=False))
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        json_deserializer=msgspec.json.decode,  # a list decodes a hundred small objects
        pool_size=pool_size,
        # None beyond these: they would be opened and closed again with every request of a busy moment, 2 ms each.
        max_overflow=0,
        # The ones used last have their statements prepared.
        pool_use_lifo=True,
        pool_timeout=POOL_TIMEOUT_S,
        pool_recycle=RECYCLE_S,
        # Values of statements are clients' URLs: signatures, which belong in no traceback.
        hide_parameters=True,
        execution_options={"connections": connections},
    )
    connections.listen(engine)
    return engine


def create_sessions(engine: AsyncEngine) -> Sessions:
    return async_sessionmaker(engine, expire_on_commit=False)


def connections_of(sessions: Sessions) -> Connections:
    engine: AsyncEngine = sessions.kw["bind"]
    connections: Connections = engine.get_execution_options()["connections"]
    return connections


@asynccontextmanager
async def transaction(sessions: Sessions, *, autocommit: bool = False) -> AsyncIterator[AsyncSession]:
    """One transaction: committed at the end of the block, rolled back on an error.

    `autocommit`: each statement is a transaction of its own instead, which saves two round trips.
    Raises DatabaseUnavailable for every error that `app.outages` counts as an outage.
    """
    connections = connections_of(sessions)
    with connections.outages_told():
        session, ending = await connections.take(partial(_begin, sessions, autocommit))
        try:
            async with ending:
                yield session
        except Exception as error:
            connections.is_lost(error)
            raise
        finally:
            connections.release()


async def _begin(sessions: Sessions, autocommit: bool) -> tuple[AsyncSession, AsyncExitStack]:
    """A session that has its connection, and the exit stack that commits."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(sessions.begin())
        await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"} if autocommit else None)
        return session, stack.pop_all()


class CompiledQuery:
    """A statement of SQLAlchemy Core that is compiled once and run on a raw connection.

    Running a statement through SQLAlchemy costs 0.15 ms of CPU, three times as much as asyncpg takes.
    Rows are asyncpg's records: JSON columns are text in them. A query fails after `timeout_s` seconds.
    """

    def __init__(self, statement: ClauseElement, *, timeout_s: float = QUERY_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        compiled: Any = statement.compile(dialect=_DIALECT)
        self._sql = str(compiled)
        self._names: list[str] = compiled.positiontup or []
        self._constants: dict[str, Any] = compiled.params  # values that the statement itself contains

    async def fetch(self, connection: RawConnection, **values: Any) -> list[Record]:
        parameters = self._constants | values
        return await connection.fetch(self._sql, *(parameters[name] for name in self._names), timeout=self._timeout_s)


@asynccontextmanager
async def raw_connection(sessions: Sessions) -> AsyncIterator[RawConnection]:
    """An asyncpg connection out of the engine's pool. Each statement is a transaction of its own.

    SQLAlchemy's own connection object takes three times as long to make as a short statement to run.
    Raises DatabaseUnavailable as `transaction` does.
    """
    engine: AsyncEngine = sessions.kw["bind"]
    connections = connections_of(sessions)
    with connections.outages_told():
        pooled = await connections.take(engine.raw_connection)
        lost = False
        try:
            yield _unwrap(pooled)
        except Exception as error:
            lost = connections.is_lost(error)
            raise
        finally:
            try:
                await greenlet_spawn(_return_to_pool, pooled, lost)
            finally:
                connections.release()


async def raw_connection_of(session: AsyncSession) -> RawConnection:
    """The asyncpg connection of a session. What runs on it is part of the session's transaction."""
    return _unwrap(await (await session.connection()).get_raw_connection())


def _unwrap(pooled: PoolProxiedConnection) -> RawConnection:
    connection: RawConnection = pooled.driver_connection  # type: ignore[assignment]
    return connection


def _return_to_pool(pooled: PoolProxiedConnection, lost: bool) -> None:
    """Discards the connection if it is lost, or if a transaction is open because its end was cancelled.

    The pool's reset does not see transactions that were begun on the raw connection.
    """
    connection = _unwrap(pooled)
    if lost:
        connection.terminate()  # `invalidate` alone says goodbye first: 2 s while the server does not respond
    if lost or (not connection.is_closed() and connection.is_in_transaction()):
        pooled.invalidate()
    pooled.close()
