"""Create the tables of clients, jobs, files, tasks, transcripts and upstream accounts."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "20261123_0800"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "budgets",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("rate", sa.Float(), nullable=False),
        sa.Column("pace", sa.Float(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("paced_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("throttled", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("account", "kind", name=op.f("pk_budgets")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "circuits",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("upstream_code", sa.Text(), nullable=True),
        sa.Column("opened_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("probe_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("refused_probes", sa.SmallInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_circuits")),
    )
    op.create_table(
        "clients",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("token_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clients")),
    )
    op.create_index(
        "uq_clients_name_active",
        "clients",
        ["name"],
        unique=True,
        postgresql_where=sa.text("revoked_at IS NULL"),
    )
    op.create_index("uq_clients_token_sha256", "clients", ["token_sha256"], unique=True)
    op.create_table(
        "group_limits",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("max_files", sa.SmallInteger(), nullable=False),
        sa.Column("learnt_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("account", "model", name=op.f("pk_group_limits")),
    )
    op.create_table(
        "tasks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("parameters", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("file_count", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.Text(), server_default="submitting", nullable=False),
        sa.Column("upstream_task_id", sa.Text(), nullable=True),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("lost_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("look_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("looks", sa.Integer(), server_default="0", nullable=False),
        sa.Column("upstream_status", sa.Text(), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_wanted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("dropped_urls", sa.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("usage_s", sa.Integer(), nullable=True),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("trouble", sa.Text(), nullable=True),
        sa.CheckConstraint("(state = 'done') = (done_at IS NOT NULL)", name=op.f("ck_tasks_done_at_exactly_when_done")),
        sa.CheckConstraint(
            "state <> 'running' OR upstream_task_id IS NOT NULL",
            name=op.f("ck_tasks_running_is_known_upstream"),
        ),
        sa.CheckConstraint("state IN ('submitting', 'unsure', 'running', 'done')", name=op.f("ck_tasks_state")),
        sa.CheckConstraint("(lease_token IS NULL) = (lease_until IS NULL)", name=op.f("ck_tasks_lease")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tasks")),
        postgresql_with={"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.02"},
    )
    op.create_index(
        "ix_tasks_cancel",
        "tasks",
        ["account"],
        unique=False,
        postgresql_where=sa.text("state = 'running' AND cancel_wanted_at IS NOT NULL"),
    )
    op.create_index("ix_tasks_done", "tasks", ["done_at"], unique=False, postgresql_where=sa.text("state = 'done'"))
    op.create_index(
        "ix_tasks_ended",
        "tasks",
        ["account", "submitted_at"],
        unique=False,
        postgresql_where=sa.text("state = 'running' AND ended_at IS NOT NULL"),
    )
    op.create_index(
        "ix_tasks_look",
        "tasks",
        ["account", "look_at"],
        unique=False,
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_index(
        "ix_tasks_open",
        "tasks",
        ["account", "state"],
        unique=False,
        postgresql_where=sa.text("state <> 'done'"),
    )
    op.create_index("uq_tasks_upstream_task_id", "tasks", ["region", "upstream_task_id"], unique=True)
    op.create_table(
        "turns",
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("served", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("region", "model", "client_id", name=op.f("pk_turns")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "watches",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_watches")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), server_default="queued", nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("region_asked", sa.Text(), nullable=False),
        sa.Column("parameters", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("metadata", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("webhook_url", sa.Text(), nullable=True),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("request_sha256", sa.LargeBinary(), nullable=True),
        sa.Column("files_total", sa.Integer(), nullable=False),
        sa.Column("files_queued", sa.Integer(), nullable=False),
        sa.Column("files_running", sa.Integer(), server_default="0", nullable=False),
        sa.Column("files_succeeded", sa.Integer(), server_default="0", nullable=False),
        sa.Column("files_failed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("files_canceled", sa.Integer(), server_default="0", nullable=False),
        sa.Column("audio_duration_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cost", sa.Numeric(precision=18, scale=9), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.CheckConstraint(
            "(status IN ('queued', 'running')) = (finished_at IS NULL)",
            name=op.f("ck_jobs_finished_exactly_when_final"),
        ),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'partial', 'failed', 'canceled')",
            name=op.f("ck_jobs_status"),
        ),
        sa.CheckConstraint(
            "files_total = files_queued + files_running + files_succeeded + files_failed + files_canceled"
            " AND least(files_queued, files_running, files_succeeded, files_failed, files_canceled) >= 0",
            name=op.f("ck_jobs_counts"),
        ),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("fk_jobs_client_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        postgresql_with={"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.02"},
    )
    op.create_index("ix_jobs_client", "jobs", ["client_id", sa.literal_column("id DESC")], unique=False)
    op.create_index(
        "uq_jobs_idempotency_key",
        "jobs",
        ["client_id", "idempotency_key"],
        unique=True,
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    )
    op.create_table(
        "files",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("lane", sa.Uuid(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="queued", nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=True),
        sa.Column("attempts", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("group_limit", sa.SmallInteger(), nullable=True),
        sa.Column("suspect_task_id", sa.Uuid(), nullable=True),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("queued_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("error_retryable", sa.Boolean(), nullable=True),
        sa.Column("error_upstream_code", sa.Text(), nullable=True),
        sa.Column("result_failures", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("transcript_id", sa.Uuid(), nullable=True),
        sa.Column("audio_duration_ms", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(status = 'failed') = (error_code IS NOT NULL)", name=op.f("ck_files_failed_has_error")),
        sa.CheckConstraint(
            "(status IN ('queued', 'submitting', 'running')) = (finished_at IS NULL)",
            name=op.f("ck_files_finished_exactly_when_final"),
        ),
        sa.CheckConstraint(
            "(status IN ('submitting', 'running')) <= (task_id IS NOT NULL)",
            name=op.f("ck_files_under_way_has_task"),
        ),
        sa.CheckConstraint(
            "status IN ('queued', 'submitting', 'running', 'succeeded', 'failed', 'canceled')",
            name=op.f("ck_files_status"),
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_files_job_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_files_task_id")),
        sa.PrimaryKeyConstraint("job_id", "index", name=op.f("pk_files")),
        postgresql_with={"fillfactor": "80", "autovacuum_vacuum_scale_factor": "0.02"},
    )
    op.create_index(
        "ix_files_turns",
        "files",
        ["region", "model", "client_id", "job_id", "index"],
        unique=False,
        postgresql_where=sa.text("status = 'queued'"),
    )
    op.create_index(
        "ix_files_queue",
        "files",
        ["region", "model", "lane", "client_id", "job_id", "index"],
        unique=False,
        postgresql_include=["not_before"],
        postgresql_where=sa.text("status = 'queued'"),
    )
    op.create_index(
        "ix_files_suspect",
        "files",
        ["suspect_task_id"],
        unique=False,
        postgresql_where=sa.text("suspect_task_id IS NOT NULL"),
    )
    op.create_index(
        "ix_files_task", "files", ["task_id"], unique=False, postgresql_where=sa.text("task_id IS NOT NULL")
    )
    op.create_table(
        "transcripts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("file_index", sa.Integer(), nullable=False),
        sa.Column("file_url", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("audio_duration_ms", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_transcripts_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transcripts")),
    )
    op.create_index("ix_transcripts_client", "transcripts", ["client_id", sa.literal_column("id DESC")], unique=False)
    op.create_index("ix_transcripts_job", "transcripts", ["job_id"], unique=False)
    op.create_table(
        "transcript_bodies",
        sa.Column("transcript_id", sa.Uuid(), nullable=False),
        sa.Column("raw_gzip", sa.LargeBinary(), nullable=False),
        sa.Column("raw_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("raw_bytes", sa.BigInteger(), nullable=False),
        sa.Column("document_gzip", sa.LargeBinary(), nullable=False),
        sa.Column("document_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("document_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["transcript_id"],
            ["transcripts.id"],
            name=op.f("fk_transcript_bodies_transcript_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("transcript_id", name=op.f("pk_transcript_bodies")),
    )
    # gzip does not compress twice: EXTERNAL keeps PostgreSQL from trying, 20 ms instead of 250 for 14.5 MB.
    for column in ("raw_gzip", "document_gzip"):
        op.execute(f"ALTER TABLE transcript_bodies ALTER COLUMN {column} SET STORAGE EXTERNAL")


def downgrade() -> None:
    op.drop_table("transcript_bodies")
    op.drop_index("ix_transcripts_job", table_name="transcripts")
    op.drop_index("ix_transcripts_client", table_name="transcripts")
    op.drop_table("transcripts")
    op.drop_index("ix_files_task", table_name="files", postgresql_where=sa.text("task_id IS NOT NULL"))
    op.drop_index("ix_files_suspect", table_name="files", postgresql_where=sa.text("suspect_task_id IS NOT NULL"))
    op.drop_index("ix_files_turns", table_name="files", postgresql_where=sa.text("status = 'queued'"))
    op.drop_index("ix_files_queue", table_name="files", postgresql_where=sa.text("status = 'queued'"))
    op.drop_table("files")
    op.drop_index("uq_jobs_idempotency_key", table_name="jobs", postgresql_where=sa.text("idempotency_key IS NOT NULL"))
    op.drop_index("ix_jobs_client", table_name="jobs")
    op.drop_table("jobs")
    op.drop_table("watches")
    op.drop_table("turns")
    op.drop_index("uq_tasks_upstream_task_id", table_name="tasks")
    op.drop_index("ix_tasks_open", table_name="tasks", postgresql_where=sa.text("state <> 'done'"))
    op.drop_index("ix_tasks_look", table_name="tasks", postgresql_where=sa.text("state = 'running'"))
    op.drop_index("ix_tasks_done", table_name="tasks", postgresql_where=sa.text("state = 'done'"))
    op.drop_index(
        "ix_tasks_ended",
        table_name="tasks",
        postgresql_where=sa.text("state = 'running' AND ended_at IS NOT NULL"),
    )
    op.drop_index(
        "ix_tasks_cancel",
        table_name="tasks",
        postgresql_where=sa.text("state = 'running' AND cancel_wanted_at IS NOT NULL"),
    )
    op.drop_table("tasks")
    op.drop_table("group_limits")
    op.drop_index("uq_clients_token_sha256", table_name="clients")
    op.drop_index("uq_clients_name_active", table_name="clients", postgresql_where=sa.text("revoked_at IS NULL"))
    op.drop_table("clients")
    op.drop_table("circuits")
    op.drop_table("budgets")
