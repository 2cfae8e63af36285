"""The tables of jobs, files and tasks. `app.queue.lifecycle` has their states.

A job is one request of a client, a file is one URL of a job, and a task is one submit to DashScope with files of one
or several jobs. The job row holds counters, so that reading a job does not count files.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    SmallInteger,
    Text,
    false,
    func,
    literal_column,
    text,
    true,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.identifiers import new_id

# The metadata of a job under the id of its client: `{"<client_id>": {"call": "4711"}}`. As PostgreSQL writes it, for
# Alembic.
METADATA_OF_CLIENT = "jsonb_set('{}'::jsonb, ARRAY[client_id::text], metadata)"


class Job(Base):
    """`files_*` count the job's files by status. They change in the same transaction as the files."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint("status IN ('queued', 'running', 'succeeded', 'partial', 'failed', 'canceled')", name="status"),
        CheckConstraint(
            "(status IN ('queued', 'running')) = (finished_at IS NULL)", name="finished_exactly_when_final"
        ),
        CheckConstraint(
            "files_total = files_queued + files_running + files_succeeded + files_failed + files_canceled"
            " AND least(files_queued, files_running, files_succeeded, files_failed, files_canceled) >= 0",
            name="counts",
        ),
        Index("ix_jobs_client", "client_id", text("id DESC")),
        Index(
            "uq_jobs_idempotency_key",
            "client_id",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
        # For lists by model and region (`app.loose_scans`): without the index they read all jobs of the client.
        Index("ix_jobs_model", "client_id", "model", "region", text("id DESC")),
        # The same for lists of open, failed and canceled jobs, which are rare. It costs 10 µs per job, because the two
        # changes of its status are no longer HOT.
        Index(
            "ix_jobs_unusual",
            "client_id",
            "status",
            "model",
            "region",
            text("id DESC"),
            postgresql_where=text("status <> 'succeeded'"),
        ),
        # An entry is a hash of client, key and value together, so a list reads no entries of other clients. Each list
        # reads the whole pending list.
        Index(
            "ix_jobs_metadata",
            literal_column(METADATA_OF_CLIENT).label("metadata_of_client"),
            postgresql_using="gin",
            postgresql_ops={"metadata_of_client": "jsonb_path_ops"},
            postgresql_with={"gin_pending_list_limit": "256"},
        ),
        # Counters change with every file. Free space on the page keeps these updates HOT: they write no index entry.
        {"postgresql_with": {"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.02"}},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    client_id: Mapped[UUID] = mapped_column(ForeignKey("clients.id"))
    status: Mapped[str] = mapped_column(Text, default="queued", server_default="queued")
    model: Mapped[str] = mapped_column(Text)
    region: Mapped[str] = mapped_column(Text)
    # The region in the request. With `auto`, queued files may move to another region while an account is blocked.
    requested_region: Mapped[str] = mapped_column(Text)
    parameters: Mapped[dict[str, Any]]
    # SQLAlchemy's declarative base has an attribute `metadata`.
    metadata_: Mapped[dict[str, str]] = mapped_column("metadata")
    webhook_url: Mapped[str | None] = mapped_column(Text)
    idempotency_key: Mapped[str | None] = mapped_column(Text)
    request_sha256: Mapped[bytes | None] = mapped_column(LargeBinary)
    files_total: Mapped[int] = mapped_column(Integer)
    files_queued: Mapped[int] = mapped_column(Integer)
    files_running: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    files_succeeded: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    files_failed: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    files_canceled: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    audio_duration_ms: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    cost: Mapped[Decimal] = mapped_column(Numeric(18, 9), default=Decimal(0), server_default="0")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    # Incremented by every change: part of the ETag of a job, and the id of its events.
    version: Mapped[int] = mapped_column(Integer, default=1, server_default="1")


class File(Base):
    """One URL of a job. The API shows `submitting` (claimed, not yet accepted upstream) as `queued`."""

    __tablename__ = "files"
    __table_args__ = (
        CheckConstraint(
            "status IN ('queued', 'submitting', 'running', 'succeeded', 'failed', 'canceled')", name="status"
        ),
        CheckConstraint(
            "(status IN ('queued', 'submitting', 'running')) = (finished_at IS NULL)",
            name="finished_exactly_when_final",
        ),
        CheckConstraint("(status IN ('submitting', 'running')) <= (task_id IS NOT NULL)", name="under_way_has_task"),
        CheckConstraint("(status = 'failed') = (error_code IS NOT NULL)", name="failed_has_error"),
        # The queue, in the order of claiming. It has queued rows only, so finished rows do not slow down claims.
        Index(
            "ix_files_queue",
            "region",
            "model",
            "group_key",
            "client_id",
            "job_id",
            "index",
            postgresql_where=text("status = 'queued'"),
            postgresql_include=["not_before"],  # a claim reads only the rows that it takes
        ),
        # The queue by client: which clients have queued files, and the oldest file of each.
        Index(
            "ix_files_turns",
            "region",
            "model",
            "client_id",
            "account",
            "job_id",
            "index",
            postgresql_where=text("status = 'queued'"),
        ),
        # The accounts that own queued files.
        Index(
            "ix_files_account",
            "region",
            "model",
            "account",
            postgresql_where=text("status = 'queued' AND account <> ''"),
        ),
        Index("ix_files_task", "task_id", postgresql_where=text("task_id IS NOT NULL")),
        Index("ix_files_suspect", "suspect_task_id", postgresql_where=text("suspect_task_id IS NOT NULL")),
        {"postgresql_with": {"fillfactor": "80", "autovacuum_vacuum_scale_factor": "0.02"}},
    )

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    index: Mapped[int] = mapped_column(Integer, primary_key=True)
    client_id: Mapped[UUID]
    region: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    # The only account that may submit the file, because an upload or a hot-word list belongs to it. Empty: any account.
    account: Mapped[str] = mapped_column(Text, default="", server_default="")
    # Files with the same key have the same parameters and account, and may share a task within a region and model.
    group_key: Mapped[UUID]
    url: Mapped[str] = mapped_column(Text)
    # The URL of the request if it differs from `url`, for protocols whose responses repeat it unchanged.
    given_url: Mapped[str | None] = mapped_column(Text)
    # How responses name the file if another URL was sent: `oss://` and the path of that URL. Set for `upload://` files.
    sent_as: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text, default="queued", server_default="queued")
    # The last task that carried the file. NULL after a cancel, a retry, or a submit that did not reach upstream.
    task_id: Mapped[UUID | None] = mapped_column(ForeignKey("tasks.id"))
    # Submits that upstream accepted. A 429, a refused group and a deploy do not count.
    attempts: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")
    # Set after a refused group: the largest group for the next submit of this file.
    group_limit: Mapped[int | None] = mapped_column(SmallInteger)
    # The task of the refused group. When all its files have been accepted in smaller groups, its size was the cause.
    suspect_task_id: Mapped[UUID | None]
    not_before: Mapped[datetime | None]
    # Submits of this file alone that upstream refused for the account, although the account was accepted with others.
    refusals: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")
    # The first of these refusals.
    refused_since: Mapped[datetime | None]
    queued_at: Mapped[datetime] = mapped_column(server_default=func.now())
    error_code: Mapped[str | None] = mapped_column(Text)
    error_message: Mapped[str | None] = mapped_column(Text)
    error_retryable: Mapped[bool | None]
    error_upstream_code: Mapped[str | None] = mapped_column(Text)
    # Failed fetches of a result that upstream reports as available: expired link, no JSON, truncated.
    result_failures: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")
    transcript_id: Mapped[UUID | None]
    # The transcript is a copy of an earlier one of the client: the file was not sent upstream.
    reused: Mapped[bool] = mapped_column(default=False, server_default=false())
    audio_duration_ms: Mapped[int | None] = mapped_column(BigInteger)
    # What upstream billed for a file that succeeded, in the units of the model's price, and its exact cost in the
    # currency of that price.
    billed_s: Mapped[Decimal | None] = mapped_column(Numeric(14, 3))
    input_tokens: Mapped[int | None] = mapped_column(Integer)
    output_tokens: Mapped[int | None] = mapped_column(Integer)
    cost: Mapped[Decimal | None] = mapped_column(Numeric(18, 9))
    finished_at: Mapped[datetime | None]


