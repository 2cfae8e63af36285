"""Statements that nearly every request needs, run by the driver itself.

SQLAlchemy makes them; running them through it costs 0.15 ms of CPU each, three times what the driver takes. Rows are
the driver's records: columns of JSON are text in them.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from asyncpg import Record
from sqlalchemy import ClauseElement, PoolProxiedConnection
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.util.concurrency import greenlet_spawn

from app.db import Sessions, connections_of

Driver = Any  # asyncpg's Connection, most of which has no types
# Shorter than proxies wait, and much longer than any of these statements takes.
SHORT_TIMEOUT_S = 10.0
_DIALECT = dialect()  # type: ignore[no-untyped-call]


class Statement:
    """A statement of SQLAlchemy Core, compiled once. It fails after `timeout_s`, which callers of the API wait for."""

    def __init__(self, statement: ClauseElement, *, timeout_s: float = SHORT_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        compiled: Any = statement.compile(dialect=_DIALECT)
        self._sql = str(compiled)
        self._names: list[str] = compiled.positiontup or []
        self._fixed: dict[str, Any] = compiled.params  # values that the statement was made with

    async def fetch(self, driver: Driver, **values: Any) -> list[Record]:
        given = self._fixed | values
        rows: list[Record] = await driver.fetch(
            self._sql, *(given[name] for name in self._names), timeout=self._timeout_s
        )
        return rows


@asynccontextmanager
async def driver_connection(sessions: Sessions) -> AsyncIterator[Driver]:
    """The driver's connection out of the pool; each statement is a transaction of its own.

    From the pool itself: SQLAlchemy's own connection around it takes three times as long as a short statement.
    Raises DatabaseUnavailable as `transaction` does.
    """
    engine: AsyncEngine = sessions.kw["bind"]
    connections = connections_of(sessions)
    with connections.outages_told():
        pooled = await connections.take(engine.raw_connection)
        broken = False
        try:
            yield pooled.driver_connection
        except Exception as error:
            broken = connections.is_lost(error)
            raise
        finally:
            try:
                await greenlet_spawn(_give_back, pooled, broken)
            finally:
                connections.release()


async def driver_of(session: AsyncSession) -> Driver:
    """The driver's connection under a session that has run a statement: what runs on it is in its transaction."""
    return (await (await session.connection()).get_raw_connection()).driver_connection


def _give_back(pooled: PoolProxiedConnection, broken: bool) -> None:
    """Discard the connection after an error that ends it, or if the end of a transaction on it was cancelled.

    SQLAlchemy rolls back only transactions that it began itself.
    """
    driver: Driver = pooled.driver_connection
    if broken:
        driver.terminate()  # else `invalidate` says goodbye first, which takes 2 s while the server does not answer
    if broken or (not driver.is_closed() and driver.is_in_transaction()):
        pooled.invalidate()
    pooled.close()
