"""What is left to do once in a while: rows that nobody will ask about any more.

Tasks of an account without a key, and lost submits that could not be looked for, are left for a day, in case the key
or the task list comes back. Then upstream has forgotten them.
"""

from collections.abc import Collection

import structlog
from sqlalchemy import text

from app.db import Sessions, transaction
from app.poller.outcomes import EXPIRED
from app.queue.leases import LEASE_S, LeaseLost
from app.queue.results import Result, close_if_done, lock_for_result, open_files, store_results
from app.queue.submissions import requeue

log = structlog.get_logger()

_CLAIM = text("""
    UPDATE tasks SET lease_token = gen_random_uuid(), lease_until = now() + make_interval(secs => :lease_s)
    WHERE id IN (
        SELECT id FROM tasks
        WHERE (state = 'unsure' OR state = 'running' AND account <> ALL(:accounts))
          AND created_at < now() - interval '25 hours' AND (lease_until IS NULL OR lease_until < now())
        LIMIT 10 FOR UPDATE SKIP LOCKED
    )
    RETURNING id, account, state, lease_token
""")


# The reconciler must know every task that upstream still lists, also those of jobs that were deleted. A narrow span
# of the index, and not all that ever ended: what is missed while no poller runs stays, and hurts nobody.
_FORGET = text("""
    DELETE FROM tasks
    WHERE state = 'done' AND done_at BETWEEN now() - interval '27 hours' AND now() - interval '25 hours'
      AND NOT EXISTS (SELECT FROM files WHERE task_id = tasks.id)
""")

# Upstream may have lifted the limit, or something else was to blame: it is learnt anew from a few refused groups.
_UNLEARN = text("DELETE FROM group_limits WHERE learnt_at < now() - interval '7 days'")


# Of accounts that are no longer configured, and of models without a waiting file. The next refusal opens one anew.
_FORGET_CIRCUITS = text("DELETE FROM circuits WHERE probe_at < now() - interval '1 day'")


async def tidy(sessions: Sessions, accounts: Collection[str]) -> None:
    while await give_up_abandoned(sessions, accounts):
        pass
    await forget(sessions)


async def forget(sessions: Sessions) -> None:
    """Tasks that carried nothing that is still there, since all of it was canceled, retried or deleted; old limits."""
    async with transaction(sessions) as session:
        await session.execute(_FORGET)
        await session.execute(_UNLEARN)
        await session.execute(_FORGET_CIRCUITS)


async def give_up_abandoned(sessions: Sessions, accounts: Collection[str]) -> int:
    """How many tasks were given up. Files that upstream has transcribed and forgotten fail as expired; those whose
    submit was lost, and could not be looked for in a day, wait again."""
    async with transaction(sessions) as session:
        claimed = (await session.execute(_CLAIM, {"accounts": list(accounts), "lease_s": LEASE_S})).all()
    for task in claimed:
        log.warning("task given up after a day", task=str(task.id), account=task.account)
        async with transaction(sessions) as session:
            if task.state == "unsure":
                await requeue(session, task.id, token=task.lease_token)
                continue
            try:
                await lock_for_result(session, task.id, task.lease_token, status="UNKNOWN", usage_s=None)
            except LeaseLost:
                continue
            files = await open_files(session, task.id)
            await store_results(session, task.id, [Result(file, "failed", failure=EXPIRED) for file in files])
            await close_if_done(session, task.id, task.lease_token)
    return len(claimed)
