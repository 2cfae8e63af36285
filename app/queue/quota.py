"""How many files of one client may wait. What arrives at the same moment may exceed it by as much."""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import ARRAY, Text, bindparam, text

from app.catalogue import MODELS, REGIONS
from app.db import CompiledQuery, RawConnection
from app.errors import Fault, GatewayError, InvalidRequest, TooManyWaitingFiles

# The queue's index leads with region and model: named, they make it a few short ranges. No more is counted than
# decides: 10,000 files take 1 ms, whoever else waits.
_WAITING = CompiledQuery(
    text("""
        SELECT client.id, (
            SELECT count(*) FROM (
                SELECT FROM files
                WHERE status = 'queued' AND region = ANY(:regions) AND model = ANY(:models) AND client_id = client.id
                LIMIT :enough
            ) AS waiting
        ) AS files
        FROM unnest(CAST(:client_ids AS uuid[])) AS client (id)
    """).bindparams(bindparam("regions", type_=ARRAY(Text)), bindparam("models", type_=ARRAY(Text)))
)


async def remaining_quota(connection: RawConnection, client_ids: Collection[UUID], limit: int) -> dict[UUID, int]:
    """How many more files of each client may wait; below zero when more do already. One statement."""
    values = {"client_ids": list(client_ids), "regions": list(REGIONS), "models": list(MODELS), "enough": limit + 1}
    return {row["id"]: limit - row["files"] for row in await _WAITING.fetch(connection, **values)}


def quota_exceeded(files: int, limit: int) -> GatewayError:
    """What a client is told whose files do not fit: 429 if they will later, 422 if they never will."""
    if files > limit:
        detail = f"has {files:,} files; this gateway lets {limit:,} of a client wait: make several jobs of them"
        return InvalidRequest(f"/file_urls {detail}.", faults=[Fault("/file_urls", detail)])
    return TooManyWaitingFiles(f"Of each client {limit:,} files may wait; send this again when some are under way.")
