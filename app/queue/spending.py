"""What clients with a budget may spend: which files are accepted, and how many of them a claim may take.

Nothing is reserved in a table. What is under way follows from the counters of the client's open jobs, and from the
canceled files that upstream still transcribes, so that a file that ends releases its part by itself. What is spent is
the sum of the usage.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import structlog
from prometheus_client import Counter
from sqlalchemy import JSON, Executable, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalogue import RegionalPrice, amount_text, estimated_cost, find_price
from app.clients.budgets import Budget, BudgetPeriod, lock_claims, try_lock_claims
from app.errors import BudgetCurrencyMismatch, BudgetExceeded, Fault

# Speech that a file costs at least, for an estimate: otherwise silent files would make all others free.
MIN_ESTIMATED_S = 5
# The newest files of a client that an estimate is made of.
RECENT_FILES = 200
# While only files that are under way are in the way, their real cost may soon make room.
UNDER_WAY_RETRY_S = 60
# The sum up to so many minutes ago is kept when as many rows came later. A transaction that began earlier has ended.
KEEP_UNTIL_MIN = 10
KEEP_FROM_ROWS = 1000
# More files than a claim takes.
UNLIMITED = 1_000_000

REFUSALS = Counter("asr_gateway_budget_refusals_total", "Jobs and retries that a budget refused")

log = structlog.get_logger()


@dataclass(slots=True)
class Allowance:
    """What is left of a client's budget, while other requests or other claims wait.

    `reserved` is the estimated cost of the files under way; for a claim, of those that are submitted or running.
    `recent` has the recent files of each model: what they cost together, and their number. `is_held`: claims of the
    region and model have held files of the client.
    """

    client: str
    budget: Budget
    spent: Decimal
    resets_at: datetime
    resets_in_s: int
    recent: Mapping[str, tuple[Decimal, int]]
    assumed_s: int
    reserved: Decimal = Decimal(0)
    is_held: bool = False

    @property
    def left(self) -> Decimal:
        """What is not spent. Below zero if files have cost more than the budget."""
        return self.budget.amount - self.spent

    def room(self, model: str, region: str) -> int:
        """How many files a claim may take, so that they and the running ones fit by their estimates.

        One file may run alone while anything is left: an estimate may be too high, and would hold files for ever.
        """
        price = find_price(model, region)
        if self.left <= 0:
            return 0
        if price is None or price.currency != self.budget.currency:
            return UNLIMITED  # queued before the client had this budget; the costs cannot be compared
        one = self.estimate(model, price)
        fitting = min(int((self.left - self.reserved) // one), UNLIMITED) if one else UNLIMITED
        return max(fitting, 0 if self.reserved else 1)

    def admit(self, model: str, region: str, files: int) -> None:
        """Count files that are to be accepted. Raises BudgetExceeded or BudgetCurrencyMismatch."""
        price = find_price(model, region)
        if files <= 0 or price is None:
            return
        if price.currency != self.budget.currency:
            detail = f"is priced in {price.currency}, but the budget of this client is in {self.budget.currency}"
            fault = Fault("/model", f"{detail}; choose another model")
            raise BudgetCurrencyMismatch(f"{model} {detail}.", faults=[fault])
        one = self.estimate(model, price)
        may_try = self._may_try(model, price, files)
        if files * one > self.left - self.reserved and not (may_try and not self.reserved):
            raise self._refusal(files, one, may_change=bool(self.reserved) and may_try)
        self.reserved += files * one

    def estimate(self, model: str, price: RegionalPrice) -> Decimal:
        """What a file costs: the average of the client's recent ones of the model and one of `assumed_s` of speech.

        Without the latter, one short file would let a burst of long ones pass.
        """
        cost, files = self.recent.get(model, (Decimal(0), 0))
        return max((estimated_cost(price, self.assumed_s) + cost) / (files + 1), estimated_cost(price, MIN_ESTIMATED_S))

    def _may_try(self, model: str, price: RegionalPrice, files: int) -> bool:
        """Whether files may be accepted alone although their estimate is above the whole budget.

        Otherwise they would be refused for ever, and the estimate may be wrong. Claims then take them one by one. A
        lone file needs a part of the budget; several files need all of it, and must fit by what files have cost.
        """
        if files * self.estimate(model, price) <= self.budget.amount:
            return False
        least = estimated_cost(price, MIN_ESTIMATED_S)
        if files == 1:
            return self.left >= least
        cost, recent = self.recent.get(model, (Decimal(0), 0))
        known = max(cost / recent, least) if recent else least
        return self.spent <= 0 and files * known <= self.budget.amount

    def _refusal(self, files: int, one: Decimal, *, may_change: bool) -> BudgetExceeded:
        """`may_change`: the end of the files under way will show what files cost."""
        requested = files * one
        waits = may_change or requested <= self.left
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

    So jobs of one client are accepted one after the other, each with the jobs before it counted. Two statements, one
    if no client has a budget, and one more each ten minutes. Rows are locked in the order of the clients.
    """
    locked = list(await session.scalars(_LOCK, {"client_ids": list(client_ids)}))
    # A later statement than the lock: it sees what was committed while this transaction waited.
    return await _read_allowances(session, _READ_OPEN, {"client_ids": locked}, assumed_s) if locked else {}


