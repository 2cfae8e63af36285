"""Claiming waiting files: in turn over clients, grouped by what may share a task, written down before the submit.

One short transaction. The task row that it leaves behind is the write-ahead record: whoever finds it `submitting`
after its lease ran out knows that upstream may have the task.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.dashscope.file_urls import DistinctFiles
from app.identifiers import new_id
from app.queue.grouping import group_size
from app.queue.leases import LEASE_S

# Who waits, and the oldest file of each: one index probe a client (a loose scan). Counting or sorting all waiting
# rows would take time in proportion to the backlog.
WAITING = text("""
    WITH RECURSIVE waiting AS (
        (SELECT client_id FROM files
         WHERE status = 'queued' AND region = :region AND model = :model
         ORDER BY client_id LIMIT 1)
        UNION ALL
        SELECT following.client_id FROM waiting CROSS JOIN LATERAL (
            SELECT client_id FROM files
            WHERE status = 'queued' AND region = :region AND model = :model AND client_id > waiting.client_id
            ORDER BY client_id LIMIT 1
        ) AS following
    )
    SELECT waiting.client_id, head.group_key, extract(epoch FROM now() - head.queued_at)::float8 AS age_s
    FROM waiting
    CROSS JOIN LATERAL (
        SELECT group_key, job_id, queued_at FROM files
        WHERE status = 'queued' AND region = :region AND model = :model AND client_id = waiting.client_id
          AND (not_before IS NULL OR not_before <= now())
        ORDER BY job_id, index LIMIT 1
    ) AS head
    LEFT JOIN turns ON turns.region = :region AND turns.model = :model AND turns.client_id = waiting.client_id
    ORDER BY turns.last_served_us NULLS FIRST, head.job_id
""")

# Of more waiting clients than a task has files, the next ones in turn are enough.
MAX_CLIENTS = 100

_COUNT = text("""
    SELECT count(*) FROM (
        SELECT FROM files
        WHERE status = 'queued' AND region = :region AND model = :model AND group_key = :group_key
        LIMIT :enough
    ) AS waiting
""")

# Each client's oldest files, by the index alone; of those one of each client in turn; and only these are locked.
# What another poller is just claiming is skipped, so a few more are looked at than are taken.
_PICK = text("""
    SELECT files.job_id, files.index AS number, files.client_id, files.url, files.group_limit
    FROM (
        SELECT job_id, index, turn, row_number() OVER (PARTITION BY turn ORDER BY job_id, index) AS round
        FROM unnest(CAST(:clients AS uuid[])) WITH ORDINALITY AS clients (client_id, turn)
        CROSS JOIN LATERAL (
            SELECT job_id, index FROM files
            WHERE status = 'queued' AND region = :region AND model = :model
              AND group_key = :group_key AND client_id = clients.client_id
              AND (not_before IS NULL OR not_before <= now())
            ORDER BY job_id, index LIMIT :reach
        ) AS oldest
        ORDER BY round, turn LIMIT :reach
    ) AS chosen
    JOIN files ON files.job_id = chosen.job_id AND files.index = chosen.index
    WHERE files.status = 'queued'
    ORDER BY chosen.round, chosen.turn LIMIT :size
    FOR UPDATE OF files SKIP LOCKED
""")

# For a probe. Always the oldest one, a file that is refused for its own sake, in the words of a missing right, would
# keep the circuit open for all others.
_PICK_ANY = text("""
    SELECT files.job_id, files.index AS number, files.client_id, files.url, files.group_limit
    FROM (
        SELECT job_id, index FROM files
        WHERE status = 'queued' AND region = :region AND model = :model AND (not_before IS NULL OR not_before <= now())
        ORDER BY random() LIMIT 1
    ) AS chosen
    JOIN files ON files.job_id = chosen.job_id AND files.index = chosen.index
    WHERE files.status = 'queued'
    FOR UPDATE OF files SKIP LOCKED
""")

_RECORD = text("""
    INSERT INTO tasks (id, account, region, model, parameters, file_count, state, lease_token, lease_until)
    SELECT :id, :account, :region, :model, jobs.parameters, :file_count, 'submitting', :token,
           now() + make_interval(secs => :lease_s)
    FROM jobs WHERE jobs.id = :job_id
    RETURNING parameters
""")

_TAKE = text("""
    UPDATE files SET status = 'submitting', task_id = :task_id
    FROM unnest(CAST(:jobs AS uuid[]), CAST(:indexes AS int[])) AS chosen (job_id, index)
    WHERE files.job_id = chosen.job_id AND files.index = chosen.index
