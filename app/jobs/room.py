"""How many files of one client may wait. What arrives at the same moment may exceed it by as much."""

from uuid import UUID

from sqlalchemy import ARRAY, Text, bindparam, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalogue import MODELS
from app.errors import Fault, GatewayError, InvalidRequest, TooManyWaitingFiles
from app.settings import REGIONS

# The queue's index leads with region and model: named, they make it a few short ranges. No more is counted than
# decides: 10,000 files take 1 ms, whoever else waits.
_WAITING = text("""
    SELECT count(*) FROM (
        SELECT FROM files
        WHERE status = 'queued' AND region = ANY(:regions) AND model = ANY(:models) AND client_id = :client_id
        LIMIT :enough
    ) AS waiting
""").bindparams(bindparam("regions", type_=ARRAY(Text)), bindparam("models", type_=ARRAY(Text)))


async def has_room(session: AsyncSession, client_id: UUID, *, more: int, limit: int | None) -> bool:
    """Whether `more` files may wait beside those that do. One statement, none without a limit."""
    if limit is None:
        return True
    if more > limit:
        return False
    values = {"client_id": client_id, "regions": list(REGIONS), "models": list(MODELS), "enough": limit + 1}
    waiting = await session.scalar(_WAITING, values) or 0
    return waiting + more <= limit


def no_room(files: int, limit: int | None) -> GatewayError:
    """What a client is told whose files do not fit: 429 if they will later, 422 if they never will."""
    if limit is not None and files > limit:
        detail = f"has {files:,} files; this gateway lets {limit:,} of a client wait: make several jobs of them"
        return InvalidRequest(f"/file_urls {detail}.", faults=[Fault("/file_urls", detail)])
    return TooManyWaitingFiles(f"Of each client {limit:,} files may wait; send this again when some are under way.")
