"""The declared transitions of jobs, files and tasks are those that the functions of the queue make, and no others."""

from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import insert, text

from app.catalogue import validate_job
from app.clients.models import Client
from app.dashscope.failures import Failure, FailureKind
from app.db import Sessions, transaction
from app.identifiers import new_id
from app.queue.commands import cancel_job, delete_job, retry_job
from app.queue.creation import NewJob
from app.queue.due_work import expire_submitting
from app.queue.lifecycle import (
    FILE_TRANSITIONS,
    JOB_STATUS,
    JOB_TRANSITIONS,
    TASK_TRANSITIONS,
    FileStatus,
    JobStatus,
    StatusCounts,
    StoredFileStatus,
    TaskState,
    job_status,
    stored_statuses,
    visible_status,
)
from app.queue.models import File, Job, Task
from app.queue.polling import open_files
from app.queue.rerouting import fail_unknown_model
from app.queue.results import TaskResults, store_results
from app.queue.retention import delete_task_rows
from app.queue.reuse import create_reusing_job
from app.queue.submissions import fail_files, mark_running, mark_unsure, requeue
from app.queue.submit_queues import SubmitQueue
from tests.jobs.rows import create
from tests.queue.claims import claim_task
from tests.queue.results import result_of
from tests.queue.transition_log import record_transitions, recorded_transitions

REFUSED = Failure(FailureKind.PERMANENT, "file_url_refused", "no")


class Walk:
    """One client's jobs, moved by the functions of the queue."""

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions
        self.client_id = new_id()

    async def post(self, files: int = 1) -> UUID:
        async with transaction(self.sessions) as session:
            return await create(session, self._new(files))

    async def post_reusing(self) -> UUID:
        return (await create_reusing_job(self.sessions, self._new(1), assumed_s=300)).snapshot.job.id

    def _new(self, files: int) -> NewJob:
        validated = validate_job(model="fun-asr", region="beijing", parameters={}, served=["beijing"])
        urls = [f"https://example.com/{number}.wav" for number in range(files)]
        return NewJob(self.client_id, validated, "beijing", urls, {}, None, None, b"")

    async def claim(self) -> UUID:
        """A task with all queued files."""
        queue = SubmitQueue("beijing/default", "beijing", "fun-asr", 100, 1)
        async with transaction(self.sessions) as session:
            await session.execute(text("UPDATE files SET not_before = NULL"))
            claim = await claim_task(session, queue)
        assert claim is not None
        return claim.task_id

    async def run(self) -> UUID:
        """A running task with all queued files."""
        task_id = await self.claim()
        await self.do(mark_running, task_id, str(task_id), poll_in_s=0)
        return task_id

    async def do(self, function: Any, *args: Any, **kwargs: Any) -> None:
        async with transaction(self.sessions) as session:
            await function(session, *args, **kwargs)

    async def end(self, task_id: UUID, statuses: Sequence[str]) -> None:
        """Store one result per file of the task, in the order of the files."""
        token = uuid4()
        async with transaction(self.sessions) as session:
            await session.execute(
                text("UPDATE tasks SET lease_token = :token, lease_until = now() + interval '20 s' WHERE id = :id"),
                {"id": task_id, "token": token},
            )
            files = await open_files(session, task_id)
            results = [result_of(file, status, REFUSED) for file, status in zip(files, statuses, strict=True)]
            await store_results(session, [TaskResults(task_id, token, "SUCCEEDED", 1, results)])

    async def cancel(self, job_id: UUID) -> None:
        await cancel_job(self.sessions, self.client_id, job_id)

    async def retry(self, job_id: UUID) -> None:
        await self.do(retry_job, self.client_id, job_id)

    async def delete(self, job_id: UUID) -> None:
        await self.do(delete_job, self.client_id, job_id)


@pytest.fixture
async def walk(sessions: Sessions) -> AsyncIterator[Walk]:
    """After the test, the recorded transitions are a part of the declared ones."""
    walk = Walk(sessions)
    async with transaction(sessions) as session:
        await record_transitions(session)
        await session.execute(insert(Client).values(id=walk.client_id, name="c", token_sha256=b"c"))
    yield walk
    async with transaction(sessions) as session:
        assert await recorded_transitions(session, "jobs") <= JOB_TRANSITIONS
        assert await recorded_transitions(session, "files") <= FILE_TRANSITIONS
        assert await recorded_transitions(session, "tasks") <= TASK_TRANSITIONS


async def test_every_declared_transition_occurs(walk: Walk, sessions: Sessions) -> None:
    await _results_of_all_kinds(walk)
    await _lost_and_refused_submits(walk)
    await _cancels_at_each_status(walk)
    async with transaction(sessions) as session:
        # Deletes the rows of tasks that ended long ago and have no files.
        await session.execute(text("UPDATE tasks SET done_at = done_at - interval '26 hours'"))
        assert await delete_task_rows(session)
        assert await recorded_transitions(session, "jobs") == JOB_TRANSITIONS
        assert await recorded_transitions(session, "files") == FILE_TRANSITIONS
        assert await recorded_transitions(session, "tasks") == TASK_TRANSITIONS


