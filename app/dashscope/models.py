"""What the gateway remembers of its accounts upstream: rate budgets, learnt limits, and who watches them."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Float, SmallInteger, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base


class Budget(Base):
    """The rate limit of one account and kind of call, shared by all replicas. See `app.dashscope.budgets`."""

    __tablename__ = "budgets"
    __table_args__ = ({"postgresql_with": {"fillfactor": "50"}},)

    account: Mapped[str] = mapped_column(Text, primary_key=True)
    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    # Calls per second that the account is allowed, and what of it is used now (less after a 429).
    rate: Mapped[float] = mapped_column(Float)
    current_rate: Mapped[float] = mapped_column(Float)
    next_at: Mapped[datetime] = mapped_column(server_default=func.now())
    rate_changed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    throttled: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")


class GroupLimit(Base):
    """Files a task as learnt from upstream, where it takes fewer than the catalogue says."""

    __tablename__ = "group_limits"

    account: Mapped[str] = mapped_column(Text, primary_key=True)
    model: Mapped[str] = mapped_column(Text, primary_key=True)
    max_files: Mapped[int] = mapped_column(SmallInteger)
    learnt_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Circuit(Base):
    """An account, or one model of it, that gets no submits because upstream refuses them. See `circuits.py`."""

    __tablename__ = "circuits"

    account: Mapped[str] = mapped_column(Text, primary_key=True)
    # Empty: the whole account.
    model: Mapped[str] = mapped_column(Text, primary_key=True, default="", server_default="")
    code: Mapped[str] = mapped_column(Text)
    message: Mapped[str] = mapped_column(Text)
    upstream_code: Mapped[str | None] = mapped_column(Text)
    opened_at: Mapped[datetime] = mapped_column(server_default=func.now())
    probe_at: Mapped[datetime]
    # Until then one poller has the right to probe. It runs out with a poller that died.
    probe_lease_until: Mapped[datetime | None]
    refused_probes: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")


class Blockage(Base):
    """A region and model that no account can take files for now: `waiting_reason` of the jobs that wait there.

    Pollers derive the rows from the circuits. The API reads them, and needs neither a poller nor the settings.
    """

    __tablename__ = "blockages"

    region: Mapped[str] = mapped_column(Text, primary_key=True)
    model: Mapped[str] = mapped_column(Text, primary_key=True)
    # Whether files that may change their region are blocked too: no other region can take them.
    everywhere: Mapped[bool]
    code: Mapped[str] = mapped_column(Text)
    account: Mapped[str] = mapped_column(Text)
    since: Mapped[datetime]


class ListLease(Base):
    """Which poller reads an account's task list, so that replicas do not read it twice."""

    __tablename__ = "list_leases"
    __table_args__ = ({"postgresql_with": {"fillfactor": "50"}},)

    account: Mapped[str] = mapped_column(Text, primary_key=True)
    lease_token: Mapped[UUID | None]
    lease_until: Mapped[datetime | None]


class Turn(Base):
    """When a client was last served at a (region, model): files are taken in turn over the clients that wait."""

    __tablename__ = "turns"
    __table_args__ = ({"postgresql_with": {"fillfactor": "50"}},)

    region: Mapped[str] = mapped_column(Text, primary_key=True)
    model: Mapped[str] = mapped_column(Text, primary_key=True)
    client_id: Mapped[UUID] = mapped_column(primary_key=True)
    last_served_us: Mapped[int] = mapped_column(BigInteger)
