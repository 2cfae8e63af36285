"""Rows and pages that statements read, as PostgreSQL counts them: the cost of a query without its time."""

from typing import Any

_READ = "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables WHERE relname = $1"


async def rows_read(connection: Any, table: str) -> int:
    """Rows of the table that the current transaction of a raw connection has read so far."""
    return int(await connection.fetchval(_READ, table) or 0)


async def pages_read(connection: Any, relation: str) -> int:
    """Pages of the table or index that the current transaction of a raw connection has read so far."""
    return int(await connection.fetchval("SELECT pg_stat_get_xact_blocks_fetched($1::text::regclass)", relation))


async def index_scans(connection: Any, index: str) -> int:
    """Scans of the index that the current transaction of a raw connection has begun so far."""
    return int(await connection.fetchval("SELECT pg_stat_get_xact_numscans($1::text::regclass)", index))
