"""Moving files that wait to another region, where their job leaves that open."""

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.queue.job_json import KEEPS_REGION

BATCH = 1000

log = structlog.get_logger()

# Files whose job leaves the region open, and that mean the same elsewhere: uploads belong to an account and its region.
MOVABLE = f"NOT {KEEPS_REGION} AND files.url NOT LIKE 'oss://%'"

_MOVE = text(
    """
    UPDATE files SET region = :other
    FROM (
        SELECT files.job_id, files.index FROM files JOIN jobs ON jobs.id = files.job_id
        WHERE files.status = 'queued' AND files.region = :region AND files.model = :model
          AND {movable}
        LIMIT :batch FOR UPDATE OF files SKIP LOCKED
    ) AS chosen
    WHERE files.job_id = chosen.job_id AND files.index = chosen.index
    RETURNING files.job_id
""".replace("{movable}", MOVABLE)
)

_MOVE_JOBS = text("""
    UPDATE jobs SET region = :other, version = version + 1
    WHERE id IN (SELECT id FROM jobs WHERE id = ANY(:jobs) AND files_queued = files_total ORDER BY id FOR UPDATE)
      AND region <> :other
""")


async def move_waiting_files(session: AsyncSession, region: str, model: str, other: str) -> int:
    """How many files moved. A job's own `region` follows only while all of its files wait."""
    moved = await session.scalars(_MOVE, {"region": region, "model": model, "other": other, "batch": BATCH})
    jobs = list(moved)
    if jobs:
        await session.execute(_MOVE_JOBS, {"jobs": list(set(jobs)), "other": other})
        log.warning("files moved to another region", files=len(jobs), model=model, since=region, to=other)
    return len(jobs)
