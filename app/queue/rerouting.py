"""The transitions of queued files that their region cannot take: to another region, or to `failed`."""

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.dashscope.failures import Failure
from app.db import after_commit
from app.queue.job_json import KEEPS_REGION
from app.queue.submissions import error_columns, record_failures

# Queued files that one transaction moves to another region or fails.
BATCH = 1000

log = structlog.get_logger()


async def fail_unknown_model(
    session: AsyncSession, *, region: str, model: str, bound: bool, movable: bool, failure: Failure
) -> int:
    """Fail queued files of a model that upstream does not know, at most BATCH, and return their number.

    `movable`: those that may go to another region; `bound`: those that may not. One statement and those of
    `apply_changes`.
    """
    where = {"region": region, "model": model, "bound": bound, "movable": movable, "batch": BATCH}
    rows = (await session.execute(_FAIL_UNKNOWN, {**where, **error_columns(failure)})).all()
    await record_failures(session, None, rows, failure)
    return len(rows)


async def move_waiting_files(session: AsyncSession, region: str, model: str, *, to: str) -> int:
    """Move queued files to another region where their job allows it, at most BATCH, and return their number.

    The `region` of a job changes only while all of its files are queued. One or two statements.
    """
    moved = await session.scalars(_MOVE, {"region": region, "model": model, "to": to, "batch": BATCH})
    jobs = list(moved)
    if jobs:
        await session.execute(_MOVE_JOBS, {"jobs": list(set(jobs)), "to": to})
        count = len(jobs)
        after_commit(
            session,
            lambda: log.warning("files moved to another region", files=count, model=model, region=region, to=to),
        )
    return len(jobs)


# Files that may move: the gateway chose the region of the job, and no account has the file.
_MOVABLE = f"NOT {KEEPS_REGION} AND files.account = '' AND files.url NOT LIKE 'oss://%'"

_FAIL_UNKNOWN = text(f"""
    UPDATE files SET status = 'failed', finished_at = now(), not_before = NULL, error_code = :code,
        error_message = :message, error_retryable = :retryable, error_upstream_code = :upstream_code
    FROM (
        SELECT files.job_id, files.index FROM files JOIN jobs ON jobs.id = files.job_id
        WHERE files.status = 'queued' AND files.region = :region AND files.model = :model
          AND CASE WHEN {_MOVABLE} THEN CAST(:movable AS bool) ELSE CAST(:bound AS bool) END
        LIMIT :batch FOR UPDATE OF files SKIP LOCKED
    ) AS chosen
    WHERE files.job_id = chosen.job_id AND files.index = chosen.index
    RETURNING files.job_id, files.index AS number, files.model, files.region
""")  # noqa: S608 - constants

_MOVE = text(f"""
    UPDATE files SET region = :to
    FROM (
        SELECT files.job_id, files.index FROM files JOIN jobs ON jobs.id = files.job_id
        WHERE files.status = 'queued' AND files.region = :region AND files.model = :model AND {_MOVABLE}
        LIMIT :batch FOR UPDATE OF files SKIP LOCKED
    ) AS chosen
    WHERE files.job_id = chosen.job_id AND files.index = chosen.index
    RETURNING files.job_id
""")  # noqa: S608 - constants

_MOVE_JOBS = text("""
    UPDATE jobs SET region = :to, version = version + 1
    WHERE id IN (SELECT id FROM jobs WHERE id = ANY(:jobs) AND files_queued = files_total ORDER BY id FOR UPDATE)
      AND region <> :to
""")
