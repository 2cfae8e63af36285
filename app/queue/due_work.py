"""The work that is due for a poller, and the claims of tasks that are to be reconciled or canceled upstream.

All functions take a session and run in the caller's transaction, which should be short.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import JSON, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.dashscope.circuits import Circuit, read_circuits
from app.queue.budget_holds import END_HOLDS_OF_TASK
from app.queue.leases import LEASE_IS_FREE, RELEASE_LEASE, TAKE_LEASE
from app.queue.submit_queues import WAITING_FOR_ACCOUNT, WAITING_QUEUES, WaitingQueues

# Unsure tasks that one round of the reconciler takes.
RECONCILE_BATCH = 200
# Cancels of one account that are sent at the same time. Each waits for the account's budget.
CANCEL_BATCH = 20


@dataclass(frozen=True, slots=True)
class AccountDueWork:
    account: str
    poll: bool  # a task is due for a poll
    reconcile: bool  # an unsure task is due
    cancel: bool  # a task is to be canceled upstream
    running: int  # tasks in state `running`


@dataclass(frozen=True, slots=True)
class DueWork:
    waiting: list[tuple[str, str]]  # (region, model) of queued files
    waiting_for_account: list[tuple[str, str, str]]  # (region, model, account) of queued files that it alone may submit
    accounts: list[AccountDueWork]
    circuits: Sequence[Circuit]  # open ones
    deliveries: bool  # a webhook delivery is due


async def read_due_work(
    session: AsyncSession, accounts: Mapping[str, float], queues: WaitingQueues | None = None
) -> DueWork:
    """Read what is due. Also turns `submitting` tasks of pollers that stopped into `unsure` ones.

    One statement of index probes, so an idle poller costs little: five of them a second. Open circuits and tasks of
    pollers that stopped are rare, and need one more each.
    `accounts` maps an account to the seconds by which a poll must be overdue if the task list has not shown the end
    of the task.
    """
    queues = queues or WaitingQueues()
    scan = queues.scan_is_due
    values = {"accounts": list(accounts), "late_s": list(accounts.values()), "scan": scan}
    due = (await session.execute(_DUE, values)).one()
    if scan:
        queues.note([tuple(each) for each in due.waiting or ()], scan_s=due.scan_s)
    if due.stopped:
        await expire_submitting(session)
    return DueWork(
        waiting=queues.found,
        waiting_for_account=[tuple(each) for each in due.waiting_for_account or ()],
        accounts=[AccountDueWork(*each) for each in due.accounts or ()],
        circuits=await read_circuits(session) if due.circuits else [],
        deliveries=due.deliveries,
    )


async def expire_submitting(session: AsyncSession) -> None:
    """Turn `submitting` tasks whose lease expired into `unsure` ones. One statement; repeating it does nothing."""
    await session.execute(_EXPIRE_SUBMITTING)


@dataclass(frozen=True, slots=True)
class UnsureTask:
    """A task that upstream may or may not have. `file_urls` are the URLs that were sent."""

    id: UUID
    model: str
    created_at: datetime
    lost_at: datetime
    lost_s: float  # since `lost_at`
    absent_s: float | None  # since the first of the last readings of the list, all of which lacked the task
    file_urls: tuple[str, ...]


async def claim_unsure_tasks(session: AsyncSession, account: str, *, token: UUID) -> list[UnsureTask]:
    """Lease the unsure tasks that are due, all of the model of the oldest one, oldest first. One statement."""
    rows = await session.execute(_CLAIM_UNSURE, {"account": account, "token": token, "batch": RECONCILE_BATCH})
    tasks = [
        UnsureTask(row.id, row.model, row.created_at, row.lost_at, row.lost_s, row.absent_s, tuple(row.urls))
        for row in rows
    ]
    return sorted(tasks, key=lambda task: task.created_at)


async def unresolved_submits(session: AsyncSession, account: str, model: str) -> dict[UUID, Sequence[str]]:
    """The URLs of each task that upstream may have without our knowing its id. One statement.

    These are the `submitting` and `unsure` tasks, and those that `submissions.fail_ambiguous` closed.
    """
    rows = await session.execute(_UNRESOLVED, {"account": account, "model": model})
    return {row.id: row.urls for row in rows}


async def known_upstream_tasks(session: AsyncSession, region: str, upstream_task_ids: Collection[str]) -> set[str]:
    """Which of the upstream ids belong to a task of the queue. One statement."""
    return set(await session.scalars(_KNOWN, {"region": region, "ids": list(upstream_task_ids)}))


async def schedule_reconcile(
    session: AsyncSession,
    task_ids: Sequence[UUID],
    *,
    token: UUID,
    wait_s: float,
    last_error: str,
    absent: bool = False,
) -> None:
    """Release unsure tasks and make them due again in `wait_s`. One statement. Tasks with another lease stay.

    `absent`: the whole task list was read, and has none of these tasks.
    """
    values = {"ids": task_ids, "token": token, "wait_s": wait_s, "last_error": last_error, "absent": absent}
    await session.execute(_SCHEDULE_RECONCILE, values)


@dataclass(frozen=True, slots=True)
class UnwantedTask:
    """A running task without open files: all of them were canceled. Upstream can cancel only a PENDING task."""

    id: UUID
    upstream_task_id: str


async def claim_unwanted_tasks(session: AsyncSession, account: str, *, token: UUID) -> list[UnwantedTask]:
    """Lease up to CANCEL_BATCH tasks that are to be canceled upstream. One statement."""
    rows = await session.execute(_CLAIM_UNWANTED, {"account": account, "token": token, "batch": CANCEL_BATCH})
    return [UnwantedTask(row.id, row.upstream_task_id) for row in rows]


async def close_unwanted(
    session: AsyncSession, task_id: UUID, *, token: UUID, canceled: bool, last_error: str | None
) -> None:
    """End the task if upstream canceled it; else it is polled to its end, for its bill. One statement.

    Does nothing if the lease was lost.
    """
    values = {"id": task_id, "token": token, "canceled": canceled, "last_error": last_error and last_error[:500]}
    await session.execute(_CLOSE_UNWANTED, values)


@dataclass(frozen=True, slots=True)
class WaitingFiles:
    region: str
    model: str
    files: int
    oldest_s: float  # age of the file that has waited longest


@dataclass(frozen=True, slots=True)
class OpenTasks:
    """The tasks of an account in one state. `lost_s`: since the oldest submit was lost, if they are unsure."""

    account: str
    state: str
    count: int
    lost_s: float | None


async def count_waiting_files(session: AsyncSession) -> list[WaitingFiles]:
    """The queued files of each region and model. One statement, 20 ms with 100,000 queued files."""
    rows = await session.execute(_COUNT_WAITING)
    return [WaitingFiles(row.region, row.model, row.files, row.oldest_s) for row in rows]


async def count_open_tasks(session: AsyncSession) -> list[OpenTasks]:
    """The open tasks of each account and state that has some, by account and state. One statement."""
    rows = await session.execute(_COUNT_TASKS)
    return [OpenTasks(row.account, row.state, row.tasks, row.lost_s) for row in rows]


async def oldest_uncollected_s(session: AsyncSession) -> dict[str, float]:
    """Age of the ended task of each account whose results have waited longest. One statement."""
    return {row.account: row.age_s for row in await session.execute(_OLDEST_UNCOLLECTED)}


_STOPPED = f"SELECT id FROM tasks WHERE state = 'submitting' AND {LEASE_IS_FREE}"  # noqa: S608 - constants

_EXPIRE_SUBMITTING = text(f"""
    UPDATE tasks SET state = 'unsure', lost_at = coalesce(lease_until, now()), next_poll_at = now(), {RELEASE_LEASE},
        last_error = 'the poller that submitted the task stopped'
    WHERE id IN ({_STOPPED} FOR UPDATE SKIP LOCKED)
