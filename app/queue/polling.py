"""The polls of running tasks: which task is next, when it is due again, and which tasks the task list should show.

Tasks that seem to have ended come first, in the order of `app.queue.collect_order`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.identifiers import standard_uuid
from app.queue.collect_order import URGENT_AFTER_S, EndedTasks, collect_times
from app.queue.leases import LEASE_IS_FREE, LEASE_S, RELEASE_LEASE, TAKE_LIST_LEASE

# A task is not expected in the task list until upstream has had this long to list it.
LISTED_AFTER_S = 2
# The time of a task that waits for its turn is less than this after its end. A poll that is repeated comes later.
TURN_S = 1.0


@dataclass(frozen=True, slots=True)
class TaskFile:
    """An open file of a task: its outcome is not known yet. `dropped`: a canceled file, polled for its bill only."""

    job_id: UUID
    index: int
    client_id: UUID
    url: str
    sent_as: str  # how responses name the file: `url`, unless another URL was sent
    attempts: int
    result_failures: int
    dropped: bool = False


@dataclass(frozen=True, slots=True)
class PolledTask:
    """A task that this poller has a lease on, with its files at the time of the claim."""

    task_id: UUID
    token: UUID
    upstream_task_id: str
    model: str
    region: str
    file_count: int  # files that were submitted, including those canceled since
    age_s: float  # since the submit
    ended_s: float  # since the end was first seen; 0 before
    files: list[TaskFile] = field(default_factory=list)  # open ones
    finished_urls: list[str] = field(default_factory=list)  # of the files whose outcome is known and that are in it

    @property
    def has_one_file(self) -> bool:
        """Whether the task was submitted with one file."""
        return self.file_count == 1


async def claim_polls(session: AsyncSession, account: str, *, late_s: float, limit: int) -> list[PolledTask]:
    """Lease up to `limit` tasks that are due, the most urgent ones, in their order. One statement.

    `late_s` is by how long a poll must be overdue if nothing shows that the task has ended.
    """
    rows = await session.execute(_CLAIM, {"account": account, "late_s": late_s, "limit": limit})
    return [_polled(row) for row in sorted(rows, key=lambda row: row.place)]


async def open_files(session: AsyncSession, task_id: UUID) -> list[TaskFile]:
    """The files of a task whose outcome is not known yet. One statement."""
    return [_file(row) for row in await session.execute(_FILES, {"id": task_id})]


@dataclass(frozen=True, slots=True)
class NextPoll:
    """A task that is to be released, and due again in `wait_s`.

    `alive`: a query says that the task has not ended, whatever the task list showed.
    """

    task_id: UUID
    token: UUID
    wait_s: float
    status: str | None = None
    alive: bool = False
    last_error: str | None = None


async def schedule_polls(session: AsyncSession, polls: Sequence[NextPoll]) -> None:
    """Release the tasks and make them due again. One statement. A task with another lease token is not changed."""
    await session.execute(
        _SCHEDULE,
        {
            "ids": [poll.task_id for poll in polls],
            "tokens": [poll.token for poll in polls],
            "waits_s": [poll.wait_s for poll in polls],
            "statuses": [poll.status for poll in polls],
            "alive": [poll.alive for poll in polls],
            "errors": [poll.last_error for poll in polls],
        },
    )


async def take_running_tasks(session: AsyncSession, account: str, *, token: UUID) -> dict[UUID, str] | None:
    """Upstream ids by task id of the tasks that the task list should show. One statement.

    Takes or renews the right to read the account's task list, for LIST_LEASE_S. None if another poller has it.
    """
    values = {"account": account, "token": token, "listed_after_s": LISTED_AFTER_S}
    rows = (await session.execute(_TAKE_RUNNING, values)).all()
    return {row.id: row.upstream_task_id for row in rows if row.id} if rows else None


async def mark_ended(session: AsyncSession, account: str, task_ids: Collection[UUID]) -> None:
    """Note that the task list no longer shows the tasks: they are due for a poll, in turn. Two statements."""
    values = {"account": account, "ids": list(task_ids), "urgent_s": URGENT_AFTER_S, "turn_s": TURN_S}
    rows = (await session.execute(_ENDED_BY_CLIENT, values)).all()
    times = collect_times([EndedTasks(row.ended, row.urgent, row.last_s, row.next_s) for row in rows])
    await session.execute(_MARK_ENDED, {"ids": list(task_ids), "timed": list(times), "times_s": list(times.values())})


def _polled(row: Row[Any]) -> PolledTask:
    files = [TaskFile(UUID(job_id), number, UUID(client_id), *rest) for job_id, number, client_id, *rest in row.files]
    return PolledTask(
        task_id=row.id,
        token=row.lease_token,
        upstream_task_id=row.upstream_task_id,
        model=row.model,
        region=row.region,
        file_count=row.file_count,
        age_s=row.age_s,
        ended_s=row.ended_s,
        files=files,
        finished_urls=row.finished_urls,
    )


def _file(row: Row[Any]) -> TaskFile:
    return TaskFile(
        job_id=standard_uuid(row.job_id),
        index=row.number,
        client_id=row.client_id,
        url=row.url,
        sent_as=row.sent_as,
        attempts=row.attempts,
        result_failures=row.result_failures,
        dropped=row.dropped,
    )


_NEXT = f"""
    SELECT id, next_poll_at FROM tasks
    WHERE account = :account AND state = 'running' AND {LEASE_IS_FREE} AND {{due}}
    ORDER BY next_poll_at LIMIT {{limit}} FOR UPDATE SKIP LOCKED
