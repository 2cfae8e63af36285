"""Index lists by status, model, region and metadata together with the client, and vacuum transcripts earlier."""

from collections.abc import Sequence

from alembic import op

from app.schema_changes import create_index, drop_index, replace_index

revision: str = "20261128_2120"
down_revision: str | None = "20261128_2110"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_METADATA = """(metadata || CAST('{"": "' || CAST(client_id AS text) || '"}' AS jsonb)) jsonb_path_ops"""


def upgrade() -> None:
    for table in ("transcripts", "transcript_bodies"):
        op.execute(
            f"ALTER TABLE {table} SET"
            " (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05)"
        )
    create_index("ix_jobs_model", "jobs (client_id, model, region, id DESC)")
    replace_index("ix_jobs_unusual", "jobs (client_id, status, model, region, id DESC) WHERE status <> 'succeeded'")
    replace_index("ix_jobs_metadata", f"jobs USING gin ({_METADATA}) WITH (gin_pending_list_limit = 256)")
    create_index("ix_transcripts_model", "transcripts (client_id, model, region, id DESC)")


def downgrade() -> None:
    drop_index("ix_transcripts_model")
    replace_index("ix_jobs_metadata", "jobs USING gin (metadata jsonb_path_ops)")
    replace_index("ix_jobs_unusual", "jobs (client_id, id DESC) WHERE status <> 'succeeded'")
    drop_index("ix_jobs_model")
    for table in ("transcripts", "transcript_bodies"):
        op.execute(f"ALTER TABLE {table} RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_insert_scale_factor)")
