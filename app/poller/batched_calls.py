"""Transactions that tasks of one poller share: marking them as running, scheduling their next polls, storing results.

Each has a few statements for any number of tasks. With 100 files a second of ten accounts, five tasks share a
transaction, and a file takes 5 or 6 statements instead of 27. A lone task waits for nothing.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from app.batching import Batcher
from app.db import Sessions, transaction
from app.queue.leases import LeaseLost
from app.queue.polling import NextPoll, schedule_polls
from app.queue.results import TaskResults, store_results
from app.queue.submissions import AcceptedTask, LearnedLimit, mark_all_running

# The least time between two transactions of a kind. It is far below the 0.3 s between two polls of a task.
EVERY_S = 0.05
# Two at once if a batch has more than this: a transcript of hours must not delay the others.
MAX_STORED_KB = 1024

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class BatchedCalls:
    """Each call is durable when it returns. It raises DatabaseUnavailable, and the errors of its function."""

    mark_running: Batcher[None, AcceptedTask, list[LearnedLimit] | None]
    schedule_poll: Batcher[None, NextPoll, None]
    store_results: Batcher[None, TaskResults, bool]


def batched_calls(sessions: Sessions) -> BatchedCalls:
    return BatchedCalls(
        Batcher(nullcontext, partial(_mark_running, sessions), every_s=EVERY_S),
        Batcher(nullcontext, partial(_schedule, sessions), every_s=EVERY_S),
        Batcher(
            nullcontext,
            partial(_store, sessions),
            at_once=2,
            max_weight=MAX_STORED_KB,
            weight=lambda results: results.size_kb,
            every_s=EVERY_S,
        ),
    )


async def _mark_running(
    sessions: Sessions, _: None, accepted: Sequence[AcceptedTask]
) -> Sequence[list[LearnedLimit] | None]:
    async with transaction(sessions, autocommit=True) as session:
        return await mark_all_running(session, accepted)


async def _schedule(sessions: Sessions, _: None, polls: Sequence[NextPoll]) -> Sequence[None]:
    async with transaction(sessions, autocommit=True) as session:
        await schedule_polls(session, polls)
    return [None] * len(polls)


async def _store(sessions: Sessions, _: None, tasks: Sequence[TaskResults]) -> Sequence[bool | LeaseLost]:
    async with transaction(sessions) as session:
        return await store_results(session, tasks)
