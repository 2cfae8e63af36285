"""Accepts files of clients with a budget: what is spent and what is under way has to stay within it.

Nothing is reserved in a table. What is under way follows from the counters of the client's open jobs, so that a file
that ends, fails or is canceled releases its part by itself. What is spent is the sum of the usage.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import structlog
from prometheus_client import Counter
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalogue import MODELS, RegionalPrice, amount_text, estimated_cost
from app.clients.budgets import Budget, BudgetPeriod
from app.errors import BudgetCurrencyMismatch, BudgetExceeded, Fault

# Speech that a file costs at least, for an estimate: otherwise silent files would make all others free.
LEAST_S = 5
# The newest files of a client that an estimate is made of.
RECENT_FILES = 200
# While only files that are under way are in the way, their real cost may soon make room.
UNDER_WAY_RETRY_S = 60
# The sum up to so many minutes ago is kept when as many rows came later. A transaction that began earlier has ended.
KEEP_UNTIL_MIN = 10
KEEP_FROM_ROWS = 1000

REFUSALS = Counter("asr_gateway_budget_refusals_total", "Jobs and retries that a budget refused")

log = structlog.get_logger()


@dataclass(slots=True)
class Allowance:
    """What is left of a client's budget, while its row is locked.

    `reserved` is the estimated cost of the files under way. `recent` has the recent files of each model: what they cost
    together, and their number.
    """

    client: str
    budget: Budget
    spent: Decimal
    resets_at: datetime
    resets_in_s: int
    recent: Mapping[str, tuple[Decimal, int]]
    assumed_s: int
    reserved: Decimal = Decimal(0)

    def admit(self, model: str, region: str, files: int) -> None:
        """Count files that are to be accepted. Raises BudgetExceeded or BudgetCurrencyMismatch."""
        price = _price(model, region)
        if files <= 0 or price is None:
            return
        if price.currency != self.budget.currency:
            detail = f"is priced in {price.currency}, but the budget of this client is in {self.budget.currency}"
            fault = Fault("/model", f"{detail}; choose another model")
            raise BudgetCurrencyMismatch(f"{model} {detail}.", faults=[fault])
        one = self.estimate(model, price)
        left = self.budget.amount - self.spent - self.reserved
        if files * one > left and not (files == 1 and not self.reserved and self._may_try(one, price)):
            raise self._refusal(files, one, may_change=bool(self.reserved) and self._may_try(one, price))
        self.reserved += files * one

    def estimate(self, model: str, price: RegionalPrice) -> Decimal:
        """What a file costs: the average of the client's recent ones of the model and one of `assumed_s` of speech.

        Without the latter, one short file would let a burst of long ones pass.
        """
        cost, files = self.recent.get(model, (Decimal(0), 0))
        return max((estimated_cost(price, self.assumed_s) + cost) / (files + 1), estimated_cost(price, LEAST_S))

    def _may_try(self, one: Decimal, price: RegionalPrice) -> bool:
        """An estimate above the whole budget would refuse every file for ever, and the estimate may be wrong.

        So a lone file is accepted while the client has nothing under way and something left.
        """
        return one > self.budget.amount and self.budget.amount - self.spent >= estimated_cost(price, LEAST_S)

    def _refusal(self, files: int, one: Decimal, *, may_change: bool) -> BudgetExceeded:
        """`may_change`: the end of the files under way will show what files cost."""
        requested = files * one
        waits = may_change or requested <= self.budget.amount - self.spent
        retry_after_s = min(self.resets_in_s, UNDER_WAY_RETRY_S) if waits else self.resets_in_s
        amounts = {
            "spent": amount_text(self.spent),
            "reserved": amount_text(self.reserved),
            "requested": amount_text(requested),
        }
        resets_at = self.resets_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        REFUSALS.inc()
        log.info("budget exceeded", client=self.client, budget=str(self.budget), resets_at=resets_at, **amounts)
        currency = self.budget.currency
        advice = " Send fewer files at once." if files > 1 and requested > self.budget.amount else ""
        return BudgetExceeded(
            f"The budget of this client is {self.budget}: {amounts['spent']} is spent, {amounts['reserved']} is"
            f" reserved for files under way, and {files:,} {'file' if files == 1 else 'files'} may cost"
            f" {amounts['requested']}. The next {self.budget.period} begins at {resets_at}.{advice}",
            retry_after_s=max(retry_after_s, 1),
            members={
                "budget": {
                    "amount": f"{self.budget.amount:f}",
                    "currency": currency,
                    "period": self.budget.period,
                },
                **{name: {"amount": amount, "currency": currency} for name, amount in amounts.items()},
                "resets_at": resets_at,
            },
        )


async def lock_allowances(
    session: AsyncSession, client_ids: Collection[UUID], *, assumed_s: int
) -> dict[UUID, Allowance]:
    """What those clients that have a budget may spend. Their budgets are locked until the transaction ends.

    So jobs of one client are accepted one after the other, each with the jobs before it counted. Four statements, one
    if no client has a budget, and one more each ten minutes. Rows are locked in the order of the clients.
    """
    values: dict[str, Any] = {"client_ids": list(client_ids)}
    locked = list(await session.scalars(_LOCK, values))
    if not locked:
        return {}
    # Later statements than the lock: they see what was committed while this transaction waited. A file that ends
    # between them counts twice; in the other order it would not count at all.
    values["client_ids"] = locked
    under_way = (await session.execute(_UNDER_WAY, values)).all()
    rows = (await session.execute(_SPENT, {**values, "minutes": KEEP_UNTIL_MIN})).all()
    recent: dict[UUID, dict[str, tuple[Decimal, int]]] = {client_id: {} for client_id in locked}
    for row in await session.execute(_RECENT, {**values, "limit": RECENT_FILES}):
        recent[row.client_id][row.model] = (row.cost, row.files)
    allowances = {
        row.client_id: Allowance(
            client=row.client,
            budget=Budget(row.amount, row.currency, BudgetPeriod(row.period)),
            spent=row.spent,
            resets_at=row.resets_at,
            resets_in_s=row.resets_in_s,
            recent=recent[row.client_id],
            assumed_s=assumed_s,
        )
        for row in rows
    }
    for row in under_way:
        allowance, price = allowances[row.client_id], _price(row.model, row.region)
        if price is not None and price.currency == allowance.budget.currency:
            allowance.reserved += row.files * allowance.estimate(row.model, price)
    if any(row.later_rows > KEEP_FROM_ROWS and row.is_old for row in rows):
        await session.execute(_KEEP, {**values, "minutes": KEEP_UNTIL_MIN})
    return allowances


def _price(model: str, region: str) -> RegionalPrice | None:
    """None for a model that the catalogue no longer has."""
    offers = MODELS[model].regions if model in MODELS else {}
    return next((price for name, price in offers.items() if name == region), None)


_LOCK = text("""
    SELECT client_id FROM client_budgets WHERE client_id = ANY(:client_ids) ORDER BY client_id FOR UPDATE
