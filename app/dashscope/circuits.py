"""Circuits: what upstream refuses to an account, for all models or for one, is not submitted until a probe passes.

A refusal for the account's sake says nothing about the files: they wait again, or go elsewhere. A probe costs nothing
and harms nothing. It begins with a query that every accepted key may make. Only when that passes, one file goes out,
since upstream checks bills, quotas and grants at a submit alone; refused once more, the file waits as before.
An accepted submit closes the circuit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.dashscope.failures import Failure

# The code of a circuit that opened because upstream gave no usable answers.
UPSTREAM_UNAVAILABLE = "upstream_unavailable"
# The code of a circuit that opened because upstream knows no such model.
MODEL_UNAVAILABLE = "model_unavailable"
# The key is refused, or nothing answers: the query alone tells when that is over.
DECIDED_BY_QUERY = frozenset({"account_key_refused", UPSTREAM_UNAVAILABLE})

FIRST_PROBE_S = 5
MAX_PROBE_S = 60
# Longer than a query and a submit take. Should the poller die with it, another one has the right to probe after this.
PROBE_LEASE_S = 90

# Submits that were under way when the circuit opened are refused as well: they do not put the first probe off.
_OPEN = text("""
    INSERT INTO circuits (account, model, code, message, upstream_code, probe_at)
    VALUES (:account, :model, :code, :message, :upstream_code, now() + make_interval(secs => :first_s))
    ON CONFLICT (account, model) DO UPDATE
        SET code = excluded.code, message = excluded.message, upstream_code = excluded.upstream_code
    RETURNING xmax = 0
""")

_TAKE_PROBE = text("""
    UPDATE circuits SET probe_lease_until = now() + make_interval(secs => :lease_s)
    WHERE account = :account AND model = :model AND probe_at <= now()
      AND (probe_lease_until IS NULL OR probe_lease_until < now())
    RETURNING account
""")

_PUT_OFF = text("""
    UPDATE circuits SET refused_probes = least(refused_probes + :refusals, 10), probe_lease_until = NULL,
        probe_at = now() + make_interval(
            secs => least(:longest_s, :first_s * 2 ^ least(refused_probes + :refusals, 10)))
    WHERE account = :account AND model = :model
""")

_PROBE_SOON = text("""
    UPDATE circuits SET probe_at = now(), probe_lease_until = NULL, refused_probes = 0
    WHERE account = ANY(:accounts)
""")

_CLOSE = text("DELETE FROM circuits WHERE account = :account AND model = :model RETURNING account")

_READ = text("""
    SELECT account, model, code, message, upstream_code, opened_at, probe_at <= now() AS probe_due
    FROM circuits ORDER BY account, model
""")


@dataclass(frozen=True, slots=True)
class Circuit:
    """An open circuit. A closed one has no row. `model` is empty when it is about the whole account."""

    account: str
    model: str
    code: str
    message: str
    upstream_code: str | None
    opened_at: datetime
    probe_due: bool


async def open_circuit(session: AsyncSession, account: str, model: str, failure: Failure) -> bool:
    """Submit nothing more. `model` is empty for the whole account. Returns whether the circuit was closed until now."""
    opened = await session.scalar(
        _OPEN,
        {
            "account": account,
            "model": model,
            "code": failure.code,
            "message": failure.message,
            "upstream_code": failure.upstream_code,
            "first_s": FIRST_PROBE_S,
        },
    )
    return bool(opened)


async def take_probe(session: AsyncSession, circuit: Circuit) -> bool:
    """Whether this poller may probe now. The right ends with `postpone_probe`, or by itself after PROBE_LEASE_S."""
    key = {"account": circuit.account, "model": circuit.model, "lease_s": PROBE_LEASE_S}
    return await session.scalar(_TAKE_PROBE, key) is not None


async def postpone_probe(session: AsyncSession, circuit: Circuit, *, refused: bool) -> None:
    """End the probe without closing the circuit. The time to the next one doubles when this one was refused."""
    await session.execute(
        _PUT_OFF,
        {
            "account": circuit.account,
            "model": circuit.model,
            "refusals": int(refused),
            "first_s": FIRST_PROBE_S,
            "longest_s": MAX_PROBE_S,
        },
    )


async def make_probes_due(session: AsyncSession, accounts: Sequence[str]) -> None:
    """Make all probes of the accounts due: the poller has just started, perhaps with other keys."""
    await session.execute(_PROBE_SOON, {"accounts": list(accounts)})


async def close_circuit(session: AsyncSession, account: str, model: str) -> bool:
    """Returns whether it was open."""
    return await session.scalar(_CLOSE, {"account": account, "model": model}) is not None


async def read_circuits(session: AsyncSession) -> Sequence[Circuit]:
    """All open circuits, also those of accounts that are no longer configured."""
    return [Circuit(**row._mapping) for row in await session.execute(_READ)]  # noqa: SLF001 - public in SQLAlchemy
