"""Schema changes that let a running gateway go on. The revisions in `migrations` call them.

A change of an existing table takes its locks for moments (`lock_timeout` of `migrations/env.py`), or it runs outside of
a transaction and takes locks that block neither reads nor writes. An interrupted change can be repeated.
"""

from typing import Any

from alembic import op
from sqlalchemy import text

# Rows that one transaction of `run_in_batches` writes.
BATCH = 1000

_IS_INVALID = text("SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass(:name) AND NOT indisvalid)")


def create_index(name: str, definition: str) -> None:
    """Build an index beside reads and writes. `definition` follows ON: `jobs (client_id, id DESC) WHERE …`.

    Commits the transaction of the revision. An invalid index of an interrupted build is dropped and built again.
    """
    if op.get_bind().scalar(_IS_INVALID, {"name": name}):
        drop_index(name)
    run_alone(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {definition}")


def drop_index(name: str) -> None:
    """Drop an index beside reads and writes, if it exists. Commits the transaction of the revision."""
    run_alone(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def replace_index(name: str, definition: str) -> None:
    """Give an index another definition: the old one serves until the new one is built. Commits as `create_index`."""
    new = f"{name}_new"
    create_index(new, definition)
    drop_index(name)
    # The transaction of the revision, which records that the revision is done.
    op.execute(f"ALTER INDEX {new} RENAME TO {name}")


def replace_check(table: str, name: str, condition: str) -> None:
    """Replace a CHECK constraint. New rows are checked at once, existing ones while writes go on.

    Commits the transaction of the revision.
    """
    op.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}")
    op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID")
    run_alone(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")


def run_in_batches(table: str, statement: str) -> None:
    """Run a statement for all rows of a table by their `id`, in transactions of BATCH rows.

    `statement` reads the rows of a batch from `batch`, and must do no harm if it is repeated.
    """
    run_alone(f"""
        DO $$
        DECLARE
            last_id uuid := '00000000-0000-0000-0000-000000000000';
        BEGIN
            LOOP
                WITH batch AS MATERIALIZED (
                    SELECT * FROM {table} WHERE id > last_id ORDER BY id LIMIT {BATCH} FOR KEY SHARE
                ), changed AS ({statement})
                SELECT id INTO last_id FROM batch ORDER BY id DESC LIMIT 1;
                EXIT WHEN NOT FOUND;
                COMMIT;
            END LOOP;
        END $$
    """)  # noqa: S608 - the texts of revisions


def run_alone(statement: str) -> None:
    """Run a statement outside of a transaction, after committing that of the revision.

    asyncpg sends a statement without parameters as one message, so a pooler in transaction mode passes it on whole.
    """
    with op.get_context().autocommit_block():
        pooled: Any = op.get_bind().connection
        pooled.dbapi_connection.run_async(lambda connection: connection.execute(statement))
