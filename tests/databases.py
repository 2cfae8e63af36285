"""Databases of the tests of one process: cloned from a migrated template, emptied after a test and used again.

A clone takes several times as long as emptying a database. A test still has its database to itself while it runs.
The engine of a database keeps its connections from test to test. With new ones the server would read its catalogs, and
the gateway compile its statements, once for each test, which costs more than most tests do.
"""

import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from asyncpg import exceptions as pg
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db import create_engine
from app.errors import DatabaseUnavailable

Result = TypeVar("Result")

# A database that has grown beyond this is dropped: deleting many rows takes longer than a clone and leaves them there.
MAX_BYTES = 1 << 20
# A plan may be made for other numbers of rows than those of the next test.
_FORGET = "DISCARD PLANS"

# Waits until they have ended. Most are ending already: a client does not wait for that when it closes a connection.
_END_CONNECTIONS = """
    SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_get_activity(NULL)
    WHERE datid = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND pid <> ALL ($1::int[]) AND backend_type = 'client backend'
"""
# `schema`: what changes with tables, columns, indexes, rights, constraints, triggers, functions and statistics.
# A row that is added or changed has the largest xmin. `used`: the tables that have or had rows, and their sizes.
# A DELETE in each table would take as long as all other statements together.
_STATE = """
    SELECT ARRAY(
        SELECT (count(*), max(xmin::text::bigint), count(*) FILTER (WHERE reltuples > 0))::text FROM pg_class
        WHERE relnamespace = 'public'::regnamespace
    ) || ARRAY(
        SELECT (count(*), max(xmin::text::bigint))::text FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace
    ) || ARRAY(
        SELECT (count(*), max(xmin::text::bigint))::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    ) || ARRAY(SELECT (count(*), max(xmin::text::bigint))::text FROM pg_trigger)
    || ARRAY(SELECT version_num::text FROM alembic_version) AS schema,
    ARRAY(
        SELECT relname::text FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'alembic_version'
        AND pg_relation_size(oid) > 0
    ) AS used,
    (
        SELECT coalesce(sum(pg_relation_size(oid)), 0) FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relpersistence = 'p'
        AND relname <> 'alembic_version'
    ) AS bytes
"""


class Databases:
    """`take` gives an empty database with the newest schema, `give_back` ends its use."""

    def __init__(self, server_url: str, template: str) -> None:
        self._server_url = server_url
        self._template = template
        self._numbers = itertools.count(1)
        self._schema: list[str] | None = None
        self._free: list[str] = []
        self._engines: dict[str, AsyncEngine] = {}
        self._with_lost_connections: set[str] = set()

    async def take(self) -> str:
        """The URL."""
        if self._free:
            return self._free.pop()
        name = f"asr_test_{os.getpid()}_{next(self._numbers)}"
        await on_server(self._server_url, f'CREATE DATABASE "{name}" TEMPLATE "{self._template}"')
        url = with_database(self._server_url, name)
        if self._schema is None:
            self._schema = await _connected(url, _read_schema)
        return url

    def engine(self, url: str) -> AsyncEngine:
        """The engine of the tests that use this database."""
        if url not in self._engines:
            self._engines[url] = engine = create_engine(url)
            event.listen(engine.sync_engine, "invalidate", lambda *_: self._with_lost_connections.add(url))
        return self._engines[url]

    async def give_back(self, url: str) -> None:
        if await self._emptied(url):
            self._free.append(url)
        else:
            await self._drop(url)

    async def drop_all(self) -> None:
        """Drop the databases that no test uses."""
        while self._free:
            await self._drop(self._free.pop())

    async def _drop(self, url: str) -> None:
        await self._forget_engine(url)
        await on_server(self._server_url, f'DROP DATABASE "{urlsplit(url).path[1:]}" WITH (FORCE)')

    async def _emptied(self, url: str) -> bool:
        """False if the test changed the schema or wrote much."""
        try:
            async with self._connections(url) as connections:
                return await self._empty(*connections)
        except (DatabaseUnavailable, OSError, pg.PostgresError, SQLAlchemyError):
            return False

    @asynccontextmanager
    async def _connections(self, url: str) -> AsyncIterator[list[Any]]:
        """Those that the engine keeps. A new one if it has none, or if the test lost one or did not give it back."""
        engine = self._engines.get(url)
        pool: Any = engine and engine.pool
        if engine and (url in self._with_lost_connections or pool.checkedout()):
            await self._forget_engine(url)
            engine = None
        if not engine or not pool.checkedin():
            async with connected(url) as connection:
                yield [connection]
            return
        pooled = [await engine.raw_connection() for _ in range(pool.checkedin())]
        try:
            yield [each.driver_connection for each in pooled]
        finally:
            for each in pooled:
                each.close()

    async def _forget_engine(self, url: str) -> None:
        self._with_lost_connections.discard(url)
        if engine := self._engines.pop(url, None):
            await engine.dispose()

    async def _empty(self, connection: Any, *others: Any) -> bool:
        await connection.execute(_END_CONNECTIONS, [each.get_server_pid() for each in (connection, *others)])
        state = await connection.fetchrow(_STATE)
        if state["bytes"] > MAX_BYTES or state["schema"] != self._schema:
            return False
        # Foreign keys need no order within a transaction without them.
        deletes = "".join(f'DELETE FROM "{table}"; ' for table in state["used"])  # noqa: S608 - own names
        await connection.execute(
            f"BEGIN; SET LOCAL session_replication_role = replica; {deletes}COMMIT; SELECT pg_stat_reset(); {_FORGET}"
        )
        for other in others:
            await other.execute(_FORGET)
        return True


async def _read_schema(connection: Any) -> list[str]:
    state = await connection.fetchrow(_STATE)
    schema: list[str] = state["schema"]
    return schema


async def on_server(url: str, *statements: str) -> None:
    """Each statement is a transaction of its own."""

    async def run(connection: Any) -> None:
        for statement in statements:
            await connection.execute(statement)

    await _connected(url, run)


def with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def _connected(url: str, use: Callable[[Any], Awaitable[Result]]) -> Result:
    async with connected(url) as connection:
        return await use(connection)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    connection: Any = await asyncpg.connect(url)  # type: ignore[no-untyped-call]
    try:
        yield connection
    finally:
        await connection.close()
