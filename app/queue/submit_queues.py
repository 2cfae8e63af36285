"""Submit queues: which of them have queued files, and which clients these files belong to.

Both are loose scans of the index of queued files: one index probe for each queue, or for each client of a queue.
Counting or sorting all queued rows would take time in proportion to the backlog.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.queue.budget_holds import IS_NOT_HELD

# A claim reads no more clients than this. A task has at most 100 files, so further clients would get none.
MAX_CLIENTS = 100
# A full scan that takes the server longer than this is not repeated for FULL_SCAN_EVERY_S.
SLOW_SCAN_S = 0.005
FULL_SCAN_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class SubmitQueue:
    """The queued files of one region and model, as one account takes them, with the limits that apply.

    `own`: the files that only this account may submit. They are a queue beside that of the files for any account.
    """

    account: str
    region: str
    model: str
    max_files: int  # per task
    submits_per_s: float  # of all accounts that take these files together
    own: bool = False
    budget_assumed_s: int = 300  # BUDGET_ASSUMED_SECONDS

    @property
    def key(self) -> dict[str, str]:
        return {"region": self.region, "model": self.model, "only_account": self.account if self.own else ""}


class FullScans:
    """Whether a full scan of the queue may be repeated, as one process decides.

    While some transaction holds an old snapshot, PostgreSQL cannot remove the index entries of files that have left
    the queue, and a full scan reads all of them. What a slow scan has found is used for FULL_SCAN_EVERY_S.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, slow_scan_s: float = SLOW_SCAN_S) -> None:
        self._clock = clock
        self._slow_scan_s = slow_scan_s
        self._next_at = 0.0

    @property
    def is_due(self) -> bool:
        return self._clock() >= self._next_at

    def note(self, scan_s: float) -> None:
        """Note a full scan that took the server `scan_s`."""
        self._next_at = self._clock() + FULL_SCAN_EVERY_S if scan_s > self._slow_scan_s else 0.0


class QueueHeads:
    """The oldest queued file of each client, as the claims of one process found them.

    After a slow scan the next ones begin at the heads that are known, and so see no file in front of them and no new
    client.
    """

    def __init__(self, full_scans: FullScans | None = None) -> None:
        self._full_scans = full_scans or FullScans()
        self._jobs: dict[UUID, UUID] = {}

    async def waiting(self, session: AsyncSession, submit_queue: SubmitQueue) -> Sequence[Row[Any]]:
        """The clients with queued files that no budget holds, the next to be served first. One or two statements."""
        rows: Sequence[Row[Any]] = []
        if self._jobs and not self._full_scans.is_due:
            known = {"clients": list(self._jobs), "jobs": list(self._jobs.values())}
            rows = (await session.execute(WAITING_BEHIND, {**submit_queue.key, **known})).all()
        if not rows:
            rows = (await session.execute(WAITING, submit_queue.key)).all()
            self._full_scans.note(rows[0].scan_s if rows else 0.0)
        self._jobs = {row.client_id: row.job_id for row in rows}
        return rows


class WaitingQueues:
    """The (region, model) pairs with queued files, as one process found them."""

    def __init__(self, full_scans: FullScans | None = None) -> None:
        self._full_scans = full_scans or FullScans()
        self._found: list[tuple[str, str]] = []

    @property
    def scan_is_due(self) -> bool:
        return self._full_scans.is_due

    @property
    def found(self) -> list[tuple[str, str]]:
        return list(self._found)

    def note(self, found: list[tuple[str, str]], *, scan_s: float) -> None:
        """Note what a scan has found that took the server `scan_s`."""
        self._found = found
        self._full_scans.note(scan_s)


# The first MAX_CLIENTS clients in turn that have a file which may be submitted now. The join keeps their order, so the
# heads of the others are not read: with 1,000 clients that wait that is most of a claim.
_HEADS = f"""
    SELECT waiting.client_id, head.job_id, head.group_key, extract(epoch FROM now() - head.queued_at)::float8 AS age_s,
        extract(epoch FROM clock_timestamp() - statement_timestamp())::float8 AS scan_s,
        EXISTS (SELECT FROM client_budgets WHERE client_budgets.client_id = waiting.client_id) AS has_budget
    FROM (
        SELECT waiting.*, turns.last_served_us FROM waiting
        LEFT JOIN turns ON turns.region = :region AND turns.model = :model AND turns.client_id = waiting.client_id
        WHERE {IS_NOT_HELD.format(row="waiting")}
        ORDER BY turns.last_served_us NULLS FIRST, waiting.first_job OFFSET 0
    ) AS waiting
    CROSS JOIN LATERAL (
        SELECT group_key, job_id, queued_at FROM files
        WHERE status = 'queued' AND region = :region AND model = :model AND client_id = waiting.client_id
          AND account = :only_account AND job_id >= waiting.job_id AND (not_before IS NULL OR not_before <= now())
        ORDER BY job_id, index LIMIT 1
    ) AS head
    ORDER BY waiting.last_served_us NULLS FIRST, waiting.first_job LIMIT {MAX_CLIENTS}
"""  # noqa: S608 - a constant

# The clients with queued files, and the oldest file of each.
WAITING = text(f"""
    WITH RECURSIVE waiting AS (
        (SELECT client_id, job_id AS first_job, uuid '00000000-0000-0000-0000-000000000000' AS job_id FROM files
         WHERE status = 'queued' AND region = :region AND model = :model
         ORDER BY client_id, account, files.job_id LIMIT 1)
        UNION ALL
        SELECT following.client_id, following.job_id, waiting.job_id FROM waiting CROSS JOIN LATERAL (
            SELECT client_id, job_id FROM files
            WHERE status = 'queued' AND region = :region AND model = :model AND client_id > waiting.client_id
            ORDER BY client_id, account, job_id LIMIT 1
        ) AS following
    )
    {_HEADS}
""")  # noqa: S608 - constants

# The same for known clients, without the files in front of a known job.
WAITING_BEHIND = text(f"""
    WITH waiting AS (
        SELECT client_id, job_id, job_id AS first_job
        FROM unnest(CAST(:clients AS uuid[]), CAST(:jobs AS uuid[])) AS known (client_id, job_id)
    )
    {_HEADS}
""")  # noqa: S608 - constants

# The (region, model) pairs with queued files.
WAITING_QUEUES = """
    WITH RECURSIVE submit_queue AS (
        (SELECT region, model FROM files WHERE status = 'queued' ORDER BY region, model LIMIT 1)
        UNION ALL
        SELECT following.region, following.model FROM submit_queue CROSS JOIN LATERAL (
            SELECT region, model FROM files
            WHERE status = 'queued' AND (region, model) > (submit_queue.region, submit_queue.model)
            ORDER BY region, model LIMIT 1
        ) AS following
    )
    SELECT json_agg(json_build_array(region, model)) FROM submit_queue
"""

# The same for the files that only one account may submit: most queues have none.
WAITING_FOR_ACCOUNT = """
    WITH RECURSIVE submit_queue AS (
        (SELECT region, model, account FROM files WHERE status = 'queued' AND account <> ''
         ORDER BY region, model, account LIMIT 1)
        UNION ALL
        SELECT following.region, following.model, following.account FROM submit_queue CROSS JOIN LATERAL (
            SELECT region, model, account FROM files
            WHERE status = 'queued' AND account <> ''
              AND (region, model, account) > (submit_queue.region, submit_queue.model, submit_queue.account)
            ORDER BY region, model, account LIMIT 1
        ) AS following
    )
    SELECT json_agg(json_build_array(region, model, account)) FROM submit_queue
"""
