"""The submits of a run, and the queries of their tasks until they end."""

import asyncio
import time

from app.catalogue import MODELS
from app.certify.probes.session import (
    ESCAPED,
    FEMALE,
    FEMALE_S,
    MALE_S,
    RICH,
    RICH_S,
    ProbeSession,
    absent,
)
from app.certify.probes.task_list import note_end

SENSEVOICE = "sensevoice-v1"
RETIRED = "retired "
"""Names of the submits of retired models begin with this."""


async def probe_main_task(session: ProbeSession) -> None:
    """Two recordings and an absent file. The task is queried and listed at once."""
    with session.probing("main", "listed"):
        task = await session.submit("main", [ESCAPED, FEMALE, *absent(1)], seconds=FEMALE_S + MALE_S)
        await session.poll(task)
        if task.task_id is not None:
            await _wait_until_listed(session, task.task_id, task.sent_at)


async def _wait_until_listed(session: ProbeSession, task_id: str, sent_at: float) -> None:
    """Reads the list until it has the task. Queries the task meanwhile, to see its states."""
    session.evidence.lags_s["listed"] = float("inf")
    until = time.monotonic() + session.upstream.times.lag_s
    while True:
        page = await session.upstream.list_tasks(page_no=1, page_size=50)
        session.evidence.calls["list"] = page
        if page.failure is not None:
            del session.evidence.lags_s["listed"]
            session.evidence.missing["listed"] = f"no list: {page.error_text}"
            return
        if task_id.encode() in page.body:
            session.evidence.lags_s["listed"] = page.at - sent_at
            return
        if time.monotonic() >= until:
            return
        await asyncio.sleep(min(session.upstream.times.poll_s, 1))


async def probe_other_submits(session: ProbeSession) -> None:
    """All submits that need no order. Files are absent, and so free, where nothing but the response matters."""
    with session.probing("cancel"):
        task = await session.submit("cancel", absent(1))
        if task.task_id is not None:
            task.cancel = await session.upstream.cancel(task.task_id)
    with session.probing("hundred"):
        await session.submit("hundred", [FEMALE, *absent(99)], seconds=FEMALE_S)
    with session.probing("too_many"):
        await session.submit("too_many", absent(101))
    with session.probing("unknown_parameter"):
        await session.submit("unknown_parameter", [FEMALE], {"certify_no_such_parameter": True}, seconds=FEMALE_S)
    with session.probing("absent_channel"):
        await session.submit("absent_channel", [FEMALE], {"channel_id": [1]}, seconds=FEMALE_S)
    with session.probing("without_parameters"):
        await session.submit("without_parameters", absent(1), with_parameters=False)
    with session.probing("sensevoice"):
        if SENSEVOICE in session.models:
            await session.submit("sensevoice", [RICH], model=SENSEVOICE, seconds=RICH_S)
        else:
            session.evidence.missing["sensevoice"] = "the region has no SenseVoice"
    for model in session.models:
        if MODELS[model].deprecation is not None and model != SENSEVOICE:
            with session.probing(RETIRED + model):
                await session.submit(RETIRED + model, absent(1), model=model)


async def poll_to_the_end(session: ProbeSession) -> None:
    """Query all tasks in turn until they have ended."""
    while open_tasks := [task for task in session.evidence.tasks.values() if task.task_id and not task.has_ended]:
        for task in open_tasks:
            with session.probing("polls"):
                await session.poll(task)
            if task is session.evidence.tasks.get("main") and task.has_ended:
                with session.probing("end_listed"):
                    await note_end(session)
        await asyncio.sleep(session.upstream.times.poll_s)
