"""Transitions of jobs, files and tasks, in the sequences that hypothesis generates.

After each sequence the counters match the files, the states of files and tasks agree, every job can be finished, and
only declared transitions were made.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalogue import validate_job
from app.clients.models import Client
from app.dashscope.failures import Failure, FailureKind
from app.db import create_engine, create_sessions, transaction
from app.errors import JobFinal, JobNotFinal, NothingToRetry
from app.identifiers import new_id
from app.queue.commands import cancel_job, delete_job, retry_job
from app.queue.creation import NewJob
from app.queue.due_work import expire_submitting
from app.queue.lifecycle import FILE_TRANSITIONS, JOB_TRANSITIONS, TASK_TRANSITIONS
from app.queue.polling import open_files
from app.queue.results import TaskResults, store_results
from app.queue.submissions import fail_files, mark_running, mark_unsure, requeue, split_group
from app.queue.submit_queues import SubmitQueue
from tests.databases import with_database
from tests.jobs.rows import create
from tests.queue.claims import claim_task
from tests.queue.results import result_of
from tests.queue.transition_log import record_transitions, recorded_transitions

T = TypeVar("T")
REFUSED = Failure(FailureKind.PERMANENT, "file_url_refused", "no")
BROKEN = Failure(FailureKind.TRANSIENT, "upstream_error", "broken")
PICK = st.integers(0, 10**6)

WRONG_COUNTS = text("""
    SELECT jobs.id FROM jobs LEFT JOIN files ON files.job_id = jobs.id
    GROUP BY jobs.id HAVING
        files_queued <> count(*) FILTER (WHERE files.status IN ('queued', 'submitting'))
        OR files_running <> count(*) FILTER (WHERE files.status = 'running')
        OR files_succeeded <> count(*) FILTER (WHERE files.status = 'succeeded')
        OR files_failed <> count(*) FILTER (WHERE files.status = 'failed')
        OR files_canceled <> count(*) FILTER (WHERE files.status = 'canceled')
""")

# A submitting or running file has an open task in a matching state, and a closed task has no open file.
INCONSISTENT_FILES = text("""
    SELECT files.job_id, files.index, files.status, tasks.state FROM files LEFT JOIN tasks ON tasks.id = task_id
    WHERE (files.status = 'submitting' AND tasks.state IS DISTINCT FROM 'submitting' AND tasks.state <> 'unsure')
       OR (files.status = 'running' AND tasks.state IS DISTINCT FROM 'running')
""")

MISSING_TRANSCRIPTS = text("""
    SELECT files.job_id FROM files LEFT JOIN transcripts ON transcripts.id = transcript_id
    WHERE files.status = 'succeeded' AND transcripts.id IS NULL
