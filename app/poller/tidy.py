"""What is left to do once in a while: task rows that nobody will ask about any more.

Tasks of an account without a key are left for a day, in case the key comes back. Then upstream has forgotten them,
and their files say so.
"""

from collections.abc import Collection

import structlog
from sqlalchemy import text

from app.db import Sessions, transaction
from app.poller.leases import LeaseLost
from app.poller.outcomes import EXPIRED
from app.poller.records import record_later
from app.poller.store import Result, close_if_done, hold, open_files, store_results

EVERY_S = 60.0

log = structlog.get_logger()

_CLAIM = text("""
    UPDATE tasks SET lease_token = gen_random_uuid(), lease_until = now() + interval '20 s'
    WHERE id IN (
        SELECT id FROM tasks
        WHERE state IN ('running', 'unsure') AND account <> ALL(:accounts)
          AND created_at < now() - interval '25 hours' AND (lease_until IS NULL OR lease_until < now())
        LIMIT 10 FOR UPDATE SKIP LOCKED
    )
    RETURNING id, account, state, lease_token
""")


# The reconciler must know every task that upstream still lists, also those of jobs that were deleted.
_FORGET = text("""
    DELETE FROM tasks WHERE id IN (
        SELECT id FROM tasks
        WHERE state = 'done' AND done_at < now() - interval '25 hours'
          AND NOT EXISTS (SELECT FROM files WHERE task_id = tasks.id)
        LIMIT 1000 FOR UPDATE SKIP LOCKED
    )
""")


async def tidy(sessions: Sessions, accounts: Collection[str]) -> None:
    await give_up_abandoned(sessions, accounts)
    await forget_old_tasks(sessions)


async def forget_old_tasks(sessions: Sessions) -> None:
    """Tasks that carried nothing that is still there: all of their files were canceled, retried or deleted."""
    async with transaction(sessions) as session:
        await session.execute(_FORGET)


async def give_up_abandoned(sessions: Sessions, accounts: Collection[str]) -> None:
    """Files that upstream has transcribed and forgotten fail as expired; those that may not be there wait again."""
    async with transaction(sessions) as session:
        claimed = (await session.execute(_CLAIM, {"accounts": list(accounts)})).all()
    for task in claimed:
        log.warning("task of an account without a key given up", task=str(task.id), account=task.account)
        async with transaction(sessions) as session:
            if task.state == "unsure":
                await record_later(session, task.id, token=task.lease_token)
                continue
            try:
                await hold(session, task.id, task.lease_token, status="UNKNOWN", usage_s=None)
            except LeaseLost:
                continue
            files = await open_files(session, task.id)
            await store_results(session, task.id, [Result(file, "failed", failure=EXPIRED) for file in files])
            await close_if_done(session, task.id, task.lease_token)
