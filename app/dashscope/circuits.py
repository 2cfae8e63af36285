"""Circuits: while upstream refuses an account, or one model to an account, no files are submitted there.

Such a refusal says nothing about the files: they return to the queue or fail over. A probe tests whether the circuit
can close, without cost. The probe first makes a query, which every accepted key may make. If the query passes, one
file is submitted, because upstream checks bills, quotas and grants only at a submit. If the submit is refused again,
the file returns to the queue. An accepted submit closes the circuit. A circuit that opens again soon after that waits
longer before its first probe, so that a circuit cannot open and close at a high rate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.dashscope.failures import Failure

# An account is `blocked` while the circuit of the whole account is open.
AccountState = Literal["ok", "blocked"]
# Code of a circuit that opened because upstream gave no usable responses.
UPSTREAM_UNAVAILABLE = "upstream_unavailable"
# Code of a circuit that opened because upstream does not know the model.
MODEL_UNAVAILABLE = "model_unavailable"
# For these codes the query of a probe is enough to close the circuit: the key was refused, or nothing responded.
DECIDED_BY_QUERY = frozenset({"account_key_refused", UPSTREAM_UNAVAILABLE})

FIRST_PROBE_DELAY_S = 5
MAX_PROBE_DELAY_S = 60
# Longer than a query and a submit. After it, another poller may probe in place of one that crashed.
PROBE_LEASE_S = 90
# A circuit that opens again within this time after it closed continues its delay instead of starting at the first.
KEEP_CLOSED_S = 600

# Submits that were in flight when the circuit opened are refused too. They do not postpone the first probe.
_OPEN = text("""
    INSERT INTO circuits AS circuit (account, model, code, message, upstream_code, probe_at)
    VALUES (:account, :model, :code, :message, :upstream_code, now() + make_interval(secs => :first_s))
    ON CONFLICT (account, model) DO UPDATE
        SET code = excluded.code, message = excluded.message, upstream_code = excluded.upstream_code, closed_at = NULL,
            opened_at = CASE
                WHEN circuit.closed_at IS NULL AND circuit.code = excluded.code THEN circuit.opened_at
                ELSE excluded.opened_at END,
            refused_probes = CASE
                WHEN circuit.closed_at IS NULL THEN circuit.refused_probes
                WHEN circuit.closed_at > now() - make_interval(secs => :keep_s)
                    THEN least(circuit.refused_probes + 1, 10)
                ELSE 0 END,
            probe_at = CASE
                WHEN circuit.closed_at IS NULL THEN circuit.probe_at
                WHEN circuit.closed_at > now() - make_interval(secs => :keep_s)
                    THEN now() + make_interval(
                        secs => least(:max_s, :first_s * 2 ^ least(circuit.refused_probes + 1, 10)))
                ELSE excluded.probe_at END
    RETURNING opened_at = now()
""")

_TAKE_PROBE = text("""
    UPDATE circuits SET probe_lease_until = now() + make_interval(secs => :lease_s)
    WHERE account = :account AND model = :model AND closed_at IS NULL AND probe_at <= now()
      AND (probe_lease_until IS NULL OR probe_lease_until < now())
    RETURNING account
""")

_POSTPONE = text("""
    UPDATE circuits SET refused_probes = least(refused_probes + :refusals, 10), probe_lease_until = NULL,
        probe_at = now() + make_interval(
            secs => least(:max_s, :first_s * 2 ^ least(refused_probes + :refusals, 10)))
    WHERE account = :account AND model = :model AND closed_at IS NULL
""")

_MAKE_PROBES_DUE = text("""
    UPDATE circuits SET probe_at = now(), probe_lease_until = NULL, refused_probes = 0
    WHERE account = ANY(:accounts)
""")

# A part of a claim that has the account and model: the condition that no circuit is open for them. It may have opened
# after the round that started the claim, by another submit of the same process or by another poller.
IS_ACCEPTED = """
    NOT EXISTS (SELECT FROM circuits WHERE account = :account AND model IN ('', :model) AND closed_at IS NULL)
"""

_CLOSE = text("""
    UPDATE circuits SET closed_at = now(), probe_lease_until = NULL
    WHERE account = :account AND model = :model AND closed_at IS NULL
    RETURNING code, extract(epoch FROM now() - opened_at)::float8 AS open_s
""")

_READ = text("""
    SELECT account, model, code, message, upstream_code, opened_at, probe_at <= now() AS probe_due
    FROM circuits WHERE closed_at IS NULL ORDER BY account, model
""")


@dataclass(frozen=True, slots=True)
class Circuit:
    """An open circuit. `model` is empty if the circuit is about the whole account."""

    account: str
    model: str
    code: str
    message: str
    upstream_code: str | None
    opened_at: datetime
    probe_due: bool


async def open_circuit(session: AsyncSession, account: str, model: str, failure: Failure) -> bool:
    """Stop submits. An empty `model` means the whole account.

    Returns True if the circuit was closed before, or open with another code.
    """
    opened = await session.scalar(
        _OPEN,
        {
            "account": account,
            "model": model,
            "code": failure.code,
            "message": failure.message,
            "upstream_code": failure.upstream_code,
            "first_s": FIRST_PROBE_DELAY_S,
            "max_s": MAX_PROBE_DELAY_S,
            "keep_s": KEEP_CLOSED_S,
        },
    )
    return bool(opened)


async def take_probe(session: AsyncSession, circuit: Circuit) -> bool:
    """Lease the probe. Returns False if it is not due or leased. `postpone_probe` or PROBE_LEASE_S ends the lease."""
    key = {"account": circuit.account, "model": circuit.model, "lease_s": PROBE_LEASE_S}
    return await session.scalar(_TAKE_PROBE, key) is not None


async def postpone_probe(session: AsyncSession, circuit: Circuit, *, refused: bool) -> None:
    """End the probe and leave the circuit open. If the probe was refused, the delay before the next one doubles."""
    await session.execute(
        _POSTPONE,
        {
            "account": circuit.account,
            "model": circuit.model,
            "refusals": int(refused),
            "first_s": FIRST_PROBE_DELAY_S,
            "max_s": MAX_PROBE_DELAY_S,
        },
    )


async def make_probes_due(session: AsyncSession, accounts: Sequence[str]) -> None:
    """Make all probes of the accounts due. For the start of a poller, which may have new keys."""
    await session.execute(_MAKE_PROBES_DUE, {"accounts": list(accounts)})


@dataclass(frozen=True, slots=True)
class ClosedCircuit:
    """A circuit that was open for `open_s` seconds."""

    code: str
    open_s: float


async def close_circuit(session: AsyncSession, account: str, model: str) -> ClosedCircuit | None:
    """Returns None if the circuit was not open. The row stays for a while, see KEEP_CLOSED_S."""
    row = (await session.execute(_CLOSE, {"account": account, "model": model})).one_or_none()
    return None if row is None else ClosedCircuit(row.code, row.open_s)


async def read_circuits(session: AsyncSession) -> Sequence[Circuit]:
    """All open circuits, including those of accounts that are no longer configured."""
    return [Circuit(**row) for row in (await session.execute(_READ)).mappings()]
