"""Periodic work of a poller: clean-up, purge, expired uploads, hot-word lists, gauges and the search index.

Several pollers may run the same work at once; the statements skip rows that another transaction has locked.
"""

import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

import structlog

from app.dashscope.temporary_storage import StorageFailed
from app.db import Session, Sessions, after_commit, transaction
from app.identifiers import UUID_MIN
from app.poller.context import PollerContext
from app.poller.metrics import PURGED, measure
from app.poller.outcomes import EXPIRED
from app.queue.polling import open_files
from app.queue.results import Result, TaskResults, store_results
from app.queue.retention import (
    TASK_HOURS,
    TASKS_PER_STEP,
    AbandonedTask,
    PurgeStep,
    claim_abandoned_tasks,
    delete_dropped_files,
    delete_old_limits,
    delete_task_rows,
    purge_jobs,
)
from app.queue.submissions import requeue
from app.search.indexing import index_segments
from app.transcripts.block_indexing import index_old_documents
from app.transcripts.storage import segment_old_transcripts
from app.uploads.service import abandoned_uploads, forget_unfinished, mark_deleted, obsolete_uploads
from app.uploads.stores import ObjectStore
from app.vocabularies.reconciliation import reconcile_all

CLEAN_UP_EVERY_S = 600.0
PURGE_EVERY_S = 600.0
MEASURE_EVERY_S = 15.0
DELETE_UPLOADS_EVERY_S = 60.0
RECONCILE_VOCABULARIES_EVERY_S = 60.0
# How often an idle poller looks for new transcripts, and for those of earlier releases.
INDEX_EVERY_S = 2.0
OLD_EVERY_S = 60.0
# The pause between two batches. With batches of 100 segments: more than one poller collects.
INDEX_PAUSE_S = 0.5

UPLOADS_PER_STEP = 100
PURGE_PAUSE_S = 0.1
# Without a purge most old tasks still have files, so each clean-up reads only this many hours beyond TASK_HOURS.
# Rows that are missed while no poller runs stay; they do no harm.
CLEAN_UP_SPAN_HOURS = 2

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class PeriodicWork:
    """Work that a poller starts every `every_s` seconds, unless the last run has not ended."""

    name: str
    run: Callable[[], Coroutine[None, None, None]]
    every_s: float


def periodic_work(context: PollerContext) -> Sequence[PeriodicWork]:
    """The periodic work of a poller. An idle poller sends one statement a second for all of it."""
    sessions, accounts = context.sessions, context.upstreams.keys()
    work = [
        PeriodicWork("clean_up", lambda: clean_up(sessions, accounts), CLEAN_UP_EVERY_S),
        PeriodicWork("measure", lambda: measure(sessions, accounts), MEASURE_EVERY_S),
        PeriodicWork("index", lambda: _index_all(context), INDEX_EVERY_S),
        PeriodicWork("segment_old", lambda: work_off(context, segment_old_transcripts), OLD_EVERY_S),
        PeriodicWork("index_documents", lambda: work_off(context, index_old_documents), OLD_EVERY_S),
        PeriodicWork("delete_uploads", lambda: delete_uploads(context), DELETE_UPLOADS_EVERY_S),
        # The creation of a hot-word list may be interrupted, or get no response.
        PeriodicWork(
            "reconcile_vocabularies",
            lambda: reconcile_all(sessions, context.upstreams),
            RECONCILE_VOCABULARIES_EVERY_S,
        ),
    ]
    if days := context.retention_days:
        work.append(PeriodicWork("purge", lambda: purge(context, days), PURGE_EVERY_S))
    return work


async def delete_uploads(context: PollerContext) -> None:
    """Delete the bytes of uploads that have expired, of those of revoked clients, and of those that never ended."""
    store = context.upload_links.store
    if store is not None:
        await _discard_abandoned(context, store)
    while store is not None and not context.stopping.is_set():
        async with transaction(context.sessions) as session:
            uploads = await obsolete_uploads(session, limit=UPLOADS_PER_STEP)
        deleted = []
        for upload in uploads:
            try:
                await store.delete(upload.object_key or "")
                deleted.append(upload.id)
            except StorageFailed as error:
                log.warning("upload not deleted", upload=str(upload.id), reason=str(error))
        async with transaction(context.sessions) as session:
            await mark_deleted(session, deleted)
        if len(deleted) < UPLOADS_PER_STEP:
            return


