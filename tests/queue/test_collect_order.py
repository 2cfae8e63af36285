"""Ended tasks are collected in turn over clients, each client's tasks by their end, and urgent ones first."""

from collections.abc import Sequence
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from app.db import Sessions, transaction
from app.queue.collect_order import STEP_S, EndedTasks, collect_times
from app.queue.polling import NextPoll, claim_polls, mark_ended, schedule_polls
from app.queue.submissions import mark_running
from app.queue.submit_queues import SubmitQueue
from tests.poller.conftest import QueueClient
from tests.queue.claims import claim_task

ACCOUNT = "beijing/default"
A, B, C, D, E = (UUID(int=number) for number in range(1, 6))


def ordered(*clients: EndedTasks) -> list[UUID]:
    times = collect_times(clients)
    return sorted(times, key=times.__getitem__)


def test_tasks_of_one_client_keep_the_order_of_their_end() -> None:
    assert ordered(EndedTasks([A, B, C])) == [A, B, C]


def test_clients_take_turns() -> None:
    times = collect_times([EndedTasks([A, B, C]), EndedTasks([D, E])])
    assert times[A] == times[D] < times[B] == times[E] < times[C]


def test_client_without_backlog_does_not_wait_behind_that_of_another() -> None:
    flood = EndedTasks([A], last_s=-1.0, next_s=-5.0)
    times = collect_times([flood, EndedTasks([D, E])])
    assert -5.0 < times[D] < times[E] < times[A]
    assert times[A] > -1.0


def test_new_clients_do_not_overtake_the_task_that_is_next() -> None:
    times = collect_times([EndedTasks([], last_s=-5.0, next_s=-5.0), EndedTasks([D])])
    assert -5.0 < times[D] < -5.0 + STEP_S


def test_urgent_tasks_come_before_all_others_the_oldest_first() -> None:
    assert ordered(EndedTasks([D, A, E], urgent=[E]), EndedTasks([B], urgent=[B], last_s=0, next_s=-900)) == [
        B,
        E,
        D,
        A,
    ]


def test_shared_task_takes_the_earliest_turn_of_its_clients() -> None:
    times = collect_times([EndedTasks([A, B, C]), EndedTasks([C])])
    assert times[C] == times[A] < times[B]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8))
def test_each_client_has_a_turn_before_any_has_two(sizes: list[int]) -> None:
    clients = [EndedTasks([uuid4() for _ in range(size)]) for size in sizes]
    times = collect_times(clients)
    for number in range(1, max(sizes)):
        first = [times[client.ended[number - 1]] for client in clients if len(client.ended) >= number]
        later = [times[client.ended[number]] for client in clients if len(client.ended) > number]
        assert not later or max(first) < min(later)


class Tasks:
    """Running tasks of one file each, and the order in which they are claimed."""

    def __init__(self, sessions: Sessions, queue: QueueClient) -> None:
        self.sessions = sessions
        self.queue = queue

    async def run(self, client_id: UUID, count: int) -> list[UUID]:
        tasks = []
        one_file = SubmitQueue(ACCOUNT, "beijing", "fun-asr", 1, 1)
        for _ in range(count):
            await self.queue.post(f"https://example.com/{uuid4()}.wav", client_id=client_id)
            async with transaction(self.sessions) as session:
                claim = await claim_task(session, one_file)
                assert claim
                await mark_running(session, claim.task_id, str(claim.task_id), poll_in_s=60)
            tasks.append(claim.task_id)
        return tasks

    async def end(self, *tasks: UUID) -> None:
        async with transaction(self.sessions) as session:
            await mark_ended(session, ACCOUNT, tasks)

    async def claimed(self, count: int = 100) -> Sequence[UUID]:
        """Up to `count` tasks in the order of their claims. They stay leased."""
        found: list[UUID] = []
        while len(found) < count:
            async with transaction(self.sessions) as session:
                tasks = await claim_polls(session, ACCOUNT, late_s=0, limit=min(2, count - len(found)))
            if not tasks:
                break
            found += [task.task_id for task in tasks]
        return found


async def test_task_that_ended_first_is_claimed_first(sessions: Sessions, queue: QueueClient) -> None:
    tasks = Tasks(sessions, queue)
    first, second, third = await tasks.run(queue.client_id, 3)
    for task in (third, first, second):
        await tasks.end(task)
    assert await tasks.claimed() == [third, first, second]


async def test_flood_of_ended_tasks_does_not_delay_those_of_another_client(
    sessions: Sessions, queue: QueueClient
) -> None:
    tasks = Tasks(sessions, queue)
    flood = await tasks.run(queue.client_id, 6)
    other = await tasks.run(await queue.client("other"), 2)
    await tasks.end(*flood)
    assert await tasks.claimed(2) == flood[:2]
    await tasks.end(*other)
    assert await tasks.claimed() == [flood[2], other[0], flood[3], other[1], *flood[4:]]


async def test_ended_task_that_is_polled_again_does_not_delay_other_tasks_of_its_client(
    sessions: Sessions, queue: QueueClient
) -> None:
    tasks = Tasks(sessions, queue)
    waiting, *flood = await tasks.run(queue.client_id, 3)
    other = await tasks.run(await queue.client("other"), 3)
    await tasks.end(waiting)
    async with transaction(sessions) as session:
        (task,) = await claim_polls(session, ACCOUNT, late_s=0, limit=1)
        await schedule_polls(session, [NextPoll(waiting, task.token, wait_s=60)])
    await tasks.end(*other)
    await tasks.end(*flood)
    assert await tasks.claimed() == [other[0], flood[0], other[1], flood[1], other[2]]


async def test_tasks_that_expire_soon_are_claimed_first(sessions: Sessions, queue: QueueClient) -> None:
    tasks = Tasks(sessions, queue)
    *others, old = await tasks.run(queue.client_id, 3)
    await tasks.end(*others)
    async with transaction(sessions) as session:
        await session.execute(
            text("UPDATE tasks SET submitted_at = now() - interval '20 hours' WHERE id = :id"), {"id": old}
        )
    await tasks.end(old)
    assert await tasks.claimed() == [old, *others]


async def test_tasks_that_have_not_ended_come_after_those_that_have(sessions: Sessions, queue: QueueClient) -> None:
    tasks = Tasks(sessions, queue)
    running, ended = await tasks.run(queue.client_id, 2)
    async with transaction(sessions) as session:
        await session.execute(text("UPDATE tasks SET next_poll_at = now() - interval '1 minute'"))
    await tasks.end(ended)
    assert await tasks.claimed() == [ended, running]
