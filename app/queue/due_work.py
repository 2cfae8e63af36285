"""What there is to do, in one query: so that an idle poller costs one cheap query a round and no more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.dashscope.circuits import Circuit, read_circuits

EXPIRE_SUBMITTING = text("""
    UPDATE tasks SET state = 'unsure', lost_at = lease_until, next_poll_at = now(), lease_token = NULL,
        lease_until = NULL, last_error = 'the poller that submitted it went away'
    WHERE id IN (
        SELECT id FROM tasks WHERE state = 'submitting' AND lease_until < clock_timestamp() FOR UPDATE SKIP LOCKED
    )
""")

# Which (region, model) pairs have waiting files: one index probe a pair.
_WAITING = text("""
    WITH RECURSIVE submit_queue AS (
        (SELECT region, model FROM files WHERE status = 'queued' ORDER BY region, model LIMIT 1)
        UNION ALL
        SELECT following.region, following.model FROM submit_queue CROSS JOIN LATERAL (
            SELECT region, model FROM files
            WHERE status = 'queued' AND (region, model) > (submit_queue.region, submit_queue.model)
            ORDER BY region, model LIMIT 1
        ) AS following
    )
    SELECT region, model FROM submit_queue
""")

_TASKS = text("""
    SELECT account,
        EXISTS (SELECT FROM tasks WHERE tasks.account = accounts.account AND state = 'running'
                AND ended_at IS NOT NULL AND next_poll_at <= now()
                AND (lease_until IS NULL OR lease_until < now()))
        OR EXISTS (SELECT FROM tasks WHERE tasks.account = accounts.account AND state = 'running'
                AND ended_at IS NULL AND next_poll_at <= now() - make_interval(secs => late_s)
                AND (lease_until IS NULL OR lease_until < now())) AS due,
        EXISTS (SELECT FROM tasks WHERE tasks.account = accounts.account AND state = 'unsure' AND next_poll_at <= now()
                AND (lease_until IS NULL OR lease_until < now())) AS unsure,
        EXISTS (SELECT FROM tasks WHERE tasks.account = accounts.account AND state = 'running'
                AND cancel_wanted_at IS NOT NULL AND (lease_until IS NULL OR lease_until < now())) AS unwanted,
        (SELECT count(*) FROM tasks WHERE tasks.account = accounts.account AND state = 'running') AS running
    FROM unnest(CAST(:accounts AS text[]), CAST(:late_s AS float8[])) AS accounts (account, late_s)
""")

_DELIVERIES = text("SELECT EXISTS (SELECT FROM deliveries WHERE status = 'pending' AND due_at <= now())")


@dataclass(frozen=True, slots=True)
class AccountDueWork:
    account: str
    due: bool  # a task is to be looked at
    unsure: bool  # a lost submit is to be reconciled
    unwanted: bool  # a task is to be cancelled upstream
    running: int  # tasks in flight


@dataclass(frozen=True, slots=True)
class DueWork:
    waiting: list[tuple[str, str]]  # (region, model)
    accounts: list[AccountDueWork]
    circuits: Sequence[Circuit]  # open ones
    deliveries: bool  # a webhook is to be told


async def read_due_work(session: AsyncSession, accounts: Mapping[str, float]) -> DueWork:
    """Five statements, each an index probe or a few; also notes submits whose poller went away.

    `accounts`: by how many seconds an account's tasks must be overdue before a look without a hint from the list.
    """
    await session.execute(EXPIRE_SUBMITTING)
    waiting = await session.execute(_WAITING)
    tasks = await session.execute(_TASKS, {"accounts": list(accounts), "late_s": list(accounts.values())})
    return DueWork(
        waiting=[(row.region, row.model) for row in waiting],
        accounts=[AccountDueWork(row.account, row.due, row.unsure, row.unwanted, row.running) for row in tasks],
        circuits=await read_circuits(session),
        deliveries=bool(await session.scalar(_DELIVERIES)),
    )