async def claim_allowances(
    session: AsyncSession,
    client_ids: Collection[UUID],
    *,
    region: str,
    model: str,
    assumed_s: int,
    waits: bool = True,
) -> dict[UUID, Allowance]:
    """As `lock_allowances`, for a claim: only files that are submitted or running are reserved.

    Other claims of these clients wait until the transaction ends. Without `waits`, as it must be from the second call
    of a transaction on, the clients of other claims are left out.
    """
    if waits:
        await lock_claims(session, client_ids)
    else:
        client_ids = await try_lock_claims(session, client_ids)
    values = {"client_ids": list(client_ids), "region": region, "model": model}
    return await _read_allowances(session, _READ_RUNNING, values, assumed_s)


async def _read_allowances(
    session: AsyncSession, statement: Executable, values: dict[str, Any], assumed_s: int
) -> dict[UUID, Allowance]:
    values = {**values, "minutes": KEEP_UNTIL_MIN, "limit": RECENT_FILES}
    rows = (await session.execute(statement, values)).all()
    allowances = {
        row.client_id: Allowance(
            client=row.client,
            budget=Budget(row.amount, row.currency, BudgetPeriod(row.period)),
            spent=row.spent,
            resets_at=row.resets_at,
            resets_in_s=row.resets_in_s,
            recent={model: (Decimal(cost), files) for model, cost, files in row.recent or ()},
            assumed_s=assumed_s,
            is_held=row.is_held,
        )
        for row in rows
    }
    for row in rows:
        allowance = allowances[row.client_id]
        for model, region, files in row.under_way or ():
            price = find_price(model, region)
            if price is not None and price.currency == allowance.budget.currency:
                allowance.reserved += files * allowance.estimate(model, price)
    if any(row.later_rows > KEEP_FROM_ROWS and row.is_old for row in rows):
        await session.execute(_KEEP, {"client_ids": values["client_ids"], "minutes": KEEP_UNTIL_MIN})
    return allowances


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

# Reused files say nothing about costs. The correction of a bill is a row without a file.
_RECENT = """
    SELECT model, CAST(sum(cost) AS text) AS cost, sum(files) AS files
    FROM (
        SELECT model, account, cost, files FROM usage
        WHERE usage.client_id = budget.client_id ORDER BY at DESC LIMIT :limit
    ) AS newest
    WHERE account IS NOT NULL
    GROUP BY model
    HAVING sum(files) > 0
"""

