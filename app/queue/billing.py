"""Divides the bill of a task over its files when the last of them has its result, and records it as usage."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalogue import Bill, Recognised, RegionalPrice, TaskUsage, bill_by_usage


@dataclass(frozen=True, slots=True)
class TaskBill:
    """Upstream's figures for a task of `file_count` files, and the price of its model."""

    usage: TaskUsage
    price: RegionalPrice
    file_count: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """New bills of files of a task that are stored already, as (job id, index, bill)."""

    task_id: UUID
    bills: Sequence[tuple[UUID, int, Bill]] = ()
    # The difference of each job's cost.
    differences: Mapping[UUID, Decimal] = field(default_factory=dict)


async def settle(session: AsyncSession, task_id: UUID, bill: TaskBill) -> Settlement:
    """The bills of a task's files, whose results were stored in several transactions. One statement.

    Empty while a file is open, and if the bills are right already. The task is locked.
    """
    rows = (await session.execute(_FILES, {"id": task_id})).all()
    succeeded = [row for row in rows if row.status == "succeeded"]
    if not succeeded or any(row.status == "running" for row in rows):
        return Settlement(task_id)
    files = [Recognised(row.audio_duration_ms or 0, row.channels) for row in succeeded]
    bills = bill_by_usage(bill.price, bill.usage, files)
    if bills is None:
        return Settlement(task_id)
    changed = [(row, new) for row, new in zip(succeeded, bills, strict=True) if row.cost != new.cost]
    differences: defaultdict[UUID, Decimal] = defaultdict(Decimal)
    for row, new in changed:
        differences[row.job_id] += new.cost - (row.cost or 0)
    return Settlement(task_id, [(row.job_id, row.number, new) for row, new in changed], differences)


async def write_bills(session: AsyncSession, settlement: Settlement) -> None:
    """Change the bills of files, and add the differences to the usage. One statement, none if no bill changed.

    Lock the jobs first, with `apply_changes`: a job of the task may be final, and may be deleted at the same time.
    """
    if settlement.bills:
        columns = bill_columns([bill for _, _, bill in settlement.bills])
        keys = {"job_ids": [key for key, _, _ in settlement.bills], "indexes": [at for _, at, _ in settlement.bills]}
        await session.execute(_WRITE, {"task_id": settlement.task_id, **keys, **columns})


def bill_columns(bills: Sequence[Bill | None]) -> dict[str, list[Any]]:
    """The parameters of a statement for the columns of `files`."""
    return {
        "billed_s": [bill.seconds if bill else None for bill in bills],
        "input_tokens": [bill.input_tokens if bill else None for bill in bills],
        "output_tokens": [bill.output_tokens if bill else None for bill in bills],
        "costs": [bill.cost if bill else None for bill in bills],
        "currencies": [bill.currency if bill else None for bill in bills],
    }


# Adds rows to the usage, from `billed`: a row of a CTE for each file, with the columns of `usage` that are named here.
# `metadata` is NULL if the job still exists: the usage then takes the metadata of the job.
RECORD_USAGE = """
    INSERT INTO usage (at, client_id, client, job_id, file_index, model, region, account, metadata, files, audio_ms,
                       billed_s, input_tokens, output_tokens, cost, currency)
    SELECT now(), billed.client_id, clients.name, billed.job_id, billed.number, billed.model, billed.region,
        tasks.account, coalesce(billed.metadata, jobs.metadata), billed.files, billed.audio_ms,
        coalesce(billed.billed_s, 0), coalesce(billed.input_tokens, 0), coalesce(billed.output_tokens, 0),
        coalesce(billed.cost, 0), coalesce(billed.currency, 'CNY')
    FROM billed
    LEFT JOIN jobs ON jobs.id = billed.job_id
    JOIN clients ON clients.id = billed.client_id
    LEFT JOIN tasks ON tasks.id = billed.task_id
"""


_CHANNELS = "jsonb_array_length(coalesce(tasks.parameters -> 'channel_id', '[0]')) AS channels"
_FILES = text(f"""
    SELECT files.job_id, files.index AS number, files.status, files.audio_duration_ms, files.cost, {_CHANNELS}
    FROM files JOIN tasks ON tasks.id = files.task_id
    WHERE files.task_id = :id
    UNION ALL
    SELECT dropped.job_id, dropped.index,
        CASE WHEN open THEN 'running' WHEN audio_duration_ms IS NULL THEN 'failed' ELSE 'succeeded' END,
        dropped.audio_duration_ms, dropped.cost, {_CHANNELS}
    FROM dropped_files AS dropped JOIN tasks ON tasks.id = dropped.task_id
    WHERE dropped.task_id = :id
    ORDER BY job_id, number
""")  # noqa: S608 - constants

# Of the tables of files and of dropped files. A canceled file has its bill as a dropped file.
_CHANGE = """
    UPDATE {table} SET billed_s = new.billed_s, input_tokens = new.input_tokens, output_tokens = new.output_tokens,
        cost = new.cost
    FROM new JOIN {table} AS before ON before.job_id = new.job_id AND before.index = new.index
    WHERE {table}.job_id = new.job_id AND {table}.index = new.index
      AND before.task_id = :task_id AND {table}.task_id = :task_id AND {billed}
    RETURNING {table}.job_id, {table}.index AS number, {table}.client_id, {table}.task_id, {table}.model,
        {table}.region, {metadata} AS metadata, 0 AS files, 0 AS audio_ms, new.currency,
        new.billed_s - coalesce(before.billed_s, 0) AS billed_s,
        new.input_tokens - coalesce(before.input_tokens, 0) AS input_tokens,
        new.output_tokens - coalesce(before.output_tokens, 0) AS output_tokens,
        new.cost - coalesce(before.cost, 0) AS cost
"""

_HAS_BILL = "files.status <> 'canceled'"

_WRITE = text(f"""
    WITH new AS (
        SELECT * FROM unnest(
            CAST(:job_ids AS uuid[]), CAST(:indexes AS int[]), CAST(:billed_s AS numeric[]),
            CAST(:input_tokens AS int[]), CAST(:output_tokens AS int[]), CAST(:costs AS numeric[]),
            CAST(:currencies AS text[])
        ) AS new (job_id, index, billed_s, input_tokens, output_tokens, cost, currency)
    ), of_files AS ({_CHANGE.format(table="files", billed=_HAS_BILL, metadata="CAST(NULL AS jsonb)")}),
    of_dropped AS ({_CHANGE.format(table="dropped_files", billed="true", metadata="dropped_files.metadata")}),
    billed AS (SELECT * FROM of_files UNION ALL SELECT * FROM of_dropped)
    {RECORD_USAGE}
""")  # noqa: S608 - constants
