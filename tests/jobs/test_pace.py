"""`Retry-After`: when it is worth looking again."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import func

from app.db import Sessions, create_engine, create_sessions
from app.jobs.retry_after import RetryAfterEstimator, seconds_left
from tests.jobs.rows import QUEUED, RUNNING, SUCCEEDED, add_job


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"age_s": 0, "left": 1, "total": 1, "typical_s": None}, 2),
        ({"age_s": 0, "left": 1, "total": 1, "typical_s": 20}, 20),
        ({"age_s": 15, "left": 1, "total": 1, "typical_s": 20}, 5),
        ({"age_s": 40, "left": 5, "total": 5, "typical_s": 20}, 10),
        ({"age_s": 30, "left": 2, "total": 5, "typical_s": 500}, 20),
        ({"age_s": 30, "left": 2, "total": 5, "typical_s": None}, 20),
    ],
)
def test_the_jobs_own_pace_counts_and_before_that_what_is_typical(known: dict[str, Any], expected: float) -> None:
    assert seconds_left(**known) == expected


def ago(**age: float) -> Any:
    return func.now() - timedelta(**age)


async def retry_after_s(api: httpx.AsyncClient, job_id: UUID) -> int:
    return int((await api.get(f"/v1/jobs/{job_id}")).headers["retry-after"])


async def test_what_similar_jobs_took_is_told(api: httpx.AsyncClient, client_id: UUID, sessions: Sessions) -> None:
    for took_s in (10, 30, 5000):
        await add_job(sessions, client_id, [SUCCEEDED], created_at=ago(seconds=took_s), finished_at=func.now())
    await add_job(sessions, client_id, [SUCCEEDED], model="paraformer-v2", created_at=ago(hours=2))
    alike = await add_job(sessions, client_id)
    assert await retry_after_s(api, alike) in {29, 30}
    other = await add_job(sessions, client_id, region="singapore")
    assert await retry_after_s(api, other) == 2


@pytest.mark.parametrize(
    ("files", "age_s", "told"),
    [([SUCCEEDED] * 9 + [RUNNING], 1, {1}), ([SUCCEEDED, QUEUED, QUEUED], 3600, {60}), ([QUEUED], 3600, {2})],
)
async def test_it_is_never_below_1_s_nor_above_60(
    api: httpx.AsyncClient,
    client_id: UUID,
    sessions: Sessions,
    *,
    files: list[dict[str, Any]],
    age_s: int,
    told: set[int],
) -> None:
    job_id = await add_job(sessions, client_id, files, created_at=ago(seconds=age_s))
    assert await retry_after_s(api, job_id) in told


async def test_a_process_asks_the_database_once_in_ten_seconds(
    api: httpx.AsyncClient, app: FastAPI, client_id: UUID, sessions: Sessions, statements: list[str]
) -> None:
    job_id = await add_job(sessions, client_id)
    for _ in range(3):
        await api.get(f"/v1/jobs/{job_id}")
    await api.post("/v1/jobs", json={"file_urls": ["https://example.com/a.wav"]})
    assert len([statement for statement in statements if "percentile_cont" in statement]) == 1
    app.state.services.pace._learn_at = 0
    await api.get(f"/v1/jobs/{job_id}")
    assert len([statement for statement in statements if "percentile_cont" in statement]) == 2


async def test_an_outage_leaves_what_is_known(client_id: UUID, sessions: Sessions) -> None:
    away = create_engine("postgresql://nobody@127.0.0.1:1/nothing")
    pace = RetryAfterEstimator(create_sessions(away))
    await pace.learn()
    assert pace._ahead_s is None
    await away.dispose()
