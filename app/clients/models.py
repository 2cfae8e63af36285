"""The tables of clients and their budgets. Tokens are shown once and never stored, only their hashes."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, Numeric, Text, func, text
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


class ClientBudget(Base):
    """What a client may spend in each day or month of UTC. `app.queue.spending` checks it.

    The row is also the lock under which jobs of the client are accepted. `counted` is the cost of the usage from
    `counted_from` until `counted_until`, so that a check adds up only what came later.
    """

    __tablename__ = "client_budgets"
    __table_args__ = (
        CheckConstraint("amount >= 0", name="amount"),
        CheckConstraint("period IN ('day', 'month')", name="period"),
    )

    client_id: Mapped[UUID] = mapped_column(ForeignKey("clients.id"), primary_key=True)
    # Without a scale: it is shown with the places that it was set with.
    amount: Mapped[Decimal] = mapped_column(Numeric)
    currency: Mapped[str] = mapped_column(Text)
    period: Mapped[str] = mapped_column(Text)
    counted_from: Mapped[datetime | None]
    counted_until: Mapped[datetime | None]
    counted: Mapped[Decimal] = mapped_column(Numeric, default=Decimal(0), server_default="0")


class BudgetHold(Base):
    """A region and model of which claims take no files of a client until `until`, because of the client's budget.

    Claims write the rows, so the table is mostly empty. The API shows them as `waiting_reason`.
    """

    __tablename__ = "budget_holds"

    client_id: Mapped[UUID] = mapped_column(primary_key=True)
    region: Mapped[str] = mapped_column(Text, primary_key=True)
    model: Mapped[str] = mapped_column(Text, primary_key=True)
    since: Mapped[datetime] = mapped_column(server_default=func.now())
    # The next claim after this instant decides again.
    until: Mapped[datetime]
