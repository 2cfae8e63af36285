"""Budgets of clients: what a client may spend in each day or month of UTC. `app.queue.spending` checks them."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, get_args
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalogue import Currency
from app.clients.models import ClientBudget


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
    """Give the client this budget, or none. What the client has spent already in the period counts. One statement."""
    if budget is None:
        await session.execute(delete(ClientBudget).where(ClientBudget.client_id == client_id))
        return
    values: dict[str, Any] = {"amount": budget.amount, "currency": budget.currency, "period": budget.period}
    # The sum that is kept may be one of another currency.
    values |= {"counted_from": None, "counted_until": None, "counted": Decimal(0)}
    statement = insert(ClientBudget).values(client_id=client_id, **values)
    await session.execute(statement.on_conflict_do_update(index_elements=["client_id"], set_=values))


async def find_budgets(session: AsyncSession, client_ids: Collection[UUID]) -> dict[UUID, Budget]:
    """The budgets of those clients that have one. One statement."""
    columns = (ClientBudget.client_id, ClientBudget.amount, ClientBudget.currency, ClientBudget.period)
    rows = await session.execute(select(*columns).where(ClientBudget.client_id.in_(client_ids)))
    return {row.client_id: Budget(row.amount, row.currency, BudgetPeriod(row.period)) for row in rows}