class Task(Base):
    """One submit to DashScope. The row is written before the call, and then follows the task.

    `submitting`: the call may be under way, by the holder of the lease. `unsure`: the response was lost, so upstream
    may or may not have the task. `running`: accepted, until the task has ended and its results are stored. `done`.
    """

    __tablename__ = "tasks"
    __table_args__ = (
        CheckConstraint("state IN ('submitting', 'unsure', 'running', 'done')", name="state"),
        CheckConstraint("(state = 'done') = (done_at IS NOT NULL)", name="done_at_exactly_when_done"),
        CheckConstraint("state <> 'running' OR upstream_task_id IS NOT NULL", name="running_is_known_upstream"),
        CheckConstraint("(lease_token IS NULL) = (lease_until IS NULL)", name="lease"),
        Index("uq_tasks_upstream_task_id", "region", "upstream_task_id", unique=True),
        Index("ix_tasks_open", "account", "state", postgresql_where=text("state <> 'done'")),
        Index("ix_tasks_poll", "account", "next_poll_at", postgresql_where=text("state = 'running'")),
        Index("ix_tasks_done", "done_at", postgresql_where=text("state = 'done'")),
        Index(
            "ix_tasks_ended",
            "account",
            "next_poll_at",
            postgresql_where=text("state = 'running' AND ended_at IS NOT NULL"),
        ),
        Index(
            "ix_tasks_cancel",
            "account",
            postgresql_where=text("state = 'running' AND cancel_wanted_at IS NOT NULL"),
        ),
        {"postgresql_with": {"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.02"}},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    account: Mapped[str] = mapped_column(Text)
    region: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    parameters: Mapped[dict[str, Any]]
    file_count: Mapped[int] = mapped_column(SmallInteger)
    state: Mapped[str] = mapped_column(Text, default="submitting", server_default="submitting")
    upstream_task_id: Mapped[str | None] = mapped_column(Text)
    # Of upstream's response to the submit, also if it was a refusal.
    upstream_request_id: Mapped[str | None] = mapped_column(Text)
    lease_token: Mapped[UUID | None]
    lease_until: Mapped[datetime | None]
    # Upstream may have created the task between `created_at` and `lost_at`, when the call was given up.
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    lost_at: Mapped[datetime | None]
    # When the whole task list was first read without the task. NULL after a reading that may have the task.
    absent_since: Mapped[datetime | None]
    submitted_at: Mapped[datetime | None]
    # `running`: time of the next poll, which for an ended task is its turn; `unsure`: time of the next reconciliation.
    next_poll_at: Mapped[datetime | None]
    polls: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    upstream_status: Mapped[str | None] = mapped_column(Text)
    # When the list or a poll first reported the end. Upstream keeps the results for about 24 hours from then.
    ended_at: Mapped[datetime | None]
    # When its last open file was canceled. The poller then cancels the task upstream if it is still PENDING.
    cancel_wanted_at: Mapped[datetime | None]
    # URLs of files that were canceled during the submit. The upstream task contains them nevertheless.
    canceled_urls: Mapped[list[str]] = mapped_column(ARRAY(Text), default=list, server_default="{}")
    # Upstream's figure for the whole task, for usage reports.
    usage_s: Mapped[int | None] = mapped_column(Integer)
    done_at: Mapped[datetime | None]
    # Why the last poll did not finish the task: one line without secrets, for operators.
    last_error: Mapped[str | None] = mapped_column(Text)


class DroppedFile(Base):
    """A file that was canceled after its task may have been submitted: upstream may transcribe and bill it.

    Also a stored file, with `open` false, if its job was deleted before the other files of its task were stored. The
    task is polled to its end for the bill. The row outlives the job, and is deleted some minutes after that end.
    """

    __tablename__ = "dropped_files"
    __table_args__ = (Index("ix_dropped_files_client", "client_id"),)

    # The task is deleted if upstream does not have it.
    task_id: Mapped[UUID] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True)
    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    index: Mapped[int] = mapped_column(Integer, primary_key=True)
    client_id: Mapped[UUID]
    region: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    url: Mapped[str] = mapped_column(Text)
    # How responses name the file.
    sent_as: Mapped[str] = mapped_column(Text)
    # The metadata of the job.
    metadata_: Mapped[dict[str, str]] = mapped_column("metadata")
    # True until upstream's bill for the file is known.
    open: Mapped[bool] = mapped_column(default=True, server_default=true())
    result_failures: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")
    # The same columns as of a file. NULL if upstream bills nothing.
    audio_duration_ms: Mapped[int | None] = mapped_column(BigInteger)
    billed_s: Mapped[Decimal | None] = mapped_column(Numeric(14, 3))
    input_tokens: Mapped[int | None] = mapped_column(Integer)
    output_tokens: Mapped[int | None] = mapped_column(Integer)
    cost: Mapped[Decimal | None] = mapped_column(Numeric(18, 9))


