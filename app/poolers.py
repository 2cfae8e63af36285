"""Works behind a connection pooler in transaction mode, such as PgBouncer.

A pooler may run each transaction of a client on another connection to the server. Prepared statements and settings of
the session stay behind on the old one, so behind a pooler the gateway sets nothing for a session, runs each statement
in a transaction, and prepares statements without a name. This needs no support of the pooler for prepared statements.
"""

import time
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from asyncpg import Record

# Arguments of the dialect's `connect` behind a pooler. An unnamed statement lives until the next one is prepared, so
# neither asyncpg nor SQLAlchemy may keep it for a second use.
UNNAMED_STATEMENTS: dict[str, Any] = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": lambda: "",
}


class PoolerFound(Exception):
    """The connection leads to a pooler, and was opened with named statements."""


class RawConnection(Protocol):
    """The methods of an asyncpg connection that the gateway calls. asyncpg declares no types for most of them."""

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


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """Facts about the server of a new connection."""

    behind_pooler: bool  # something between the gateway and the server keeps connections of its own
    clock_ahead_s: float  # the database's clock against this machine's


async def read_facts(connection: Any) -> ServerFacts:
    """Works in all modes of a pooler, since it needs neither a session nor a named statement.

    A pooler gives each client a process number of its own for cancel requests. Directly it is that of the server
    process.
    """
    async with connection.transaction():
        statement = await connection.prepare("SELECT pg_backend_pid(), extract(epoch FROM clock_timestamp())", name="")
        asked_at = time.time()
        pid, told_at = await statement.fetchrow()
        answered_at = time.time()
    ahead_s = float(told_at) - (asked_at + answered_at) / 2
    return ServerFacts(pid != connection.get_server_pid(), ahead_s)


class PooledConnection:
    """A raw connection behind a pooler: each statement outside a transaction runs in one of its own."""

    def __init__(self, connection: RawConnection) -> None:
        self._connection = connection
        self.transaction = connection.transaction
        self.get_server_pid = connection.get_server_pid
        self.is_closed = connection.is_closed
        self.is_in_transaction = connection.is_in_transaction
        self.terminate = connection.terminate

    async def execute(self, query: str, *args: Any) -> str:
        async with self._transaction():
            return await self._connection.execute(query, *args)

    async def fetch(
        self,
        query: str,
        *args: Any,
        timeout: float | None = None,  # noqa: ASYNC109 - asyncpg's own parameter
    ) -> list[Record]:
        async with self._transaction():
            return await self._connection.fetch(query, *args, timeout=timeout)

    async def fetchval(self, query: str, *args: Any) -> Any:
        async with self._transaction():
            return await self._connection.fetchval(query, *args)

    def _transaction(self) -> AbstractAsyncContextManager[None]:
        return nullcontext() if self._connection.is_in_transaction() else self._connection.transaction()
