"""Requests while the database has an older schema than the gateway, or none."""

import asyncio

import pytest
from sqlalchemy import text

from app import migrate
from app.db import Sessions, transaction
from app.settings import Settings
from tests.api_fixtures import application, caller, new_client

JOB = {"file_urls": ["https://example.com/a.wav"]}


@pytest.mark.parametrize("revision", [None, migrate.revisions()[0]])
async def test_requests_get_a_503_that_names_the_migration(
    settings: Settings, sessions: Sessions, database_url: str, revision: str | None
) -> None:
    _, token = await new_client(sessions, "tester")
    await asyncio.to_thread(migrate.downgrade, database_url, revision or "base")
    async with caller(application(settings, sessions), token) as api:
        for response in [
            await api.get("/readyz"),
            await api.post("/v1/jobs", json=JOB),
            await api.get("/v1/usage"),
            await api.get("/v1/search", params={"q": "a"}),
            await api.get("/v1/no-such-path"),
            await api.put("/v1/jobs"),
        ]:
            assert (response.status_code, response.json()["code"]) == (503, "service_unavailable"), response.text
            assert f"is at revision {revision or 'none'}" in response.json()["detail"]
            assert "run `python -m app migrate`" in response.json()["detail"]
            assert response.headers["retry-after"]


async def test_missing_table_of_the_newest_schema_is_a_500(settings: Settings, sessions: Sessions) -> None:
    _, token = await new_client(sessions, "tester")
    async with transaction(sessions) as session:
        await session.execute(text("ALTER TABLE usage RENAME TO gone"))
    async with caller(application(settings, sessions), token) as api:
        response = await api.get("/v1/usage")
        assert (response.status_code, response.json()["code"]) == (500, "internal_error")
