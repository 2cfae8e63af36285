"""Open circuits for one model of an account, and tell jobs why they wait."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "20261128_0900"
down_revision: str | None = "20261123_1500"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_CODES = {"account_refused": "account_key_refused", "account_in_arrears": "account_unpaid"}
_RENAME = sa.text("UPDATE circuits SET code = :new WHERE code = :old")

# PL/pgSQL keeps its plan: in the statements that read jobs the same would be planned each time, for 0.16 ms. Uploads
# stay in their region also where the job may change its own.
_REASON = """
    CREATE FUNCTION job_waiting_reason(job uuid, job_region text, job_model text, keeps_region boolean)
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
    op.add_column("circuits", sa.Column("model", sa.Text(), server_default="", nullable=False))
    op.add_column("circuits", sa.Column("probe_lease_until", sa.DateTime(timezone=True), nullable=True))
    op.drop_constraint("pk_circuits", "circuits", type_="primary")
    op.create_primary_key("pk_circuits", "circuits", ["account", "model"])
    for old, new in _CODES.items():
        op.get_bind().execute(_RENAME, {"old": old, "new": new})
    op.create_table(
        "blockages",
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("everywhere", sa.Boolean(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("region", "model", name=op.f("pk_blockages")),
    )
    op.execute(_REASON)


def downgrade() -> None:
    op.execute("DROP FUNCTION job_waiting_reason")
    op.drop_table("blockages")
    # A circuit of the whole account is all that the older form can say; the others are learnt anew.
    op.execute("DELETE FROM circuits WHERE model <> '' OR code NOT IN ('account_key_refused', 'account_unpaid')")
    for old, new in _CODES.items():
        op.get_bind().execute(_RENAME, {"old": new, "new": old})
    op.drop_constraint("pk_circuits", "circuits", type_="primary")
    op.create_primary_key("pk_circuits", "circuits", ["account"])
    op.drop_column("circuits", "probe_lease_until")
    op.drop_column("circuits", "model")
