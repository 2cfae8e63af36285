"""Tables of webhooks: deliveries, their attempts, the clients' signing secrets, and disabled URLs."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, LargeBinary, SmallInteger, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.identifiers import new_id


class Delivery(Base):
    """One event for one URL. The body is stored with the event, so that every attempt sends the same bytes."""

    __tablename__ = "deliveries"
    __table_args__ = (
        CheckConstraint("status IN ('pending', 'succeeded', 'failed', 'disabled', 'superseded')", name="status"),
        CheckConstraint("(status = 'pending') = (finished_at IS NULL)", name="finished_exactly_when_not_pending"),
        CheckConstraint("lease_token IS NULL OR status = 'pending'", name="only_pending_are_leased"),
        Index("ix_deliveries_due", "due_at", postgresql_where=text("status = 'pending'")),
        # A destination is one host of one client. A claim takes a few deliveries of each destination.
        Index("ix_deliveries_destination", "client_id", "host", "due_at", postgresql_where=text("status = 'pending'")),
        Index("ix_deliveries_job", "job_id", text("id DESC")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    client_id: Mapped[UUID]
    type: Mapped[str] = mapped_column(Text)
    url: Mapped[str] = mapped_column(Text)
    # Host name and port, for the limit of concurrent attempts per host.
    host: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text, default="pending", server_default="pending")
    # The instant of the next attempt. A claim sets it to the end of the lease, so the delivery of a crashed poller
    # becomes due by itself.
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    lease_token: Mapped[UUID | None]
    # Failed attempts since the schedule began. A manual retry restarts the schedule.
    failures_in_schedule: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")
    # All logged attempts.
    attempts: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]


class DeliveryAttempt(Base):
    __tablename__ = "delivery_attempts"
    __table_args__ = (CheckConstraint("(error_code IS NULL) = (error_message IS NULL)", name="error_is_whole"),)

    delivery_id: Mapped[UUID] = mapped_column(ForeignKey("deliveries.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    started_at: Mapped[datetime]
    duration_ms: Mapped[int] = mapped_column(Integer)
    response_status: Mapped[int | None] = mapped_column(SmallInteger)
    # The first 1,024 bytes of the response.
    response_excerpt: Mapped[str | None] = mapped_column(Text)
    error_code: Mapped[str | None] = mapped_column(Text)
    error_message: Mapped[str | None] = mapped_column(Text)


class WebhookSecret(Base):
    """A client's signing secret. The current one has no `expires_at`. Replaced secrets sign until they expire."""

    __tablename__ = "webhook_secrets"
    __table_args__ = (
        Index("ix_webhook_secrets_client", "client_id"),
        Index("uq_webhook_secrets_current", "client_id", unique=True, postgresql_where=text("expires_at IS NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    client_id: Mapped[UUID] = mapped_column(ForeignKey("clients.id"))
    # In plain text, since signing needs it: see `app.webhooks.signing_secrets`.
    secret: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]


class DisabledUrl(Base):
    """A URL that answered 410 Gone. The key is a hash of the URL, which may be longer than an index entry allows."""

    __tablename__ = "webhook_disabled_urls"

    client_id: Mapped[UUID] = mapped_column(ForeignKey("clients.id"), primary_key=True)
    url_sha256: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    disabled_at: Mapped[datetime] = mapped_column(server_default=func.now())
