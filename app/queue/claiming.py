"""Claims queued files for one task: in turn over the clients, grouped by `group_key`.

A claim is one short transaction that writes the task row before the submit. If the row is still `submitting` when its
lease has expired, upstream may have the task.

Files of clients with a budget are taken as far as the budget has room for them: see `app.queue.budget_holds`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.dashscope.circuits import IS_ACCEPTED
from app.dashscope.file_urls import DistinctFiles
from app.identifiers import new_id
from app.queue.budget_holds import IS_NOT_HELD, MAX_BUDGETS, MORE_BUDGETS, rooms_in_budgets
from app.queue.leases import LEASE_S
from app.queue.submit_queues import MAX_CLIENTS, QueueHeads, SubmitQueue

# The queued files should be submitted within this time after their arrival, if the submit rate allows it.
DRAIN_S = 0.3


@dataclass(frozen=True, slots=True)
class Claim:
    """Files that are to be submitted as one task, and the id of its row.

    `refusals` of a single file: how often upstream refused it alone although the account was accepted with others, the
    first time at `refused_since`.
    """

    task_id: UUID
    token: UUID
    parameters: dict[str, Any]
    file_urls: list[str]
    refusals: int = 0
    refused_since: datetime | None = None


async def claim_tasks(
    session: AsyncSession, submit_queue: SubmitQueue, *, tokens: Sequence[UUID], heads: QueueHeads | None = None
) -> list[Claim]:
    """Claim the next group; if a task has one file only, as many of them as there are tokens. Empty if none waits.

    Three statements with one file in a task, four with more, and one more after a slow scan. Two more if clients that
    wait have a budget, and four more if it has no room for the first of them. Also empty if it has none for the first
    MAX_BUDGETS + MORE_BUDGETS of them: these are held, so the next claim goes on behind them.
    """
    single = submit_queue.max_files == 1
    max_budgets = min(len(tokens), MAX_BUDGETS) if single else MAX_BUDGETS
    waiting, rooms = await _waiting_with_room(session, submit_queue, heads or QueueHeads(), max_budgets)
    if not waiting:
        return []
    # The oldest file of the next client decides the group key. Files of other clients with this key share the task.
    group_key: UUID = waiting[0].group_key
    size = len(tokens) if single else await _size(session, submit_queue, group_key, waiting, rooms)
    # Rows that another poller is claiming are skipped, so more rows are read than are taken.
    reach = 2 * size + 20
    heads_of = _heads(waiting[: min(reach, MAX_CLIENTS)], rooms, max_files=reach)
    pick = {"account": submit_queue.account, "group_key": group_key, **heads_of, "size": size, "reach": reach}
    picked = (await session.execute(PICK, {**submit_queue.key, **pick})).all()
    groups = [[row] for row in picked] if single else [_distinct_files(picked, size)] if picked else []
    return await _write_tasks(session, submit_queue, groups, tokens)


async def claim_any_file(session: AsyncSession, submit_queue: SubmitQueue, *, token: UUID) -> Claim | None:
    """Claim one random file for a probe, or None if no file may be submitted now.

    Two statements, and those of `rooms_in_budgets` for each client with a budget that is found on the way.
    """
    waits = True
    while picked := (await session.execute(_PICK_ANY, submit_queue.key)).all():
        client_id = picked[0].client_id
        rooms = (
            await _rooms(session, submit_queue, [client_id], waits=waits) if picked[0].has_budget else {client_id: 1}
        )
        if rooms.get(client_id):
            return (await _write_tasks(session, submit_queue, [picked], [token]))[0]
        if not rooms:
            return None  # another claim has this client
        waits = False
    return None


def group_size(*, waiting: int, oldest_age_s: float, submits_per_s: float, groups: int, max_files: int) -> int:
    """The number of files for the next task of a `group_key`. Pure.

    Upstream limits submits per second, not files, so files share tasks while there is a backlog. But a task takes as
    long as its slowest file, so a task is only as large as needed to submit all `waiting` files within DRAIN_S of
    their arrival. The oldest of them arrived `oldest_age_s` ago.

    `submits_per_s` is the rate of all accounts together, which the `groups` of the model share. `max_files` is the
    limit of the model. One queued file is always a group of one.
    """
    remaining_s = max(DRAIN_S - oldest_age_s, 0.0)
    submits = max(submits_per_s * remaining_s / max(groups, 1), 1.0)
    return max(1, min(max_files, waiting, math.ceil(waiting / submits)))


async def _waiting_with_room(
    session: AsyncSession, submit_queue: SubmitQueue, heads: QueueHeads, max_budgets: int
) -> tuple[Sequence[Row[Any]], dict[UUID, int]]:
    """The waiting clients with room in their budgets, and by client with a budget the number of files that fit.

    The budgets of up to `max_budgets` clients are read, and if these have no room, those of MORE_BUDGETS others.
    Clients without room are held, so the next claim goes on behind them.
    """
    waiting = await heads.waiting(session, submit_queue)
    budgeted = [row.client_id for row in waiting if row.has_budget]
    more = budgeted[max_budgets : max_budgets + MORE_BUDGETS]
    for client_ids, waits in ((budgeted[:max_budgets], True), (more, False)):
        rooms = await _rooms(session, submit_queue, client_ids, waits=waits)
        with_room = [row for row in waiting if not row.has_budget or rooms.get(row.client_id)]
        if with_room or not rooms:  # no rooms: other claims have these clients
            return with_room, rooms
    return (), {}


async def _rooms(
    session: AsyncSession, submit_queue: SubmitQueue, client_ids: Sequence[UUID], *, waits: bool
) -> dict[UUID, int]:
    return await rooms_in_budgets(
        session,
        client_ids,
        region=submit_queue.region,
        model=submit_queue.model,
        assumed_s=submit_queue.budget_assumed_s,
        waits=waits,
    )


async def _size(
    session: AsyncSession,
    submit_queue: SubmitQueue,
    group_key: UUID,
    waiting: Sequence[Row[Any]],
    rooms: Mapping[UUID, int],
) -> int:
    # Counting stops at the number of files that the largest tasks could carry within a second.
    max_count = int(submit_queue.max_files * submit_queue.submits_per_s) + 1
    values = {"account": submit_queue.account, "group_key": group_key, "max_count": max_count}
    heads = _heads(waiting, rooms, max_files=max_count)
    row = (await session.execute(COUNT, {**submit_queue.key, **heads, **values})).one()
    max_files = min(submit_queue.max_files, row.learned_limit or submit_queue.max_files)
    return group_size(
        waiting=row.files,
        oldest_age_s=max(client.age_s for client in waiting if client.group_key == group_key),
        submits_per_s=submit_queue.submits_per_s,
        groups=len({client.group_key for client in waiting}),
        max_files=max_files,
    )


def _heads(waiting: Sequence[Row[Any]], rooms: Mapping[UUID, int], *, max_files: int) -> dict[str, Any]:
    """The clients, the job where the queue of each begins, and how many files of each are read, up to `max_files`.

    Scans begin at these jobs, behind the rows that are gone.
    """
    return {
        "clients": [row.client_id for row in waiting],
        "jobs": [row.job_id for row in waiting],
        "rooms": [min(rooms.get(row.client_id, max_files), max_files) for row in waiting],
    }


def _distinct_files(picked: Sequence[Row[Any]], size: int) -> list[Row[Any]]:
    """The first files whose URLs differ in every spelling: results are assigned to files by `file_url` alone."""
    chosen: list[Row[Any]] = []
    distinct = DistinctFiles()
    for row in picked:
        size = min(size, row.group_limit or size)
        if len(chosen) >= size:
            break
        if distinct.add(row.url):
            chosen.append(row)
    return chosen


async def _write_tasks(
    session: AsyncSession, submit_queue: SubmitQueue, groups: Sequence[Sequence[Row[Any]]], tokens: Sequence[UUID]
) -> list[Claim]:
    """The claims of groups of files, each with the token in its place. One statement, none without a group."""
    if not groups:
        return []
    ids = [new_id() for _ in groups]
    files = [(task_id, row) for task_id, group in zip(ids, groups, strict=True) for row in group]
    rows = await session.execute(
        _WRITE_TASKS,
        {
            **submit_queue.key,
            "account": submit_queue.account,
            "ids": ids,
            "tokens": tokens[: len(ids)],
            "file_counts": [len(group) for group in groups],
            "first_jobs": [group[0].job_id for group in groups],
            "task_ids": [task_id for task_id, _ in files],
            "jobs": [row.job_id for _, row in files],
            "indexes": [row.number for _, row in files],
            # Sorted, because concurrent claims serve many of the same clients: no deadlocks.
            "clients": sorted({row.client_id for _, row in files}),
        },
    )
    parameters = {row.id: row.parameters for row in rows}
    return [
        Claim(task_id, token, parameters[task_id], [row.url for row in group], *_refusals(group))
        for task_id, token, group in zip(ids, tokens, groups, strict=False)
    ]


def _refusals(group: Sequence[Row[Any]]) -> tuple[int, datetime | None]:
    return (group[0].refusals, group[0].refused_since) if len(group) == 1 else (0, None)


COUNT = text("""
    SELECT count(*) AS files,
        (SELECT max_files FROM group_limits WHERE account = :account AND model = :model) AS learned_limit
    FROM (
        SELECT FROM unnest(CAST(:clients AS uuid[]), CAST(:jobs AS uuid[]), CAST(:rooms AS int[]))
            AS known (client_id, job_id, room)
        CROSS JOIN LATERAL (
            SELECT FROM files
            WHERE status = 'queued' AND region = :region AND model = :model AND group_key = :group_key
              AND client_id = known.client_id AND job_id >= known.job_id
            LIMIT known.room
        ) AS files
        LIMIT :max_count
    ) AS waiting
