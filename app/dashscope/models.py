"""Tables of the calls to DashScope: the rate budgets and the open circuits of each account."""

from datetime import datetime

from sqlalchemy import ARRAY, BigInteger, DateTime, Float, SmallInteger, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base


class RateBudget(Base):
    """The rate limit of one account and kind of call, shared by all replicas. See `app.dashscope.budgets`."""

    __tablename__ = "budgets"
    __table_args__ = ({"postgresql_with": {"fillfactor": "50"}},)

    account: Mapped[str] = mapped_column(Text, primary_key=True)
    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    # Calls per second: the limit of the account, and the rate used now, which is lower after a 429.
    rate: Mapped[float] = mapped_column(Float)
    current_rate: Mapped[float] = mapped_column(Float)
    next_at: Mapped[datetime] = mapped_column(server_default=func.now())
    rate_changed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    throttled: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    # When the last calls left their processes, newest first: as many as the rate allows in a second, and at most
    # `budgets.MAX_DEPARTURES`.
    departures: Mapped[list[datetime]] = mapped_column(ARRAY(DateTime(timezone=True)), server_default="{}")


class Circuit(Base):
    """An account, or one model of an account, that upstream refuses or refused. See `app.dashscope.circuits`."""

    __tablename__ = "circuits"

    account: Mapped[str] = mapped_column(Text, primary_key=True)
    # Empty for the whole account.
    model: Mapped[str] = mapped_column(Text, primary_key=True, default="", server_default="")
    code: Mapped[str] = mapped_column(Text)
    message: Mapped[str] = mapped_column(Text)
    upstream_code: Mapped[str | None] = mapped_column(Text)
    opened_at: Mapped[datetime] = mapped_column(server_default=func.now())
    probe_at: Mapped[datetime]
    # The end of the lease under which one poller probes.
    probe_lease_until: Mapped[datetime | None]
    refused_probes: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")
    # None while the circuit is open. A closed circuit is kept, so that it continues its delay if it opens again soon.
    closed_at: Mapped[datetime | None]