async def _discard_abandoned(context: PollerContext, store: ObjectStore) -> None:
    async with transaction(context.sessions) as session:
        keys = await abandoned_uploads(session, limit=UPLOADS_PER_STEP)
    discarded = []
    for key in keys:
        try:
            await store.discard(key)
            discarded.append(key)
        except StorageFailed as error:
            log.warning("unfinished upload not deleted", object_key=key, reason=str(error))
    if discarded:
        async with transaction(context.sessions) as session:
            await forget_unfinished(session, discarded)


async def purge(context: PollerContext, days: int) -> None:
    """Delete all jobs that finished more than `days` ago, then the task rows without files.

    Works in small steps with pauses, until nothing is left or the poller is told to stop. A job is deleted even if
    a webhook delivery of it is pending.
    """
    total, step = 0, PurgeStep(0, after=UUID_MIN)
    while not (step.done or context.stopping.is_set()):
        async with transaction(context.sessions) as session:
            step = await purge_jobs(session, days, after=step.after)
        total += step.jobs
        PURGED.inc(step.jobs)
        await context.pause(PURGE_PAUSE_S)
    deleted = TASKS_PER_STEP
    while deleted == TASKS_PER_STEP and not context.stopping.is_set():
        async with transaction(context.sessions) as session:
            deleted = await delete_task_rows(session, min_hours=max(TASK_HOURS, 24 * days))
        await context.pause(PURGE_PAUSE_S)
    if total:
        log.info("jobs purged", jobs=total, retention_days=days)


async def clean_up(sessions: Sessions, accounts: Collection[str]) -> None:
    """Give up abandoned tasks, and delete task rows without files, canceled files, and old limits, circuits and holds.

    `accounts` are the configured ones. Tasks of other accounts, and unsure tasks, are left alone for TASK_HOURS, in
    case the key or the task list comes back. After that upstream has deleted them.
    """
    while await give_up_abandoned(sessions, accounts):
        pass
    deleted = TASKS_PER_STEP
    while deleted == TASKS_PER_STEP:
        async with transaction(sessions) as session:
            deleted = await delete_task_rows(session, max_hours=TASK_HOURS + CLEAN_UP_SPAN_HOURS)
    async with transaction(sessions) as session:
        await delete_old_limits(session)
        await delete_dropped_files(session)


async def give_up_abandoned(sessions: Sessions, accounts: Collection[str]) -> int:
    """Give up some abandoned tasks and return their number.

    Files of a running task fail as expired. Files of an unsure task are queued again.
    """
    token = uuid4()
    async with transaction(sessions) as session:
        tasks = await claim_abandoned_tasks(session, accounts, token=token)
    for task in tasks:
        given_up = partial(_log_given_up, task)
        async with transaction(sessions) as session:
            if task.unsure:
                await requeue(session, task.id, token=token)
                after_commit(session, given_up)
                continue
            files = await open_files(session, task.id)
            results = [Result(file, "failed", failure=EXPIRED) for file in files]
            (closed,) = await store_results(session, [TaskResults(task.id, token, "UNKNOWN", results=results)])
            if closed is True:
                after_commit(session, given_up)
    return len(tasks)


def _log_given_up(task: AbandonedTask) -> None:
    log.warning("task given up after a day", task=str(task.id), account=task.account)


async def _index_all(context: PollerContext) -> None:
    """Index all new transcripts in batches. A search reads transcripts without an index entry directly."""
    segments = 1
    while segments and not context.stopping.is_set():
        async with transaction(context.sessions) as session:
            segments = await index_segments(session)
        if segments:
            await context.pause(INDEX_PAUSE_S)


async def work_off(context: PollerContext, step: Callable[[Session], Awaitable[int]]) -> None:
    """Repeat a step until it finds nothing to do, each time in a transaction of its own.

    After each step comes a pause of the same length, for other work. So what a new version has to add to a million
    stored transcripts takes hours, not days.
    """
    done = 1
    while done and not context.stopping.is_set():
        since = time.monotonic()
        async with transaction(context.sessions) as session:
            done = await step(session)
        await context.pause(time.monotonic() - since)