""")

_SERVE = text("""
    INSERT INTO turns (region, model, client_id, last_served_us)
    SELECT :region, :model, client_id, extract(epoch FROM clock_timestamp()) * 1000000
    FROM unnest(CAST(:clients AS uuid[])) AS client_id
    ON CONFLICT (region, model, client_id) DO UPDATE SET last_served_us = excluded.last_served_us
""")

_LEARNT = text("SELECT max_files FROM group_limits WHERE account = :account AND model = :model")


@dataclass(frozen=True, slots=True)
class SubmitQueue:
    """Where files are claimed for: one account, region and model, with the limits that hold there."""

    account: str
    region: str
    model: str
    most: int  # files a task
    submits_per_s: float  # of all accounts of the region together

    @property
    def queue(self) -> dict[str, str]:
        return {"region": self.region, "model": self.model}


@dataclass(frozen=True, slots=True)
class Claim:
    """Files that are to go out as one task, and the task row that says so."""

    task_id: UUID
    token: UUID
    parameters: dict[str, Any]
    file_urls: list[str]


async def claim_files(session: AsyncSession, submit_queue: SubmitQueue, *, token: UUID) -> Claim | None:
    """Claim the next group, or None when nothing waits that may go out now. Seven statements at most."""
    waiting = (await session.execute(WAITING, submit_queue.queue)).all()
    if not waiting:
        return None
    # The oldest file of the client in turn decides the group key. Files of other clients with that key share the task.
    group_key: UUID = waiting[0].group_key
    clients = [client.client_id for client in waiting[:MAX_CLIENTS]]
    size = await _size(session, submit_queue, group_key, waiting)
    pick = {"group_key": group_key, "clients": clients, "size": size, "reach": 2 * size + 20}
    picked = await session.execute(_PICK, {**submit_queue.queue, **pick})
    chosen = _distinct(picked.all(), size)
    if not chosen:
        return None
    return await _record(session, submit_queue, chosen, token)


async def claim_any_file(session: AsyncSession, submit_queue: SubmitQueue, *, token: UUID) -> Claim | None:
    """Claim one waiting file at random, out of turn, or None when none may go out now."""
    picked = (await session.execute(_PICK_ANY, submit_queue.queue)).all()
    return await _record(session, submit_queue, picked, token) if picked else None


async def _size(session: AsyncSession, submit_queue: SubmitQueue, group_key: UUID, waiting: Sequence[Row[Any]]) -> int:
    learnt = await session.scalar(_LEARNT, {"account": submit_queue.account, "model": submit_queue.model})
    most = min(submit_queue.most, learnt or submit_queue.most)
    if most == 1:
        return 1
    # More than the largest tasks could carry away in time need not be counted.
    enough = int(most * submit_queue.submits_per_s) + 1
    count = await session.scalar(_COUNT, {**submit_queue.queue, "group_key": group_key, "enough": enough})
    return group_size(
        waiting=count or 0,
        oldest_age_s=max(client.age_s for client in waiting if client.group_key == group_key),
        submits_per_s=submit_queue.submits_per_s,
        groups=len({client.group_key for client in waiting}),
        most=most,
    )


def _distinct(picked: Sequence[Row[Any]], size: int) -> list[Row[Any]]:
    """Results are told apart by their `file_url`: files of one task must differ in it, however upstream spells it."""
    chosen: list[Row[Any]] = []
    distinct = DistinctFiles()
    for row in picked:
        size = min(size, row.group_limit or size)
        if len(chosen) >= size:
            break
        if distinct.add(row.url):
            chosen.append(row)
    return chosen


async def _record(session: AsyncSession, submit_queue: SubmitQueue, chosen: Sequence[Row[Any]], token: UUID) -> Claim:
    task_id = new_id()
    parameters = await session.scalar(
        _RECORD,
        {
            **submit_queue.queue,
            "id": task_id,
            "account": submit_queue.account,
            "file_count": len(chosen),
            "token": token,
            "lease_s": LEASE_S,
            "job_id": chosen[0].job_id,
        },
    )
    await session.execute(
        _TAKE,
        {"task_id": task_id, "jobs": [row.job_id for row in chosen], "indexes": [row.number for row in chosen]},
    )
    # In order: claims at the same time serve many of the same clients, and must not wait for each other in a circle.
    await session.execute(_SERVE, {**submit_queue.queue, "clients": sorted({row.client_id for row in chosen})})
    return Claim(task_id, token, parameters, [row.url for row in chosen])
