"""The outbox: deliveries with the log of their attempts, the secrets that sign them, and the URLs that want no more."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, LargeBinary, SmallInteger, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.identifiers import new_id


class Delivery(Base):
    """One event for one URL. The body is made with the event, so that every try sends the very same."""

    __tablename__ = "deliveries"
    __table_args__ = (
        CheckConstraint("status IN ('pending', 'succeeded', 'failed', 'disabled')", name="status"),
        CheckConstraint("(status = 'pending') = (finished_at IS NULL)", name="finished_exactly_when_not_pending"),
        CheckConstraint("lease_token IS NULL OR status = 'pending'", name="only_pending_are_leased"),
        Index("ix_deliveries_due", "due_at", postgresql_where=text("status = 'pending'")),
        # A lane: what one client has for one host. Claims take a few of each, however long the others are.
        Index("ix_deliveries_lane", "client_id", "host", "due_at", postgresql_where=text("status = 'pending'")),
        Index("ix_deliveries_job", "job_id", text("id DESC")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    client_id: Mapped[UUID]
    type: Mapped[str] = mapped_column(Text)
    url: Mapped[str] = mapped_column(Text)
    # Name and port, for the limit of tries at once.
    host: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text, default="pending", server_default="pending")
    # When the next try is due. A claim moves it on by its lease: who dies with it needs no undertaker.
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    lease_token: Mapped[UUID | None]
    # Failed tries since the schedule began; a manual retry begins it anew.
    failures_in_schedule: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")
    # All tries that were logged.
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
    # The first 1,024 bytes of what the server answered.
    response_excerpt: Mapped[str | None] = mapped_column(Text)
    error_code: Mapped[str | None] = mapped_column(Text)
    error_message: Mapped[str | None] = mapped_column(Text)


class WebhookSecret(Base):
    """A client's signing secret. The one without end is the current one; those before it still sign for a while."""

    __tablename__ = "webhook_secrets"
    __table_args__ = (
        Index("ix_webhook_secrets_client", "client_id"),
        Index("uq_webhook_secrets_current", "client_id", unique=True, postgresql_where=text("expires_at IS NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    client_id: Mapped[UUID] = mapped_column(ForeignKey("clients.id"))
    # As it is, since it has to sign: see `app.webhooks.signing`.
    secret: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]


class DisabledUrl(Base):
    """A URL that answered 410 Gone. URLs may be longer than an index entry, so their hash stands for them."""

    __tablename__ = "webhook_disabled_urls"

    client_id: Mapped[UUID] = mapped_column(ForeignKey("clients.id"), primary_key=True)
    url_sha256: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    disabled_at: Mapped[datetime] = mapped_column(server_default=func.now())
