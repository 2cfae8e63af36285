"""`Retry-After`: the estimate of the time until a job is final."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import func

from app.db import Sessions, create_engine, create_sessions
from app.jobs.retry_after import RetryAfterEstimator, remaining_s
from tests.jobs.rows import QUEUED, RUNNING, SUCCEEDED, add_job


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"age_s": 0, "open_files": 1, "total_files": 1, "typical_s": None}, 2),
        ({"age_s": 0, "open_files": 1, "total_files": 1, "typical_s": 20}, 20),
        ({"age_s": 15, "open_files": 1, "total_files": 1, "typical_s": 20}, 5),
        ({"age_s": 40, "open_files": 5, "total_files": 5, "typical_s": 20}, 10),
        ({"age_s": 30, "open_files": 2, "total_files": 5, "typical_s": 500}, 20),
        ({"age_s": 30, "open_files": 2, "total_files": 5, "typical_s": None}, 20),
    ],
)
def test_estimate_is_by_own_progress_and_before_that_by_the_typical_duration(
    known: dict[str, Any], expected: float
) -> None:
    assert remaining_s(**known) == expected


def ago(**age: float) -> Any:
    return func.now() - timedelta(**age)


async def retry_after_s(api: httpx.AsyncClient, job_id: UUID) -> int:
    return int((await api.get(f"/v1/jobs/{job_id}")).headers["retry-after"])


async def test_estimate_is_the_median_of_jobs_with_the_same_model_and_region(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    for took_s in (10, 30, 5000):
        await add_job(sessions, client_id, [SUCCEEDED], created_at=ago(seconds=took_s), finished_at=func.now())
    await add_job(sessions, client_id, [SUCCEEDED], model="paraformer-v2", created_at=ago(hours=2))
    alike = await add_job(sessions, client_id)
    assert await retry_after_s(api, alike) in {29, 30}
    other = await add_job(sessions, client_id, region="singapore")
    assert await retry_after_s(api, other) == 2


@pytest.mark.parametrize(
    ("files", "age_s", "expected"),
    [([SUCCEEDED] * 9 + [RUNNING], 1, {1}), ([SUCCEEDED, QUEUED, QUEUED], 3600, {60}), ([QUEUED], 3600, {2})],
)
async def test_estimate_is_at_least_1_s_and_at_most_60_s(
    api: httpx.AsyncClient,
    client_id: UUID,
    sessions: Sessions,
    *,
    files: list[dict[str, Any]],
    age_s: int,
    expected: set[int],
) -> None:
    job_id = await add_job(sessions, client_id, files, created_at=ago(seconds=age_s))
    assert await retry_after_s(api, job_id) in expected


async def test_typical_durations_are_read_once_in_ten_seconds(
    api: httpx.AsyncClient, app: FastAPI, client_id: UUID, sessions: Sessions, statements: list[str]
) -> None:
    now = {"s": 0.0}
    app.state.services.estimator = RetryAfterEstimator(sessions, clock=lambda: now["s"])
    job_id = await add_job(sessions, client_id)
    for seconds in (0.0, 5.0, 9.9):
        now["s"] = seconds
        await api.get(f"/v1/jobs/{job_id}")
    await api.post("/v1/jobs", json={"file_urls": ["https://example.com/a.wav"]})
    assert len([statement for statement in statements if "percentile_cont" in statement]) == 1
    now["s"] = 10.0
    await api.get(f"/v1/jobs/{job_id}")
    assert len([statement for statement in statements if "percentile_cont" in statement]) == 2


async def test_estimate_without_a_database_is_two_seconds(
    api: httpx.AsyncClient, app: FastAPI, client_id: UUID, sessions: Sessions
) -> None:
    unreachable = create_engine("postgresql://nobody@127.0.0.1:1/nothing")
    app.state.services.estimator = RetryAfterEstimator(create_sessions(unreachable))
    assert await retry_after_s(api, await add_job(sessions, client_id)) == 2
    await unreachable.dispose()
