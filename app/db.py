"""The one PostgreSQL database: engine, sessions, metadata, and the translation of its outages.

Instants that are compared between processes come from the database's clock (`now()`), never from Python's.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from asyncpg import exceptions as pg
from sqlalchemy import DateTime, MetaData, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from app.errors import DatabaseUnavailable

CONNECT_TIMEOUT_S = 5
COMMAND_TIMEOUT_S = 30

_PLANNING = {
    # Every statement here is short: planning with JIT costs more than it saves.
    "jit": "off",
    # Disks without heads, and rows that were written lately. With the default of 4, and no statistics yet, a list of
    # 50 sorts all jobs of the client instead of reading the end of an index: 4.5 ms among 10,000, and not 0.25.
    "random_page_cost": "1.1",
}

Sessions = async_sessionmaker[AsyncSession]


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
    pool_size: int = 10,
    application_name: str = "asr-gateway",
    command_timeout_s: float | None = COMMAND_TIMEOUT_S,
) -> AsyncEngine:
    """An engine for a libpq URL. asyncpg reads the URL itself, so `sslmode`, `host=/socket` and the like work."""

    async def connect(**_: Any) -> Any:
        return await asyncpg.connect(  # type: ignore[no-untyped-call]
            database_url,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=command_timeout_s,
            server_settings={"application_name": application_name, **_PLANNING},
        )

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        json_deserializer=msgspec.json.decode,  # a list decodes a hundred small objects
        pool_size=pool_size,
        # None beyond these: they would be opened and closed again with every request of a busy moment, 2 ms each.
        max_overflow=0,
        # The ones used last have their statements prepared.
        pool_use_lifo=True,
        pool_timeout=10,
        # Values of statements are clients' URLs: signatures, which belong in no traceback.
        hide_parameters=True,
    )


def create_sessions(engine: AsyncEngine) -> Sessions:
    return async_sessionmaker(engine, expire_on_commit=False)


@asynccontextmanager
async def transaction(sessions: Sessions) -> AsyncIterator[AsyncSession]:
    """One transaction: committed at the end of the block, rolled back on an error.

    Raises DatabaseUnavailable when PostgreSQL cannot be reached, restarts, or has no connection to give.
    """
    with outages_told():
        async with sessions.begin() as session:
            yield session


@contextmanager
def outages_told() -> Iterator[None]:
    """Raises DatabaseUnavailable for what says that PostgreSQL is away, and everything else as it is."""
    try:
        yield
    except (
        DBAPIError,
        OSError,
        PoolTimeoutError,
        pg.PostgresError,
        pg.InterfaceError,
        pg.InternalClientError,
    ) as error:
        if is_outage(error):
            raise outage_of(error) from error
        raise


def outage_of(error: Exception) -> Exception:
    """What to tell of it: DatabaseUnavailable, if it says that PostgreSQL is away."""
    if not is_outage(error):
        return error
    return DatabaseUnavailable("The database cannot be reached; try again in a moment.")


def is_outage(error: BaseException) -> bool:
    """Whether an error says that PostgreSQL is away, rather than that the statement was wrong."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or (error.orig is not None and is_outage(error.orig))
    cause = error.__cause__
    outages = (
        OSError,
        PoolTimeoutError,
        asyncio.TimeoutError,
        pg.PostgresConnectionError,
        pg.CannotConnectNowError,
        pg.AdminShutdownError,
        pg.CrashShutdownError,
        pg.TooManyConnectionsError,
        pg.InterfaceError,
        pg.InternalClientError,  # the server's farewell came while the connection was idle, and is read now
        pg.ReadOnlySQLTransactionError,
    )
    return isinstance(error, outages) or (cause is not None and is_outage(cause))


def is_conflict(error: DBAPIError) -> bool:
    """Whether two transactions were in each other's way: the same one may succeed when it is done again."""
    return getattr(error.orig, "sqlstate", None) in {"40001", "40P01"}  # serialization failure, deadlock
