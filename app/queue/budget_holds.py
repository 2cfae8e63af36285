"""Holds queued files of clients that have used up their budgets.

A claim that finds no room in a client's budget writes a hold. Later claims do not see the client until the hold ends,
and then decide again. So files go on by themselves when the period ends. What makes room ends the holds at once: the
result of a file of the client, since the file may have cost less than was reserved, its refusal by upstream, its way
back to the queue, and the cancel of its task. A change of the budget deletes the holds.
"""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.queue.spending import Allowance, claim_allowances

# A claim reads the budgets of the first waiting clients, up to this many, and waits for other claims of them.
MAX_BUDGETS = 20
# If these have no room, it reads the budgets of so many more clients. It does not wait for other claims of these.
MORE_BUDGETS = 60
# For clients with running files: a claim may decide while a result is stored, and hold the client after that.
HELD_BY_RUNNING_S = 10
# For clients that have spent the budget: the spent amount falls only if the bill of a task is corrected.
HELD_BY_SPENT_S = 30


async def rooms_in_budgets(
    session: AsyncSession,
    client_ids: Collection[UUID],
    *,
    region: str,
    model: str,
    assumed_s: int,
    waits: bool = True,
) -> dict[UUID, int]:
    """How many files of each client a claim may take, by the budgets of the clients.

    Clients without a budget are left out, and without `waits` those of other claims: see `claim_allowances`. Clients
    without room are held. Two statements, and one more each if clients are held or no longer held; none without
    clients.
    """
    if not client_ids:
        return {}
    allowances = await claim_allowances(
        session, client_ids, region=region, model=model, assumed_s=assumed_s, waits=waits
    )
    rooms = {client_id: allowance.room(model, region) for client_id, allowance in allowances.items()}
    queue = {"region": region, "model": model}
    if held := [client_id for client_id, room in rooms.items() if not room]:
        seconds = [_held_s(allowances[client_id]) for client_id in held]
        await session.execute(_HOLD, {**queue, "client_ids": held, "seconds": seconds})
    if free := [client_id for client_id, room in rooms.items() if room and allowances[client_id].is_held]:
        await session.execute(_RELEASE, {**queue, "client_ids": free})
    return rooms


async def end_holds_of_task(session: AsyncSession, task_id: UUID) -> None:
    """End the holds of the clients that have a file in this task. One statement.

    Call this after statements that lock queued files: a probe writes a hold after it has locked a file.
    """
    await session.execute(_END_HOLDS_OF_TASK, {"id": task_id})


async def delete_old_holds(session: AsyncSession) -> None:
    """Delete the holds that ended over an hour ago: their clients have no queued file any more. One statement."""
    await session.execute(_DELETE_OLD)


def _held_s(allowance: Allowance) -> int:
    return min(allowance.resets_in_s, HELD_BY_RUNNING_S if allowance.left > 0 else HELD_BY_SPENT_S)


# A part of a statement that has the queue's region and model: the condition that the client of a row is not held.
IS_NOT_HELD = """
    NOT EXISTS (
        SELECT FROM budget_holds AS hold
        WHERE hold.client_id = {row}.client_id AND hold.region = :region AND hold.model = :model AND hold.until > now()
    )
"""

_HOLD = text("""
    INSERT INTO budget_holds (client_id, region, model, until)
    SELECT client_id, :region, :model, now() + make_interval(secs => held_s)
    FROM unnest(CAST(:client_ids AS uuid[]), CAST(:seconds AS int[])) AS held (client_id, held_s)
    ORDER BY client_id
    ON CONFLICT (client_id, region, model) DO UPDATE SET until = excluded.until
""")

# A part of the statements that end files: the clients of `ended` are not held any more. SKIP LOCKED: neither waits
# for a claim nor for other results, so no deadlock.
END_HOLDS = """
    UPDATE budget_holds SET until = now()
    FROM (
        SELECT client_id, region, model FROM budget_holds
        WHERE client_id IN (SELECT client_id FROM ended) AND until > now()
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS held
    WHERE budget_holds.client_id = held.client_id AND budget_holds.region = held.region
      AND budget_holds.model = held.model
"""

# A part of the statements after which no file of the task `:id` runs. `END_HOLDS` applies to the clients of all its
# files, of which some may have been canceled.
END_HOLDS_OF_TASK = f"""
    ended AS (
        SELECT client_id FROM files WHERE task_id = :id
        UNION SELECT client_id FROM dropped_files WHERE task_id = :id
    ), released AS ({END_HOLDS})
"""  # noqa: S608 - a constant

_END_HOLDS_OF_TASK = text(f"WITH {END_HOLDS_OF_TASK} SELECT count(*) FROM ended")  # noqa: S608 - a constant

_RELEASE = text("""
    DELETE FROM budget_holds WHERE client_id = ANY(:client_ids) AND region = :region AND model = :model
""")

_DELETE_OLD = text("DELETE FROM budget_holds WHERE until < now() - interval '1 hour'")
