"""Compiled queries on raw connections."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import ARRAY, Text, any_, bindparam, column, func, literal_column, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db import CompiledQuery, Sessions, create_engine, create_sessions, raw_connection, transaction
from app.errors import DatabaseUnavailable

ONE = CompiledQuery(select(literal_column("1")))


@pytest.fixture
async def lasting(database_url: str) -> AsyncIterator[Sessions]:
    """A pool whose connections stay open."""
    engine: AsyncEngine = create_engine(database_url, pool_size=2)
    yield create_sessions(engine)
    await engine.dispose()


async def test_values_are_bound_by_name(sessions: Sessions) -> None:
    words = func.unnest(bindparam("words", type_=ARRAY(Text))).table_valued("word").render_derived()
    statement = CompiledQuery(
        select(words.c.word, (func.now() - timedelta(days=1) < func.now()).label("past")).where(
            words.c.word == any_(bindparam("wanted", type_=ARRAY(Text)))
        )
    )
    async with raw_connection(sessions) as connection:
        rows = await statement.fetch(connection, wanted=["b", "c"], words=["a", "b"])
    assert [tuple(row) for row in rows] == [("b", True)]


async def test_each_statement_is_a_transaction_of_its_own(sessions: Sessions) -> None:
    ids = CompiledQuery(select(func.pg_current_xact_id().cast(Text)))
    async with raw_connection(sessions) as connection:
        assert (await ids.fetch(connection))[0][0] != (await ids.fetch(connection))[0][0]


async def test_connections_that_the_server_closed_are_replaced(lasting: Sessions, sessions: Sessions) -> None:
    async with raw_connection(lasting) as first, raw_connection(lasting) as second:
        pids = [each.get_server_pid() for each in (first, second)]
    async with transaction(sessions) as session:
        await session.execute(
            text("SELECT pg_terminate_backend(pid) FROM unnest(CAST(:pids AS int[])) AS pid"), {"pids": pids}
        )
    async with asyncio.timeout(10):
        while not first.is_closed() or not second.is_closed():  # noqa: ASYNC110 - asyncpg has no signal for it
            await asyncio.sleep(0.01)
    async with raw_connection(lasting) as connection:
        assert await ONE.fetch(connection)
        assert connection.get_server_pid() not in pids


async def test_a_lost_connection_is_an_outage(lasting: Sessions, sessions: Sessions) -> None:
    async def query_until_it_fails() -> None:
        async with raw_connection(lasting) as connection:
            async with transaction(sessions) as session:
                await session.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": connection.get_server_pid()})
            for _ in range(10):
                await ONE.fetch(connection)

    with pytest.raises(DatabaseUnavailable):
        await query_until_it_fails()


async def test_an_invalid_statement_is_not_an_outage(sessions: Sessions) -> None:
    with pytest.raises(Exception, match="nowhere"):
        async with raw_connection(sessions) as connection:
            await CompiledQuery(select(column("nowhere"))).fetch(connection)