"""  # noqa: S608 - constants
_NEXT_ENDED = _NEXT.format(due="ended_at IS NOT NULL AND next_poll_at <= now()", limit=":limit")
_NEXT_DUE = _NEXT.format(
    due="ended_at IS NULL AND next_poll_at <= now() - make_interval(secs => :late_s)",
    limit=":limit - (SELECT count(*) FROM ended)",
)

# The fields of TaskFile, in their order. The attempts of a dropped file do not matter: it is not submitted again.
_OPEN = """
    SELECT job_id, index, client_id, url, coalesce(sent_as, url) AS sent_as, attempts, result_failures,
        false AS dropped
    FROM files WHERE task_id = {task_id} AND status = 'running'
    UNION ALL
    SELECT job_id, index, client_id, url, sent_as, 1, result_failures, true
    FROM dropped_files WHERE task_id = {task_id} AND open
"""
_OPEN_FILES = f"""
    SELECT coalesce(json_agg(json_build_array(
        job_id, index, client_id, url, sent_as, attempts, result_failures, dropped) ORDER BY job_id, index), '[]')
    FROM ({_OPEN.format(task_id="tasks.id")}) AS open_files
"""  # noqa: S608 - constants

_CLAIM = text(f"""
    WITH ended AS ({_NEXT_ENDED}), due AS ({_NEXT_DUE}), next AS (
        SELECT id, row_number() OVER (ORDER BY kind, next_poll_at) AS place
        FROM (SELECT 1 AS kind, * FROM ended UNION ALL SELECT 2, * FROM due) AS found
    )
    UPDATE tasks SET lease_token = gen_random_uuid(), lease_until = now() + interval '{LEASE_S} s'
    FROM next WHERE tasks.id = next.id
    RETURNING tasks.id, lease_token, upstream_task_id, model, region, file_count, place, ({_OPEN_FILES}) AS files,
        ARRAY(SELECT coalesce(sent_as, url) FROM files
              WHERE task_id = tasks.id AND status NOT IN ('running', 'canceled')
              UNION ALL SELECT sent_as FROM dropped_files WHERE task_id = tasks.id AND NOT open) AS finished_urls,
        extract(epoch FROM now() - submitted_at)::float8 AS age_s,
        coalesce(extract(epoch FROM now() - ended_at), 0)::float8 AS ended_s