# Canceled files that upstream may bill.
_DROPPED = """
    SELECT dropped_files.model, dropped_files.region, 1 AS files
    FROM dropped_files JOIN tasks ON tasks.id = dropped_files.task_id AND tasks.state <> 'done'
    WHERE dropped_files.client_id = budget.client_id AND dropped_files.open
"""
# By the statuses of open jobs, which the index of unusual jobs has: failed and canceled jobs may be many.
_OPEN = f"""
    SELECT model, region, files_queued + files_running AS files FROM jobs
    WHERE jobs.client_id = budget.client_id AND status IN ('queued', 'running')
    UNION ALL {_DROPPED}
"""  # noqa: S608 - constants
# The counters of jobs have the files that are being submitted as queued ones.
_RUNNING = f"""
    SELECT model, region, files_running AS files FROM jobs
    WHERE jobs.client_id = budget.client_id AND status = 'running' AND files_running > 0
    UNION ALL
    SELECT model, region, files FROM submitting WHERE submitting.client_id = budget.client_id
    UNION ALL {_DROPPED}
"""  # noqa: S608 - constants
_SUBMITTING = """
    SELECT files.client_id, files.model, files.region, count(*) AS files
    FROM tasks JOIN files ON files.task_id = tasks.id AND files.status = 'submitting'
    WHERE tasks.state IN ('submitting', 'unsure') AND files.client_id = ANY(:client_ids)
    GROUP BY files.client_id, files.model, files.region
"""


def _read(under_way: str, *, parts: str = "", is_held: str = "false") -> Executable:
    """One statement, so that a file that ends meanwhile is either under way or in the usage."""
    statement = text(f"""
        {parts}
        SELECT budget.client_id, client, amount, currency, period, resets_at,
            ceil(extract(epoch FROM resets_at - statement_timestamp()))::int AS resets_in_s,
            CASE WHEN is_counted THEN counted ELSE 0 END + later.cost AS spent, later.rows AS later_rows,
            since < statement_timestamp() - 2 * make_interval(mins => :minutes) AS is_old,
            (SELECT json_agg(json_build_array(model, cost, files)) FROM ({_RECENT}) AS recent) AS recent,
            (SELECT json_agg(json_build_array(model, region, files)) FROM (
                SELECT model, region, sum(files) AS files FROM ({under_way}) AS each GROUP BY model, region
            ) AS under_way) AS under_way,
            {is_held} AS is_held
        FROM ({_PERIODS}) AS budget
        CROSS JOIN LATERAL (SELECT CASE WHEN is_counted THEN counted_until ELSE starts_at END AS since) AS counting
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(usage.cost), 0) AS cost, count(*) AS rows FROM usage
            WHERE usage.client_id = budget.client_id AND usage.at >= since AND usage.currency = budget.currency
        ) AS later
    """)  # noqa: S608 - constants
    return statement.columns(recent=JSON, under_way=JSON)


_READ_OPEN = _read(_OPEN)
_READ_RUNNING = _read(
    _RUNNING,
    parts=f"WITH submitting AS MATERIALIZED ({_SUBMITTING})",
    is_held="""EXISTS (
        SELECT FROM budget_holds AS hold
        WHERE hold.client_id = budget.client_id AND hold.region = :region AND hold.model = :model)""",
)

# A claim leaves budgets alone that a request has locked: the insert of a large job must not delay it.
_KEEP = text(f"""
    UPDATE client_budgets SET counted_from = starts_at, counted_until = until,
        counted = CASE WHEN is_counted THEN budget.counted ELSE 0 END + (
            SELECT coalesce(sum(usage.cost), 0) FROM usage
            WHERE usage.client_id = budget.client_id AND usage.currency = budget.currency
              AND usage.at >= CASE WHEN is_counted THEN budget.counted_until ELSE starts_at END AND usage.at < until
        )
    FROM ({_PERIODS}) AS budget
    JOIN (SELECT client_id FROM client_budgets WHERE client_id = ANY(:client_ids) FOR UPDATE SKIP LOCKED) AS own
        ON own.client_id = budget.client_id
    CROSS JOIN LATERAL (
        SELECT greatest(
            starts_at, CASE WHEN is_counted THEN budget.counted_until END,
            statement_timestamp() - make_interval(mins => :minutes)
        ) AS until
    ) AS keeping
    WHERE client_budgets.client_id = budget.client_id
""")  # noqa: S608 - constants