""")

# The oldest files of each client, by the index alone; of these one of each client in turn. These are locked.
PICK = text(f"""
    SELECT files.job_id, files.index AS number, files.client_id, files.url, group_limit, refusals, refused_since
    FROM (
        SELECT oldest.job_id, index, turn, row_number() OVER (PARTITION BY turn ORDER BY oldest.job_id, index) AS round
        FROM unnest(CAST(:clients AS uuid[]), CAST(:jobs AS uuid[]), CAST(:rooms AS int[]))
            WITH ORDINALITY AS clients (client_id, job_id, room, turn)
        CROSS JOIN LATERAL (
            SELECT job_id, index FROM files
            WHERE status = 'queued' AND region = :region AND model = :model
              AND group_key = :group_key AND client_id = clients.client_id AND job_id >= clients.job_id
              AND (not_before IS NULL OR not_before <= now())
            ORDER BY job_id, index LIMIT clients.room
        ) AS oldest
        ORDER BY round, turn LIMIT :reach
    ) AS chosen
    JOIN files ON files.job_id = chosen.job_id AND files.index = chosen.index
    WHERE files.status = 'queued' AND {IS_ACCEPTED}
    ORDER BY chosen.round, chosen.turn LIMIT :size
    FOR UPDATE OF files SKIP LOCKED
