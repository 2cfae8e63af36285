"""Hold queued files of clients that have used up their budgets, and tell jobs that they wait for that."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "20261129_0030"
down_revision: str | None = "20261128_2130"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# The function without `client` stays for processes of the last release. The file of a row in `budget_holds` waits
# also when its account is accepted again, so this reason comes first. A hold whose end is over by seconds is left of a
# queue that is empty meanwhile: the next claim comes within a second.
_REASON = """
    CREATE OR REPLACE FUNCTION job_waiting_reason(
        job uuid, client uuid, job_region text, job_model text, keeps_region boolean
    )
    RETURNS text LANGUAGE plpgsql STABLE AS $$
    BEGIN
        RETURN coalesce((
            SELECT json_build_object('code', 'budget_exceeded', 'account', NULL, 'region', region, 'since', since)
            FROM budget_holds
            WHERE client_id = client AND region = job_region AND model = job_model
              AND until > statement_timestamp() - interval '5 seconds'
        ), (
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
        ));
    END $$
"""


def upgrade() -> None:
    op.create_table(
        "budget_holds",
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("client_id", "region", "model", name=op.f("pk_budget_holds")),
    )
    op.execute(_REASON)


def downgrade() -> None:
    op.execute("DROP FUNCTION job_waiting_reason(uuid, uuid, text, text, boolean)")
    op.drop_table("budget_holds")
