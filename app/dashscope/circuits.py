"""Circuits: an account whose key or bill upstream refuses is left alone, but for a probe now and then.

The probe is real work: one submit is let through. While it is refused, its files fail with what upstream said and
the others wait; the first that is accepted closes the circuit. Nobody has to tell the gateway that a bill was paid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.dashscope.failures import Failure

FIRST_PROBE_S = 5
LONGEST_PROBE_S = 60
# The right to probe goes to one poller; should it die with it, another has it after this.
PROBE_LEASE_S = 60

# Submits that were under way when the circuit opened are refused as well: they do not put the first probe off.
_OPEN = text("""
    INSERT INTO circuits (account, code, message, upstream_code, probe_at)
    VALUES (:account, :code, :message, :upstream_code, now() + make_interval(secs => :first_s))
    ON CONFLICT (account) DO UPDATE
        SET code = excluded.code, message = excluded.message, upstream_code = excluded.upstream_code
    RETURNING xmax = 0
""")

_TAKE_PROBE = text("""
    UPDATE circuits SET probe_at = now() + make_interval(secs => :lease_s)
    WHERE account = :account AND probe_at <= now()
    RETURNING account
""")

_PUT_OFF = text("""
    UPDATE circuits SET refused_probes = refused_probes + 1,
        probe_at = now() + make_interval(secs => least(:longest_s, :first_s * 2 ^ least(refused_probes + 1, 10)))
    WHERE account = :account
""")

_CLOSE = text("DELETE FROM circuits WHERE account = :account RETURNING account")

_READ = text("SELECT account, code, message, upstream_code, opened_at, probe_at <= now() AS probe_due FROM circuits")


@dataclass(frozen=True, slots=True)
class Circuit:
    """An open circuit. A closed one has no row."""

    account: str
    code: str
    message: str
    upstream_code: str | None
    opened_at: datetime
    probe_due: bool


async def open_circuit(session: AsyncSession, account: str, failure: Failure) -> bool:
    """Leave the account alone. Whether it was closed until now."""
    opened = await session.scalar(
        _OPEN,
        {
            "account": account,
            "code": failure.code,
            "message": failure.message,
            "upstream_code": failure.upstream_code,
            "first_s": FIRST_PROBE_S,
        },
    )
    return bool(opened)


async def take_probe(session: AsyncSession, account: str) -> bool:
    """Whether this poller may try one submit now."""
    return await session.scalar(_TAKE_PROBE, {"account": account, "lease_s": PROBE_LEASE_S}) is not None


async def put_probe_off(session: AsyncSession, account: str) -> None:
    """The probe was refused: the next one comes later."""
    await session.execute(_PUT_OFF, {"account": account, "first_s": FIRST_PROBE_S, "longest_s": LONGEST_PROBE_S})


async def close_circuit(session: AsyncSession, account: str) -> bool:
    """Whether it was open."""
    return await session.scalar(_CLOSE, {"account": account}) is not None


async def read_circuits(session: AsyncSession) -> Sequence[Circuit]:
    return [Circuit(**row._mapping) for row in await session.execute(_READ)]  # noqa: SLF001 - public in SQLAlchemy