class GroupLimit(Base):
    """Files per task that an account accepts for a model, where it accepts fewer than the catalogue says."""

    __tablename__ = "group_limits"

    account: Mapped[str] = mapped_column(Text, primary_key=True)
    model: Mapped[str] = mapped_column(Text, primary_key=True)
    max_files: Mapped[int] = mapped_column(SmallInteger)
    learnt_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Turn(Base):
    """When a client was last served at a region and model: the client that was served longest ago is next."""

    __tablename__ = "turns"
    __table_args__ = ({"postgresql_with": {"fillfactor": "50"}},)

    region: Mapped[str] = mapped_column(Text, primary_key=True)
    model: Mapped[str] = mapped_column(Text, primary_key=True)
    client_id: Mapped[UUID] = mapped_column(primary_key=True)
    last_served_us: Mapped[int] = mapped_column(BigInteger)


class ListLease(Base):
    """The poller that reads an account's task list. One poller reads a list, however many replicas run."""

    __tablename__ = "list_leases"
    __table_args__ = ({"postgresql_with": {"fillfactor": "50"}},)

    account: Mapped[str] = mapped_column(Text, primary_key=True)
    lease_token: Mapped[UUID | None]
    lease_until: Mapped[datetime | None]


class Blockage(Base):
    """A region and model that no account can serve now: the `waiting_reason` of the jobs that wait there.

    With an `only_account`, the row is about the files that only this account may submit.

    Pollers derive the rows from the circuits. The API only reads the rows, without a poller or the settings.
    """

    __tablename__ = "blockages"

    region: Mapped[str] = mapped_column(Text, primary_key=True)
    model: Mapped[str] = mapped_column(Text, primary_key=True)
    only_account: Mapped[str] = mapped_column(Text, primary_key=True, default="", server_default="")
    # Whether files that may change their region are blocked too: no other region can take them.
    everywhere: Mapped[bool]
    code: Mapped[str] = mapped_column(Text)
    # None if the region has no account.
    account: Mapped[str | None] = mapped_column(Text)
    since: Mapped[datetime]
