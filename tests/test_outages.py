"""Classification of database errors, with sessions and with raw connections."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from asyncpg.exceptions import InternalClientError, PostgresError, ProtocolViolationError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.connections import DatabaseAvailability
from app.db import Sessions, create_engine, create_sessions, raw_connection, transaction
from app.errors import DatabaseUnavailable
from app.outages import connect_outage, explain, is_outage
from app.readiness import check_writable

Way = Callable[[Sessions], AbstractAsyncContextManager[Any]]
ROLE_PASSWORD = "password-of-the-test"
WAYS = pytest.mark.parametrize("way", [transaction, raw_connection])


def raising(sqlstate: str) -> str:
    return f"DO $$ BEGIN RAISE EXCEPTION 'the server''s words' USING ERRCODE = '{sqlstate}'; END $$"


async def execute(way: Way, sessions: Sessions, statement: str) -> None:
    async with way(sessions) as connection:
        await connection.execute(text(statement) if way is transaction else statement)


@WAYS
@pytest.mark.parametrize(
    ("sqlstate", "reason"),
    [
        ("08006", "connection_lost"),
        ("08P01", "connection_lost"),
        ("25006", "read_only"),
        ("26000", "pooler"),
        ("28000", "login_refused"),
        ("28P01", "login_refused"),
        ("3D000", "unknown_database"),
        ("40001", "conflict"),
        ("40P01", "conflict"),
        ("42P05", "pooler"),
        ("53000", "out_of_resources"),
        ("53100", "disk_full"),
        ("53200", "out_of_memory"),
        ("53300", "too_many_connections"),
        ("53400", "out_of_resources"),
        ("55P03", "locked"),
        ("57014", "canceled"),
        ("57P01", "shutting_down"),
        ("57P03", "starting"),
        ("57P05", "connection_lost"),
        ("58000", "system_error"),
        ("58030", "system_error"),
    ],
)
async def test_sqlstates_of_outages_raise_database_unavailable(
    sessions: Sessions, way: Way, sqlstate: str, reason: str
) -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        await execute(way, sessions, raising(sqlstate))
    assert caught.value.reason == reason
    assert caught.value.explanation.partition(";")[0] == "the server's words"
    assert reason in caught.value.detail
    await execute(way, sessions, "SELECT 1")


@WAYS
@pytest.mark.parametrize("sqlstate", ["22003", "23505", "42703", "42501", "P0001", "XX000"])
async def test_an_invalid_statement_is_not_an_outage(sessions: Sessions, way: Way, sqlstate: str) -> None:
    with pytest.raises((DBAPIError, PostgresError)) as caught:
        await execute(way, sessions, raising(sqlstate))
    assert not is_outage(caught.value)


@WAYS
async def test_a_statement_that_takes_too_long_is_an_outage(database_url: str, way: Way) -> None:
    engine = create_engine(database_url, command_timeout_s=0.05)
    with pytest.raises(DatabaseUnavailable) as caught:
        await execute(way, create_sessions(engine), "SELECT pg_sleep(30)")
    assert caught.value.reason == "timeout"
    await engine.dispose()


@WAYS
async def test_a_plan_that_a_migration_invalidated_is_prepared_again(sessions: Sessions, way: Way) -> None:
    await execute(way, sessions, "CREATE TABLE changed (id int)")
    async with transaction(sessions) as session:
        await session.execute(text("SELECT * FROM changed"))
    await execute(way, sessions, "ALTER TABLE changed ALTER COLUMN id TYPE text")
    with pytest.raises(DatabaseUnavailable) as caught:
        await execute(transaction, sessions, "SELECT * FROM changed")
    assert caught.value.reason == "schema_changed"
    await execute(way, sessions, "SELECT * FROM changed")


@pytest.mark.parametrize("url", ["postgresql://u:p/w@127.0.0.1/x", "postgresql://u:pw@127.0.0.1:port/x"])
async def test_explanations_do_not_show_the_password(url: str) -> None:
    engine = create_engine(url.replace("p/w", "p/secret").replace("port", "secret"))
    with pytest.raises(DatabaseUnavailable) as caught:
        await execute(transaction, create_sessions(engine), "SELECT 1")
    assert "secret" not in caught.value.explanation + caught.value.detail


def test_a_refused_certificate_is_explained() -> None:
    error = ssl.SSLCertVerificationError()
    error.verify_message = "certificate has expired"
    assert explain(error) == "the server's TLS certificate is not accepted: certificate has expired"


def test_statement_on_a_connection_that_the_server_ends_is_explained() -> None:
    error = InternalClientError("cannot switch to state 12; another operation (2) is in progress")
    assert is_outage(error)
    assert explain(error) == "the server ended the connection"


@pytest.fixture
async def read_only(database_url: str, sessions: Sessions) -> AsyncIterator[Sessions]:
    """A pool with connections that were opened while the server was read-only. It accepts writes again."""
    name = database_url.partition("?")[0].rpartition("/")[2]
    await execute(transaction, sessions, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    engine = create_engine(database_url, pool_size=3)
    pool = create_sessions(engine)
    async with raw_connection(pool) as one, raw_connection(pool) as two, raw_connection(pool) as three:
        assert [await each.fetchval("SHOW transaction_read_only") for each in (one, two, three)] == ["on"] * 3
    await execute(transaction, sessions, f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    yield pool
    await engine.dispose()


@WAYS
async def test_a_refused_write_replaces_all_read_only_connections(read_only: Sessions, way: Way) -> None:
    with pytest.raises(DatabaseUnavailable):
        await execute(way, read_only, "CREATE TABLE written ()")
    await execute(way, read_only, "CREATE TABLE written ()")
    async with raw_connection(read_only) as one, raw_connection(read_only) as two:
        assert [await each.fetchval("SHOW transaction_read_only") for each in (one, two)] == ["off"] * 2


async def test_the_write_check_fails_on_a_read_only_server_without_a_change(read_only: Sessions) -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        async with transaction(read_only) as session:
            await check_writable(session)
    assert caught.value.reason == "read_only"
    async with transaction(read_only) as session:
        await check_writable(session)
        assert await session.scalar(text("SELECT pg_current_xact_id_if_assigned() IS NULL"))


async def test_a_pool_that_cannot_grow_waits_for_its_own_connections(
    database_url: str, sessions: Sessions, server_url: str
) -> None:
    name = database_url.partition("?")[0].rpartition("/")[2]
    # Superusers are exempt from the limit.
    role = f"limited_{name}"
    await execute(transaction, sessions, f"CREATE ROLE \"{role}\" LOGIN PASSWORD '{ROLE_PASSWORD}' CONNECTION LIMIT 2")
    engine = create_engine(as_user(database_url, role), pool_size=10)
    limited = create_sessions(engine)

    async def ask(way: Way) -> None:
        await execute(way, limited, "SELECT pg_sleep(0.01)")

    try:
        await asyncio.gather(*(ask(way) for way in (transaction, raw_connection) * 20))
    finally:
        await engine.dispose()
        await execute(transaction, sessions, f'DROP ROLE "{role}"')


def as_user(url: str, role: str) -> str:
    """The URL with another user, whose password is ROLE_PASSWORD."""
    scheme, _, rest = url.partition("://")
    address = rest.rpartition("@")[2] if "@" in rest.partition("/")[0] else rest
    return f"{scheme}://{role}:{ROLE_PASSWORD}@{address}"


async def test_the_begin_and_the_end_of_an_outage_are_logged(capsys: pytest.CaptureFixture[str]) -> None:
    availability = DatabaseAvailability()
    for reason in ("conflict", "unreachable", "starting", "unreachable"):
        availability.record_failure(DatabaseUnavailable("away", reason=reason, explanation="words"))
    availability.record_recovery()
    availability.record_recovery()
    captured = capsys.readouterr()
    output = captured.out + captured.err
    assert [output.count(event) for event in ("database unavailable", "database available again")] == [1, 1]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("unsupported startup parameter: jit", "pooler_refused"),
        ("unsupported startup parameter in options: search_path", "pooler_refused"),
        ('bind message supplies 2 parameters, but prepared statement "" requires 1', "pooler"),
        ("no such database: asr", "unknown_database"),
        ("no such user", "login_refused"),
        ("SASL authentication failed", "login_refused"),
        ("no more connections allowed (max_client_conn)", "too_many_connections"),
        ("query_wait_timeout", "too_many_connections"),
        ("client_login_timeout (server down)", "unreachable"),
        ("pgbouncer cannot connect to server", "unreachable"),
        ("server conn crashed?", "connection_lost"),
    ],
)
def test_errors_of_pgbouncer_are_told_apart_by_their_messages(message: str, reason: str) -> None:
    assert connect_outage(ProtocolViolationError(message)).reason == reason


@pytest.mark.parametrize("sqlstate", ["26000", "42P05"])
async def test_after_a_lost_prepared_statement_the_session_keeps_none(sessions: Sessions, sqlstate: str) -> None:
    """As behind a pooler that gives its clients the process numbers of the server."""
    async with raw_connection(sessions) as connection:
        assert await connection.fetchval("SELECT $1::int", 1) == 1
    with pytest.raises(DatabaseUnavailable) as failure:
        await execute(transaction, sessions, raising(sqlstate))
    assert "use its session mode, or PgBouncer 1.21 or newer" in failure.value.explanation
    for _ in range(2):
        async with raw_connection(sessions) as connection:
            assert await connection.fetchval("SELECT $1::int", 1) == 1
            rows = await connection.fetch("SELECT name FROM pg_prepared_statements WHERE $1", True)
            assert rows == []
            assert not connection.is_in_transaction()
        async with transaction(sessions, autocommit=True) as session:
            assert await session.scalar(text("SELECT count(*) FROM pg_prepared_statements")) == 0
