"""Index the metadata of jobs below their clients, so that a list reads no entries of other clients."""

from collections.abc import Sequence

from app.schema_changes import replace_index, run_alone

revision: str = "20261129_0320"
down_revision: str | None = "20261129_0040"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_BELOW_CLIENT = "(jsonb_set('{}'::jsonb, ARRAY[client_id::text], metadata)) jsonb_path_ops"
_BESIDE_CLIENT = """(metadata || CAST('{"": "' || CAST(client_id AS text) || '"}' AS jsonb)) jsonb_path_ops"""


def upgrade() -> None:
    _replace(_BELOW_CLIENT)


def downgrade() -> None:
    _replace(_BESIDE_CLIENT)


def _replace(expression: str) -> None:
    replace_index("ix_jobs_metadata", f"jobs USING gin ({expression}) WITH (gin_pending_list_limit = 256)")
    # Without statistics of the new expression the planner takes each pair for common, and reads all jobs of the client.
    # Autovacuum would make them only after a tenth of the jobs has changed.
    run_alone("ANALYZE jobs")
