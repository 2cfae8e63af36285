"""Moves or fails queued files that their region cannot take now.

Files of a model that upstream does not know in any region they may go to fail. All others wait or move.
"""

from collections.abc import Collection

import structlog

from app.dashscope.failures import Failure, FailureKind
from app.db import Session, after_commit
from app.poller.availability import Availability
from app.queue.rerouting import fail_unknown_model, move_waiting_files

log = structlog.get_logger()


async def reroute(session: Session, waiting: Collection[tuple[str, str]], availability: Availability) -> None:
    """Move or fail queued files whose region cannot take them. `waiting` has their regions and models."""
    for region, model in waiting:
        if availability.works(region, model) or availability.is_held(region, model):
            continue
        others = availability.alternatives(region, model)
        if others:
            await move_waiting_files(session, region, model, to=others[0])
        await _fail_unknown(session, region, model, availability)


async def _fail_unknown(session: Session, region: str, model: str, availability: Availability) -> None:
    here, everywhere = availability.unknown_model(region, model), availability.unknown_everywhere(model)
    circuit = here or everywhere
    if circuit is None:
        return
    failure = Failure(FailureKind.MODEL_UNAVAILABLE, circuit.code, circuit.message, circuit.upstream_code)
    files = await fail_unknown_model(
        session,
        region=region,
        model=model,
        bound=here is not None,
        movable=everywhere is not None,
        failure=failure,
    )
    if files:
        after_commit(
            session, lambda: log.error("files of an unknown model failed", files=files, region=region, model=model)
        )
