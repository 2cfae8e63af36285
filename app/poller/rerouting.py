"""Files that their region cannot take now: they go to another region, wait with a reason, or fail for good.

Only files of a model that upstream knows in no region which they may go to fail. All others wait.
"""

from collections.abc import Collection

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.dashscope.circuits import Circuit
from app.dashscope.failures import Failure, FailureKind
from app.poller.availability import Availability, Blocked
from app.queue.region_failover import move_waiting_files
from app.queue.submissions import record_unknown_model

log = structlog.get_logger()

_UNBLOCK = text("""
    DELETE FROM blockages
    WHERE NOT EXISTS (
        SELECT FROM unnest(CAST(:regions AS text[]), CAST(:models AS text[])) AS kept (region, model)
        WHERE kept.region = blockages.region AND kept.model = blockages.model)
""")

_BLOCK = text("""
    INSERT INTO blockages (region, model, everywhere, code, account, since)
    SELECT * FROM unnest(
        CAST(:regions AS text[]), CAST(:models AS text[]), CAST(:everywhere AS bool[]), CAST(:codes AS text[]),
        CAST(:accounts AS text[]), CAST(:since AS timestamptz[]))
    ON CONFLICT (region, model) DO UPDATE
        SET everywhere = excluded.everywhere, code = excluded.code, account = excluded.account, since = excluded.since
        WHERE (blockages.everywhere, blockages.code, blockages.account, blockages.since)
            IS DISTINCT FROM (excluded.everywhere, excluded.code, excluded.account, excluded.since)
""")


async def reroute(session: AsyncSession, waiting: Collection[tuple[str, str]], availability: Availability) -> None:
    """Move or fail waiting files whose region cannot take them. `waiting`: their regions and models."""
    for region, model in waiting:
        if availability.works(region, model) or availability.is_held(region, model):
            continue
        others = availability.alternatives(region, model)
        if others:
            await move_waiting_files(session, region, model, others[0])
        await _fail_unknown(session, region, model, availability)


async def _fail_unknown(session: AsyncSession, region: str, model: str, availability: Availability) -> None:
    """Files of a model that upstream does not know, wherever they may go."""
    here, everywhere = availability.unknown_model(region, model), availability.unknown_everywhere(model)
    found = here or everywhere
    if found is None:
        return
    files = await record_unknown_model(
        session,
        region=region,
        model=model,
        bound=here is not None,
        movable=everywhere is not None,
        failure=_failure(found),
    )
    if files:
        log.error("files of an unknown model failed", files=files, region=region, model=model)


def _failure(circuit: Circuit) -> Failure:
    return Failure(FailureKind.MODEL_UNAVAILABLE, circuit.code, circuit.message, circuit.upstream_code)


async def publish(session: AsyncSession, blocked: Collection[Blocked]) -> None:
    """Tell the API what is blocked, in place of what it was told before. Two statements."""
    keys = {"regions": [each.region for each in blocked], "models": [each.model for each in blocked]}
    await session.execute(_UNBLOCK, keys)
    await session.execute(
        _BLOCK,
        {
            **keys,
            "everywhere": [each.everywhere for each in blocked],
            "codes": [each.code for each in blocked],
            "accounts": [each.account for each in blocked],
            "since": [each.since for each in blocked],
        },
    )