""")  # noqa: S608 - constants

# The fields of AccountDueWork, in their order.
_ACCOUNTS = f"""
    SELECT json_agg(json_build_array(
        account,
        EXISTS (SELECT FROM tasks WHERE tasks.account = accounts.account AND state = 'running'
                AND ended_at IS NOT NULL AND next_poll_at <= now() AND {LEASE_IS_FREE})
        OR EXISTS (SELECT FROM tasks WHERE tasks.account = accounts.account AND state = 'running'
                AND ended_at IS NULL AND next_poll_at <= now() - make_interval(secs => late_s)
                AND {LEASE_IS_FREE}),
        EXISTS (SELECT FROM tasks WHERE tasks.account = accounts.account AND state = 'unsure' AND next_poll_at <= now()
                AND {LEASE_IS_FREE}),
        EXISTS (SELECT FROM tasks WHERE tasks.account = accounts.account AND state = 'running'
                AND cancel_wanted_at IS NOT NULL AND {LEASE_IS_FREE}),
        (SELECT count(*) FROM tasks WHERE tasks.account = accounts.account AND state = 'running')
    ))
    FROM unnest(CAST(:accounts AS text[]), CAST(:late_s AS float8[])) AS accounts (account, late_s)
"""  # noqa: S608 - constants

# The scan comes first: `scan_s` has its time alone.
_DUE = text(f"""
    SELECT CASE WHEN :scan THEN ({WAITING_QUEUES}) END AS waiting,
        extract(epoch FROM clock_timestamp() - statement_timestamp())::float8 AS scan_s,
        ({WAITING_FOR_ACCOUNT}) AS waiting_for_account,
        ({_ACCOUNTS}) AS accounts,
        EXISTS (SELECT FROM circuits WHERE closed_at IS NULL) AS circuits,
        EXISTS (SELECT FROM deliveries WHERE status = 'pending' AND due_at <= now()) AS deliveries,
        EXISTS ({_STOPPED}) AS stopped