""")  # noqa: S608 - a constant

# For a probe. The file is random: if the oldest one were always tried, one bad file that upstream refuses with the
# code of a missing grant would keep the circuit open for all files. Files that are known for it come last.
_PICK_ANY = text(f"""
    SELECT files.job_id, files.index AS number, files.client_id, files.url, group_limit, refusals, refused_since,
        EXISTS (SELECT FROM client_budgets WHERE client_budgets.client_id = files.client_id) AS has_budget
    FROM (
        SELECT job_id, index FROM files
        WHERE status = 'queued' AND region = :region AND model = :model AND account = :only_account
          AND (not_before IS NULL OR not_before <= now()) AND {IS_NOT_HELD.format(row="files")}
        ORDER BY refusals, random() LIMIT 1
    ) AS chosen
    JOIN files ON files.job_id = chosen.job_id AND files.index = chosen.index
    WHERE files.status = 'queued'
    FOR UPDATE OF files SKIP LOCKED
""")  # noqa: S608 - constants

# The chosen files are locked already.
_WRITE_TASKS = text(f"""
    WITH task AS (
        INSERT INTO tasks (id, account, region, model, parameters, file_count, state, lease_token, lease_until)
        SELECT new.id, :account, :region, :model, jobs.parameters, new.file_count, 'submitting', new.token,
               now() + interval '{LEASE_S} s'
        FROM unnest(CAST(:ids AS uuid[]), CAST(:tokens AS uuid[]), CAST(:file_counts AS int[]),
                    CAST(:first_jobs AS uuid[])) AS new (id, token, file_count, job_id)
        JOIN jobs ON jobs.id = new.job_id
        RETURNING id, parameters
    ), taken AS (
        UPDATE files SET status = 'submitting', task_id = chosen.task_id
        FROM unnest(CAST(:task_ids AS uuid[]), CAST(:jobs AS uuid[]), CAST(:indexes AS int[]))
            AS chosen (task_id, job_id, index)
        WHERE files.job_id = chosen.job_id AND files.index = chosen.index
    ), served AS (
        INSERT INTO turns (region, model, client_id, last_served_us)
        SELECT :region, :model, client_id, extract(epoch FROM clock_timestamp()) * 1000000
        FROM unnest(CAST(:clients AS uuid[])) AS client_id
        ON CONFLICT (region, model, client_id) DO UPDATE SET last_served_us = excluded.last_served_us
    )
    SELECT id, parameters FROM task
""")  # noqa: S608 - a constant
