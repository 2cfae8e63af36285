"""The clients table. It holds the hash of each token; the token itself is shown once and never stored."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, LargeBinary, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.identifiers import new_id


class Client(Base):
    __tablename__ = "clients"
    __table_args__ = (
        # The name of a revoked client may be used again. The new client has a new id and sees none of the old jobs.
        Index("uq_clients_name_active", "name", unique=True, postgresql_where=text("revoked_at IS NULL")),
        Index("uq_clients_token_sha256", "token_sha256", unique=True),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(Text)
    token_sha256: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
