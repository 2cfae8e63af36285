"""Cancels of tasks in DashScope's protocol, while the gateway submits their files."""

import asyncio
from uuid import uuid4

import httpx
from sqlalchemy import text

from app.db import Sessions, transaction
from app.queue.claiming import Claim, claim_tasks
from app.queue.submissions import mark_running
from app.queue.submit_queues import SubmitQueue
from tests.dashscope_api.conftest import Submit, fetch

QUEUE = SubmitQueue(account="beijing/default", region="beijing", model="fun-asr", max_files=1, submits_per_s=10)
WAITING = text("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")


async def claim(sessions: Sessions, tasks: int) -> list[Claim]:
    async with transaction(sessions) as session:
        return await claim_tasks(session, QUEUE, tokens=[uuid4() for _ in range(tasks)])


async def until_a_statement_waits_for_a_lock(sessions: Sessions) -> None:
    async with asyncio.timeout(60):
        while True:
            async with transaction(sessions) as session:
                if (await session.execute(WAITING)).all():
                    return
            await asyncio.sleep(0.01)


async def test_task_that_starts_during_its_cancel_runs_on(
    api: httpx.AsyncClient, sessions: Sessions, submit: Submit
) -> None:
    task_id = await submit("https://example.com/a.wav", "https://example.com/b.wav")
    (claimed,) = await claim(sessions, 1)
    async with transaction(sessions) as session:
        await mark_running(session, claimed.task_id, "upstream", poll_in_s=0)
        cancel = asyncio.create_task(api.post(f"/api/v1/tasks/{task_id}/cancel"))
        await until_a_statement_waits_for_a_lock(sessions)
    response = await cancel
    assert (response.status_code, response.json()["code"]) == (400, "UnsupportedOperation")
    counts = (await api.get(f"/v1/jobs/{task_id}")).json()["file_counts"]
    assert counts == {"total": 2, "queued": 1, "running": 1, "succeeded": 0, "failed": 0, "canceled": 0}
    async with transaction(sessions) as session:
        assert await session.scalar(text("SELECT count(*) FROM tasks WHERE cancel_wanted_at IS NULL")) == 1


async def test_task_whose_files_are_being_submitted_is_canceled_as_a_whole(
    api: httpx.AsyncClient, sessions: Sessions, submit: Submit
) -> None:
    task_id = await submit(*(f"https://example.com/{number}.wav" for number in range(3)))
    assert len(await claim(sessions, 2)) == 2
    response = await api.post(f"/api/v1/tasks/{task_id}/cancel")
    assert response.status_code == 200
    output = (await fetch(api, task_id))["output"]
    assert (output["task_status"], output["task_metrics"]["TOTAL"]) == ("CANCELED", 3)
    async with transaction(sessions) as session:
        assert await session.scalar(text("SELECT count(*) FROM tasks WHERE cancel_wanted_at IS NULL")) == 0