""")

# The budgets, with the instants of their periods. `counted` is of the present period if `is_counted`.
_PERIODS = """
    SELECT budget.client_id, clients.name AS client, amount, currency, budget.period,
        starts AT TIME ZONE 'UTC' AS starts_at,
        (starts + CASE budget.period WHEN 'day' THEN interval '1 day' ELSE interval '1 month' END)
            AT TIME ZONE 'UTC' AS resets_at,
        counted_from IS NOT DISTINCT FROM starts AT TIME ZONE 'UTC' AS is_counted, counted, counted_until
    FROM client_budgets AS budget
    JOIN clients ON clients.id = budget.client_id
    CROSS JOIN LATERAL date_trunc(budget.period, statement_timestamp() AT TIME ZONE 'UTC') AS starts
    WHERE budget.client_id = ANY(:client_ids)
"""

_SPENT = text(f"""
    SELECT budget.client_id, client, amount, currency, period, resets_at,
        ceil(extract(epoch FROM resets_at - statement_timestamp()))::int AS resets_in_s,
        CASE WHEN is_counted THEN counted ELSE 0 END + later.cost AS spent, later.rows AS later_rows,
        since < statement_timestamp() - 2 * make_interval(mins => :minutes) AS is_old
    FROM ({_PERIODS}) AS budget
    CROSS JOIN LATERAL (SELECT CASE WHEN is_counted THEN counted_until ELSE starts_at END AS since) AS counting
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(usage.cost), 0) AS cost, count(*) AS rows FROM usage
        WHERE usage.client_id = budget.client_id AND usage.at >= since AND usage.currency = budget.currency
    ) AS later
""")  # noqa: S608 - constants

_KEEP = text(f"""
    UPDATE client_budgets SET counted_from = starts_at, counted_until = until,
        counted = CASE WHEN is_counted THEN budget.counted ELSE 0 END + (
            SELECT coalesce(sum(usage.cost), 0) FROM usage
            WHERE usage.client_id = budget.client_id AND usage.currency = budget.currency
              AND usage.at >= CASE WHEN is_counted THEN budget.counted_until ELSE starts_at END AND usage.at < until
        )
    FROM ({_PERIODS}) AS budget
    CROSS JOIN LATERAL (
        SELECT greatest(
            starts_at, CASE WHEN is_counted THEN budget.counted_until END,
            statement_timestamp() - make_interval(mins => :minutes)
        ) AS until
    ) AS keeping
    WHERE client_budgets.client_id = budget.client_id
""")  # noqa: S608 - constants

# The conditions of the index of unusual jobs, and of those among them that are open.
_UNDER_WAY = text("""
    SELECT client_id, model, region, sum(files_queued + files_running)::int AS files FROM jobs
    WHERE client_id = ANY(:client_ids) AND status <> 'succeeded' AND finished_at IS NULL
    GROUP BY client_id, model, region
""")

# Reused files say nothing about costs. The correction of a bill is a row without a file.
_RECENT = text("""
    SELECT client.id AS client_id, model, sum(cost) AS cost, sum(files)::int AS files
    FROM unnest(CAST(:client_ids AS uuid[])) AS client (id)
    CROSS JOIN LATERAL (
        SELECT model, account, cost, files FROM usage WHERE client_id = client.id ORDER BY at DESC LIMIT :limit
    ) AS recent
    WHERE account IS NOT NULL
    GROUP BY client.id, model
    HAVING sum(files) > 0
""")