async def _results_of_all_kinds(walk: Walk) -> None:
    partial = await walk.post(files=3)
    await walk.end(await walk.run(), ["succeeded", "failed", "queued"])
    await walk.end(await walk.run(), ["succeeded"])
    await walk.retry(partial)
    await walk.end(await walk.run(), ["failed"])
    await walk.delete(partial)
    failed = await walk.post()
    await walk.end(await walk.run(), ["queued"])  # the job is queued again
    await walk.end(await walk.run(), ["failed"])
    await walk.retry(failed)
    await walk.end(await walk.run(), ["failed"])
    await walk.delete(failed)
    succeeded = await walk.post()
    await walk.end(await walk.run(), ["succeeded"])
    reused = await walk.post_reusing()
    await walk.delete(succeeded)
    await walk.delete(reused)


async def _lost_and_refused_submits(walk: Walk) -> None:
    await walk.post()
    await walk.do(requeue, await walk.claim())
    task_id = await walk.claim()
    await walk.do(mark_unsure, task_id, last_error="lost", poll_in_s=0)
    await walk.do(requeue, task_id)
    task_id = await walk.claim()
    await walk.do(mark_unsure, task_id, last_error="lost", poll_in_s=0)
    await walk.do(mark_running, task_id, "found", poll_in_s=0)
    await walk.end(task_id, ["succeeded"])
    await walk.post()
    task_id = await walk.claim()
    await walk.do(mark_unsure, task_id, last_error="lost", poll_in_s=0)
    await walk.do(fail_files, task_id, failure=REFUSED)
    await walk.post()
    await walk.do(fail_files, await walk.claim(), failure=REFUSED)
    await walk.post()
    await walk.do(
        fail_unknown_model, region="beijing", model="fun-asr", bound=True, movable=True, failure=REFUSED
    )  # fmt: skip


async def _cancels_at_each_status(walk: Walk) -> None:
    queued = await walk.post()
    await walk.cancel(queued)
    await walk.retry(queued)
    task_id = await walk.claim()
    await walk.cancel(queued)
    await walk.do(fail_files, task_id, failure=REFUSED)
    await walk.delete(queued)
    half = await walk.post(files=2)
    await walk.end(await walk.run(), ["succeeded", "queued"])
    await walk.run()
    await walk.cancel(half)
    await walk.retry(half)
    await walk.end(await walk.run(), ["succeeded"])


async def test_killed_poller_leaves_an_unsure_task(walk: Walk, sessions: Sessions) -> None:
    await walk.post()
    task_id = await walk.claim()
    async with transaction(sessions) as session:
        await session.execute(text("UPDATE tasks SET lease_until = now() - interval '1 s'"))
        await expire_submitting(session)
        assert await session.scalar(text("SELECT state FROM tasks WHERE id = :id"), {"id": task_id}) == "unsure"


def test_tables_accept_exactly_the_declared_states() -> None:
    for table, column, states in (
        (Job, "status", JobStatus),
        (File, "status", StoredFileStatus),
        (Task, "state", TaskState),
    ):
        accepted = ", ".join(f"'{state}'" for state in states)
        assert f"{column} IN ({accepted})" in {
            str(check.sqltext)
            for check in table.__table__.constraints  # type: ignore[attr-defined]
            if hasattr(check, "sqltext")
        }


@pytest.mark.parametrize("status", StoredFileStatus)
def test_claimed_files_are_queued_to_clients(status: StoredFileStatus) -> None:
    expected = FileStatus.QUEUED if status == StoredFileStatus.SUBMITTING else FileStatus(status.value)
    assert visible_status(status) == expected
    assert status in stored_statuses([expected])


@pytest.mark.parametrize(
    ("counts", "status"),
    [
        (StatusCounts(queued=2), JobStatus.QUEUED),
        (StatusCounts(queued=1, failed=1), JobStatus.RUNNING),
        (StatusCounts(running=1, canceled=1), JobStatus.RUNNING),
        (StatusCounts(succeeded=2), JobStatus.SUCCEEDED),
        (StatusCounts(succeeded=1, failed=1), JobStatus.PARTIAL),
        (StatusCounts(failed=2), JobStatus.FAILED),
        (StatusCounts(succeeded=1, failed=1, canceled=1), JobStatus.CANCELED),
    ],
)
def test_status_of_a_job_follows_from_its_files(counts: StatusCounts, status: JobStatus) -> None:
    assert job_status(counts) == status


async def test_status_of_a_job_is_the_same_in_sql(sessions: Sessions) -> None:
    query = text(f"""
        SELECT queued, running, succeeded, failed, canceled, {JOB_STATUS} AS status
        FROM generate_series(0, 2) AS queued, generate_series(0, 2) AS running, generate_series(0, 2) AS succeeded,
            generate_series(0, 2) AS failed, generate_series(0, 2) AS canceled
        WHERE queued + running + succeeded + failed + canceled > 0
    """)  # noqa: S608 - a constant
    async with transaction(sessions) as session:
        rows = (await session.execute(query)).all()
    assert len(rows) == 3**5 - 1
    assert all(row.status == job_status(StatusCounts(*row[:5])) for row in rows)
