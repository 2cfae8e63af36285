"""Let a file belong to one account: of an upload or a hot-word list."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from app.schema_changes import create_index, replace_index

revision: str = "20261128_1800"
down_revision: str | None = "20261128_1700"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_REASON = """
    CREATE OR REPLACE FUNCTION job_waiting_reason(job uuid, job_region text, job_model text, keeps_region boolean)
    RETURNS text LANGUAGE plpgsql STABLE AS $$
    BEGIN
        RETURN (
            SELECT json_build_object('code', code, 'account', account, 'region', region, 'since', since)
            FROM blockages
            WHERE region = job_region AND model = job_model
              AND CASE WHEN only_account = '' THEN everywhere OR keeps_region OR EXISTS (
                    SELECT FROM files WHERE files.job_id = job AND files.status = 'queued'
                      AND files.region = job_region AND files.url LIKE 'oss://%')
                  ELSE EXISTS (
                    SELECT FROM files WHERE files.job_id = job AND files.status = 'queued'
                      AND files.account = only_account) END
            ORDER BY only_account LIMIT 1
        );
    END $$
"""

_REASON_BEFORE = """
    CREATE OR REPLACE FUNCTION job_waiting_reason(job uuid, job_region text, job_model text, keeps_region boolean)
    RETURNS text LANGUAGE plpgsql STABLE AS $$
    BEGIN
        RETURN (
            SELECT json_build_object('code', code, 'account', account, 'region', region, 'since', since)
            FROM blockages
            WHERE region = job_region AND model = job_model
              AND (everywhere OR keeps_region OR EXISTS (
                SELECT FROM files WHERE files.job_id = job AND files.status = 'queued'
                  AND files.region = job_region AND files.url LIKE 'oss://%'))
        );
    END $$
"""


def upgrade() -> None:
    account = sa.Column("account", sa.Text(), server_default="", nullable=False)
    op.add_column("files", account, if_not_exists=True)
    replace_index("ix_files_turns", "files (region, model, client_id, account, job_id, index) WHERE status = 'queued'")
    create_index("ix_files_account", "files (region, model, account) WHERE status = 'queued' AND account <> ''")
    op.add_column("blockages", sa.Column("only_account", sa.Text(), server_default="", nullable=False))
    op.drop_constraint("pk_blockages", "blockages", type_="primary")
    op.create_primary_key("pk_blockages", "blockages", ["region", "model", "only_account"])
    op.execute(_REASON)


def downgrade() -> None:
    op.execute(_REASON_BEFORE)
    op.execute("DELETE FROM blockages WHERE only_account <> ''")
    op.drop_constraint("pk_blockages", "blockages", type_="primary")
    op.create_primary_key("pk_blockages", "blockages", ["region", "model"])
    op.drop_column("blockages", "only_account")
    op.drop_index("ix_files_account", table_name="files")
    op.drop_index("ix_files_turns", table_name="files")
    op.create_index(
        "ix_files_turns",
        "files",
        ["region", "model", "client_id", "job_id", "index"],
        postgresql_where=sa.text("status = 'queued'"),
    )
    op.drop_column("files", "account")