""").columns(waiting=JSON, waiting_for_account=JSON, accounts=JSON)  # noqa: S608 - constants

# The files that were sent include those that were canceled since. Without them the upstream task would not match.
_URLS = """
    ARRAY(SELECT coalesce(sent_as, url) FROM files WHERE files.task_id = tasks.id
          UNION SELECT unnest(tasks.canceled_urls)) AS urls
"""

_CLAIM_UNSURE = text(f"""
    UPDATE tasks SET {TAKE_LEASE}
    FROM (
        SELECT id FROM tasks
        WHERE account = :account AND state = 'unsure' AND next_poll_at <= now() AND {LEASE_IS_FREE}
          AND model = (
            SELECT model FROM tasks
            WHERE account = :account AND state = 'unsure' AND next_poll_at <= now() AND {LEASE_IS_FREE}
            ORDER BY created_at LIMIT 1)
        ORDER BY created_at LIMIT :batch FOR UPDATE SKIP LOCKED
    ) AS due
    WHERE tasks.id = due.id
    RETURNING tasks.id, tasks.model, tasks.created_at, tasks.lost_at,
        extract(epoch FROM now() - tasks.lost_at)::float8 AS lost_s,
        extract(epoch FROM now() - tasks.absent_since)::float8 AS absent_s, {_URLS}
""")  # noqa: S608 - constants

_UNRESOLVED = text(f"""
    SELECT id, {_URLS}
    FROM tasks WHERE account = :account AND model = :model
      AND (state IN ('submitting', 'unsure') OR state = 'done' AND upstream_task_id IS NULL AND canceled_urls <> '{{}}')
""")  # noqa: S608 - constants

_KNOWN = text("SELECT upstream_task_id FROM tasks WHERE region = :region AND upstream_task_id = ANY(:ids)")

_SCHEDULE_RECONCILE = text(f"""
    UPDATE tasks SET next_poll_at = now() + make_interval(secs => :wait_s), polls = polls + 1,
        absent_since = CASE WHEN :absent THEN coalesce(absent_since, now()) END,
        last_error = :last_error, {RELEASE_LEASE}
    WHERE id IN (
        SELECT id FROM tasks WHERE id = ANY(:ids) AND lease_token = :token AND state = 'unsure'
        ORDER BY id FOR NO KEY UPDATE
    )
""")  # noqa: S608 - constants

_CLAIM_UNWANTED = text(f"""
    UPDATE tasks SET {TAKE_LEASE}
    WHERE id IN (
        SELECT id FROM tasks
        WHERE account = :account AND state = 'running' AND cancel_wanted_at IS NOT NULL AND {LEASE_IS_FREE}
        LIMIT :batch FOR UPDATE SKIP LOCKED
    )
    RETURNING id, upstream_task_id
""")  # noqa: S608 - constants

# A task has no dropped file if a process of an earlier release canceled its files.
_CLOSE_UNWANTED = text(f"""
    WITH {END_HOLDS_OF_TASK}
    UPDATE tasks SET state = CASE WHEN ends THEN 'done' ELSE 'running' END, done_at = CASE WHEN ends THEN now() END,
        upstream_status = CASE WHEN :canceled THEN 'CANCELED' ELSE upstream_status END,
        cancel_wanted_at = CASE WHEN ends THEN cancel_wanted_at END,
        next_poll_at = CASE WHEN ends THEN next_poll_at ELSE now() END,
        last_error = :last_error, {RELEASE_LEASE}
    FROM (
        SELECT CAST(:canceled AS bool) OR NOT EXISTS (SELECT FROM dropped_files WHERE task_id = :id AND open) AS ends
    ) AS decision
    WHERE id = :id AND lease_token = :token AND state = 'running'
""")  # noqa: S608 - constants

# Index-only except for the pages that changed last.
_COUNT_WAITING = text("""
    SELECT region, model, count(*) AS files, extract(epoch FROM now() - min(queued_at))::float8 AS oldest_s
    FROM files WHERE status = 'queued' GROUP BY region, model
""")

_COUNT_TASKS = text("""
    SELECT account, state, count(*) AS tasks, extract(epoch FROM now() - min(lost_at))::float8 AS lost_s
    FROM tasks WHERE state <> 'done' GROUP BY account, state ORDER BY account, state
""")

_OLDEST_UNCOLLECTED = text("""
    SELECT account, extract(epoch FROM now() - min(ended_at))::float8 AS age_s FROM tasks
    WHERE state = 'running' AND ended_at IS NOT NULL GROUP BY account
""")