""")  # noqa: S608 - constants

_FILES = text(f"""
    SELECT open_files.*, index AS number FROM ({_OPEN.format(task_id=":id")}) AS open_files ORDER BY job_id, index
""")  # noqa: S608 - constants

# Rows are locked in the order of their ids, as in all statements that lock several tasks: no deadlocks.
_SCHEDULE = text(f"""
    WITH locked AS (
        SELECT id FROM tasks WHERE id = ANY(:ids) AND state = 'running' ORDER BY id FOR NO KEY UPDATE
    )
    UPDATE tasks SET next_poll_at = now() + make_interval(secs => wait_s), polls = polls + 1,
        upstream_status = coalesce(poll.status, upstream_status),
        ended_at = CASE WHEN alive THEN NULL ELSE ended_at END,
        last_error = poll.error, {RELEASE_LEASE}
    FROM locked JOIN unnest(
        CAST(:ids AS uuid[]), CAST(:tokens AS uuid[]), CAST(:waits_s AS float8[]), CAST(:statuses AS text[]),
        CAST(:alive AS bool[]), CAST(:errors AS text[])
    ) AS poll (id, token, wait_s, status, alive, error) USING (id)
    WHERE tasks.id = poll.id AND lease_token = token AND state = 'running'
""")  # noqa: S608 - constants

# With the lease there is at least one row, which is empty if no task runs.
_TAKE_RUNNING = text(f"""
    WITH lease AS ({TAKE_LIST_LEASE})
    SELECT id, upstream_task_id
    FROM lease LEFT JOIN tasks ON tasks.account = lease.account AND state = 'running' AND ended_at IS NULL
      AND submitted_at < now() - make_interval(secs => :listed_after_s)
""")  # noqa: S608 - constants

# Ids of tasks are in the order of their creation. A task that was polled again after its turn has a time far behind
# its end, and counts neither as the last of its client nor, while it waits, as the next.
_ENDED_BY_CLIENT = text("""
    SELECT files.client_id,
        array_remove(array_agg(DISTINCT CASE WHEN tasks.id = ANY(:ids) THEN tasks.id END), NULL) AS ended,
        array_remove(array_agg(DISTINCT CASE WHEN tasks.id = ANY(:ids)
            AND tasks.submitted_at < now() - make_interval(secs => :urgent_s) THEN tasks.id END), NULL) AS urgent,
        extract(epoch FROM max(tasks.next_poll_at) FILTER (
            WHERE tasks.ended_at IS NOT NULL AND tasks.next_poll_at < tasks.ended_at + make_interval(secs => :turn_s))
            - now())::float8 AS last_s,
        extract(epoch FROM min(tasks.next_poll_at) FILTER (
            WHERE tasks.ended_at IS NOT NULL AND tasks.lease_token IS NULL AND tasks.next_poll_at <= now()
              AND tasks.next_poll_at > now() - make_interval(secs => :urgent_s))
            - now())::float8 AS next_s
    FROM tasks JOIN files ON files.task_id = tasks.id AND files.status = 'running'
    WHERE tasks.account = :account AND tasks.state = 'running' AND (tasks.ended_at IS NOT NULL OR tasks.id = ANY(:ids))
    GROUP BY files.client_id
    ORDER BY files.client_id
""")

_MARK_ENDED = text("""
    UPDATE tasks SET ended_at = now(), next_poll_at = now() + make_interval(secs => coalesce(
        (SELECT turn.at_s FROM unnest(CAST(:timed AS uuid[]), CAST(:times_s AS float8[])) AS turn (id, at_s)
         WHERE turn.id = tasks.id), 0))
    WHERE id IN (
        SELECT id FROM tasks WHERE id = ANY(:ids) AND state = 'running' AND ended_at IS NULL FOR UPDATE SKIP LOCKED
    )
""")
