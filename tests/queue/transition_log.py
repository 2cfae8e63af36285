"""Triggers that record each transition of a job, a file or a task in the table `transitions`."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import raw_connection_of

COLUMNS = {"jobs": "status", "files": "status", "tasks": "state"}

_INSTALL = """
    CREATE TABLE transitions (row_kind text, before text, after text);
    CREATE UNIQUE INDEX ON transitions (row_kind, coalesce(before, ''), coalesce(after, ''));
    CREATE FUNCTION record_transition() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        before text := to_jsonb(OLD) ->> TG_ARGV[0];
        after text := to_jsonb(NEW) ->> TG_ARGV[0];
    BEGIN
        IF before IS DISTINCT FROM after THEN
            INSERT INTO transitions VALUES (TG_TABLE_NAME, before, after) ON CONFLICT DO NOTHING;
        END IF;
        RETURN NULL;
    END $$;
"""


async def record_transitions(session: AsyncSession) -> None:
    """From the commit of this transaction on."""
    triggers = [
        f"CREATE TRIGGER record_transition AFTER INSERT OR UPDATE OR DELETE ON {table}"
        f" FOR EACH ROW EXECUTE FUNCTION record_transition('{column}')"
        for table, column in COLUMNS.items()
    ]
    connection = await raw_connection_of(session)
    await connection.execute(_INSTALL + ";".join(triggers))


async def recorded_transitions(session: AsyncSession, table: str) -> set[tuple[str | None, str | None]]:
    rows = await session.execute(
        text("SELECT before, after FROM transitions WHERE row_kind = :table"), {"table": table}
    )
    return {(row.before, row.after) for row in rows}
