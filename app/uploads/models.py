"""The tables of uploads, and of the policies with which clients upload files by themselves."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, LargeBinary, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.identifiers import new_id


class Upload(Base):
    """A stored file of a client.

    With an `account`, the file is in DashScope's temporary storage: only this account can use it, for `model` alone.
    Without one, it is in the gateway's own store, and good for every model, region and account.
    """

    __tablename__ = "uploads"
    __table_args__ = (
        CheckConstraint("(account = '') = (object_key IS NOT NULL)", name="one_place"),
        Index("ix_uploads_client", "client_id", text("id DESC")),
        Index("ix_uploads_sha256", "client_id", "sha256"),
        Index("ix_uploads_file_url", "file_url", postgresql_using="hash"),
        Index("uq_uploads_object_key", "object_key", unique=True),
        Index(
            "ix_uploads_expires_at",
            "expires_at",
            postgresql_where=text("object_key IS NOT NULL AND deleted_at IS NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    client_id: Mapped[UUID] = mapped_column(ForeignKey("clients.id"))
    # Used as an item of `file_urls`: `oss://…` of the temporary storage, or `upload://{id}`.
    file_url: Mapped[str] = mapped_column(Text)
    file_name: Mapped[str] = mapped_column(Text)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[bytes] = mapped_column(LargeBinary)
    model: Mapped[str] = mapped_column(Text)
    region: Mapped[str] = mapped_column(Text)
    account: Mapped[str] = mapped_column(Text, default="", server_default="")
    # The key in the gateway's own store.
    object_key: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    # Deleted by the client, or expired. The row stays while jobs may name it, the bytes do not.
    deleted_at: Mapped[datetime | None]


class UnfinishedUpload(Base):
    """A file that is being sent to the gateway's own store. The row goes when the file has its row in `uploads`.

    If the process is killed in between, a poller deletes what the store has of the file.
    """

    __tablename__ = "unfinished_uploads"

    object_key: Mapped[str] = mapped_column(Text, primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class IssuedPolicy(Base):
    """A permission of DashScope's temporary storage that was passed on to a client.

    The client sends files with it directly to the storage host, as keys below `upload_dir`. Only `account` can use
    them, for `model` alone.
    """

    __tablename__ = "issued_policies"
    __table_args__ = (Index("ix_issued_policies_expires_at", "expires_at"),)

    upload_dir: Mapped[str] = mapped_column(Text, primary_key=True)
    client_id: Mapped[UUID] = mapped_column(ForeignKey("clients.id"))
    model: Mapped[str] = mapped_column(Text)
    region: Mapped[str] = mapped_column(Text)
    account: Mapped[str] = mapped_column(Text)
    # When the last file that was sent with the policy has expired.
    expires_at: Mapped[datetime]
