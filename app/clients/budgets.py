"""Budgets of clients: what a client may spend in each day or month of UTC. `app.queue.spending` checks them."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, get_args
from uuid import UUID

from sqlalchemy import delete, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalogue import Currency
from app.clients.models import BudgetHold, ClientBudget


class BudgetPeriod(StrEnum):
    """Days and months begin at 00:00 UTC."""

    DAY = "day"
    MONTH = "month"


AMOUNT_PATTERN = r"[0-9]{1,9}(\.[0-9]{1,9})?"
_AMOUNT = re.compile(AMOUNT_PATTERN)


@dataclass(frozen=True, slots=True)
class Budget:
    """An amount of one currency in each period."""

    amount: Decimal
    currency: Currency
    period: BudgetPeriod

    def __str__(self) -> str:
        return f"{self.amount:f} {self.currency} a {self.period}"


def parse_amount(text: str) -> Decimal:
    """Raises ValueError. Exponents, signs and separators are refused."""
    if not _AMOUNT.fullmatch(text):
        raise ValueError('needs a decimal number such as "100.00", below 1,000,000,000 and with up to 9 decimal places')
    return Decimal(text)


def parse_budget(amount: str, currency: str, period: str) -> Budget:
    """The budget of three words. Raises ValueError."""
    found = next((each for each in get_args(Currency) if each == currency), None)
    if found is None:
        raise ValueError(f"needs one of the currencies {', '.join(get_args(Currency))}")
    if period not in {*BudgetPeriod}:
        raise ValueError(f"needs one of the periods {', '.join(BudgetPeriod)}")
    return Budget(parse_amount(amount), found, BudgetPeriod(period))


async def set_budget(session: AsyncSession, client_id: UUID, budget: Budget | None) -> None:
    """Give the client this budget, or none. What the client has spent already in the period counts.

    Files that the old budget held are claimed as the new one allows. Three statements.
    """
    # The budget first: a request that creates a large job may have locked it, and claims must not wait for that.
    if budget is None:
        await session.execute(delete(ClientBudget).where(ClientBudget.client_id == client_id))
    else:
        values: dict[str, Any] = {"amount": budget.amount, "currency": budget.currency, "period": budget.period}
        # The sum that is kept may be one of another currency.
        counted = {"counted_from": None, "counted_until": None, "counted": Decimal(0)}
        given = insert(ClientBudget).values(client_id=client_id, **values)
        changed = given.on_conflict_do_update(index_elements=["client_id"], set_={**values, **counted})
        await session.execute(changed)
    # Otherwise a claim that has read the old budget could hold files after this transaction.
    await lock_claims(session, [client_id])
    await session.execute(delete(BudgetHold).where(BudgetHold.client_id == client_id))


async def find_budgets(session: AsyncSession, client_ids: Collection[UUID]) -> dict[UUID, Budget]:
    """The budgets of those clients that have one. One statement."""
    columns = (ClientBudget.client_id, ClientBudget.amount, ClientBudget.currency, ClientBudget.period)
    rows = await session.execute(select(*columns).where(ClientBudget.client_id.in_(client_ids)))
    return {row.client_id: Budget(row.amount, row.currency, BudgetPeriod(row.period)) for row in rows}


async def lock_claims(session: AsyncSession, client_ids: Collection[UUID]) -> None:
    """Exclude other claims of files of these clients until the transaction ends. One statement.

    Claims do not exclude requests that create jobs: the insert of a large job must not delay the files of others.
    """
    await session.execute(_LOCK_CLAIMS, {"client_ids": list(client_ids)})


async def try_lock_claims(session: AsyncSession, client_ids: Collection[UUID]) -> list[UUID]:
    """As `lock_claims`, but leave out the clients that another transaction has locked. Returns the others.

    For a transaction that has locked some clients already: if it waited for further ones, it could deadlock.
    """
    return list(await session.scalars(_TRY_LOCK_CLAIMS, {"client_ids": list(client_ids)}))


# In the order of the keys: no deadlocks. The first number is that of this kind of lock; migrations use a single number.
_LOCK_CLAIMS = text("""
    SELECT pg_advisory_xact_lock(7001, key)
    FROM (
        SELECT DISTINCT hashtext(CAST(client_id AS text)) AS key
        FROM unnest(CAST(:client_ids AS uuid[])) AS client_id ORDER BY key
    ) AS keys
""")

_TRY_LOCK_CLAIMS = text("""
    SELECT client_id FROM unnest(CAST(:client_ids AS uuid[])) AS client_id
    WHERE pg_try_advisory_xact_lock(7001, hashtext(CAST(client_id AS text)))
""")
