"""Tell jobs why files wait whose submit got no response, while their account cannot be asked for the task."""

from collections.abc import Sequence

from alembic import op

revision: str = "20261129_0900"
down_revision: str | None = "20261129_0320"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_BEGIN = """
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
        )"""

# The files of an unsure task cannot go to another account: they may have been accepted by this one.
_UNSURE = """, (
            SELECT json_build_object('code', circuits.code, 'account', circuits.account, 'region', tasks.region,
                                     'since', circuits.opened_at)
            FROM files
            JOIN tasks ON tasks.id = files.task_id AND tasks.state = 'unsure'
            JOIN circuits ON circuits.account = tasks.account AND circuits.model = '' AND circuits.closed_at IS NULL
            WHERE files.job_id = job AND files.status = 'submitting'
            ORDER BY circuits.opened_at DESC, circuits.account LIMIT 1
        )"""

_END = """);
    END $$
"""


def upgrade() -> None:
    op.execute(_BEGIN + _UNSURE + _END)


def downgrade() -> None:
    op.execute(_BEGIN + _END)