""")


class Lifecycle(RuleBasedStateMachine):
    """Calls the database functions of the poller and of the API in any order, as several processes would."""

    database_url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.engine = create_engine(self.database_url, pool_size=1)
        self.sessions = create_sessions(self.engine)
        self.client_id = new_id()
        self.run(self._empty())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        self.run(self._finish_all())
        self.run(self._only_declared_transitions())
        self.run(self.engine.dispose())
        self.runner.close()

    def in_transaction(self, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
        async def run() -> T:
            async with transaction(self.sessions) as session:
                return await work(session)

        return self.run(run())

    def ids(self, query: str) -> list[UUID]:
        return self.in_transaction(lambda session: _scalars(session, query))

    def pick(self, query: str, number: int) -> UUID | None:
        found = self.ids(query)
        return UUID(int=found[number % len(found)].int) if found else None

    @rule(files=st.integers(1, 6), hint=st.sampled_from(["zh", "en"]))
    def post(self, files: int, hint: str) -> None:
        request = validate_job(
            model="fun-asr", region="beijing", parameters={"language_hints": [hint]}, served=["beijing"]
        )
        urls = [f"https://e/{new_id()}/{number % 4}.wav" for number in range(files)]
        new = NewJob(self.client_id, request, "beijing", urls, {}, None, None, b"")
        self.in_transaction(lambda session: create(session, new))

    @rule(max_files=st.sampled_from([1, 3, 100]))
    def claim(self, max_files: int) -> None:
        submit_queue = SubmitQueue("beijing/default", "beijing", "fun-asr", max_files, 1)
        self.in_transaction(lambda session: claim_task(session, submit_queue))

    @rule(number=PICK)
    def upstream_accepts(self, number: int) -> None:
        if task := self.pick("SELECT id FROM tasks WHERE state IN ('submitting', 'unsure') ORDER BY id", number):
            self.in_transaction(lambda session: mark_running(session, task, str(task), poll_in_s=0))

    @rule(number=PICK)
    def the_response_is_lost(self, number: int) -> None:
        if task := self.pick("SELECT id FROM tasks WHERE state = 'submitting' ORDER BY id", number):
            self.in_transaction(lambda session: mark_unsure(session, task, last_error="lost", poll_in_s=0))

    @rule()
    def a_poller_is_killed(self) -> None:
        async def expire(session: AsyncSession) -> None:
            await session.execute(
                text("UPDATE tasks SET lease_until = now() - interval '1 s' WHERE lease_until IS NOT NULL")
            )
            await expire_submitting(session)

        self.in_transaction(expire)

    @rule(number=PICK)
    def upstream_has_no_such_task(self, number: int) -> None:
        if task := self.pick("SELECT id FROM tasks WHERE state IN ('submitting', 'unsure') ORDER BY id", number):
            self.in_transaction(lambda session: requeue(session, task))

    @rule(number=PICK)
    def upstream_refuses_the_files(self, number: int) -> None:
        if task := self.pick("SELECT id FROM tasks WHERE state = 'submitting' ORDER BY id", number):
            self.in_transaction(lambda session: fail_files(session, task, failure=REFUSED))

    @rule(number=PICK)
    def upstream_refuses_the_group(self, number: int) -> None:
        query = "SELECT id FROM tasks WHERE state = 'submitting' AND file_count > 1 ORDER BY id"
        if task := self.pick(query, number):
            self.in_transaction(lambda session: split_group(session, task, last_error="no", suspect=True))

    @rule(number=PICK, statuses=st.lists(st.sampled_from(["succeeded", "failed", "queued", "open"]), min_size=1))
    def upstream_ends_a_task(self, number: int, statuses: list[str]) -> None:
        if task := self.pick("SELECT id FROM tasks WHERE state = 'running' ORDER BY id", number):
            self.run(self._finish(task, statuses))

    @rule(number=PICK)
    def cancel(self, number: int) -> None:
        if job := self.pick("SELECT id FROM jobs ORDER BY id", number):
            with suppress(JobFinal):
                self.run(cancel_job(self.sessions, self.client_id, job))

    @rule(number=PICK)
    def retry(self, number: int) -> None:
        self._change(retry_job, number, NothingToRetry)

    @precondition(lambda self: self.ids("SELECT id FROM jobs WHERE finished_at IS NOT NULL"))
    @rule(number=PICK)
    def delete(self, number: int) -> None:
        self._change(delete_job, number, JobNotFinal)

    @invariant()
    def counters_equal_the_files(self) -> None:
        assert not self.in_transaction(lambda session: _rows(session, WRONG_COUNTS))

    @invariant()
    def files_and_tasks_agree(self) -> None:
        assert not self.in_transaction(lambda session: _rows(session, INCONSISTENT_FILES))

    @invariant()
    def succeeded_files_have_a_transcript(self) -> None:
        assert not self.in_transaction(lambda session: _rows(session, MISSING_TRANSCRIPTS))

    def _change(self, change: Callable[..., Awaitable[Any]], number: int, expected: type[Exception]) -> None:
        job = self.pick("SELECT id FROM jobs ORDER BY id", number)
        if job is not None:
            with suppress(expected):
                self.in_transaction(lambda session: change(session, self.client_id, job))

    async def _empty(self) -> None:
        async with transaction(self.sessions) as session:
            await session.execute(
                text("TRUNCATE clients, jobs, tasks, files, transcripts, turns, group_limits CASCADE")
            )
            await session.execute(insert(Client).values(id=self.client_id, name="c", token_sha256=b"c"))

    async def _finish(self, task: UUID, statuses: list[str]) -> None:
        token = uuid4()
        async with transaction(self.sessions) as session:
            await session.execute(
                text("UPDATE tasks SET lease_token = :token, lease_until = now() + interval '20 s' WHERE id = :id"),
                {"id": task, "token": token},
            )
            results = [
                result_of(file, statuses[number % len(statuses)], BROKEN)
                for number, file in enumerate(await open_files(session, task))
                if statuses[number % len(statuses)] != "open"
            ]
            await store_results(session, [TaskResults(task, token, "SUCCEEDED", 1, results)])

    async def _only_declared_transitions(self) -> None:
        async with transaction(self.sessions) as session:
            assert await recorded_transitions(session, "jobs") <= JOB_TRANSITIONS
            assert await recorded_transitions(session, "files") <= FILE_TRANSITIONS
            assert await recorded_transitions(session, "tasks") <= TASK_TRANSITIONS

    async def _finish_all(self) -> None:
        """Every job can be finished, whatever hypothesis did before."""
        submit_queue = SubmitQueue("beijing/default", "beijing", "fun-asr", 100, 1)
        async with transaction(self.sessions) as session:
            await session.execute(text("UPDATE files SET not_before = NULL WHERE status = 'queued'"))
            for task in await _scalars(session, "SELECT id FROM tasks WHERE state IN ('submitting', 'unsure')"):
                await requeue(session, task)
            while claimed := await claim_task(session, submit_queue):
                await mark_running(session, claimed.task_id, str(claimed.task_id), poll_in_s=0)
            running = await _scalars(session, "SELECT id FROM tasks WHERE state = 'running'")
        for task in running:
            await self._finish(task, ["succeeded"])
        async with transaction(self.sessions) as session:
            assert not await _scalars(session, "SELECT id FROM jobs WHERE finished_at IS NULL")


async def _scalars(session: AsyncSession, query: str) -> list[Any]:
    return list(await session.scalars(text(query)))


async def _rows(session: AsyncSession, query: Any) -> list[Any]:
    return list(await session.execute(query))


async def _record_transitions(database_url: str) -> None:
    engine = create_engine(database_url, pool_size=1)
    async with transaction(create_sessions(engine)) as session:
        await record_transitions(session)
    await engine.dispose()


def test_counters_and_states_agree_after_any_sequence_of_transitions(
    server_url: str, template: str, request: pytest.FixtureRequest
) -> None:
    async def sql(statement: str) -> None:
        connection = await asyncpg.connect(server_url)  # type: ignore[no-untyped-call]
        await connection.execute(statement)
        await connection.close()

    name = f"{template}_lifecycle_{os.getpid()}"
    asyncio.run(sql(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
    Lifecycle.database_url = with_database(server_url, name)
    asyncio.run(_record_transitions(Lifecycle.database_url))
    run_state_machine_as_test(
        Lifecycle,
        settings=settings(
            max_examples=15, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
    asyncio.run(sql(f'DROP DATABASE "{name}" WITH (FORCE)'))
