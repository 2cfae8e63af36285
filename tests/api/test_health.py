"""Probes tell the truth about the database, and mend by themselves."""

import httpx
import pytest
from sqlalchemy import text

from app import migrate
from app.db import Sessions, create_engine, create_sessions, transaction
from app.main import create_app
from app.settings import Settings
from tests.api_fixtures import caller
from tests.database_proxy import database_proxy


async def test_probes_need_no_token(stranger: httpx.AsyncClient) -> None:
    for path in ("/livez", "/readyz"):
        answer = await stranger.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_metrics_are_prometheus_text_or_openmetrics(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    await stranger.get("/livez")
    assert (
        'asr_gateway_http_requests_total{method="GET",route="/livez",status="200"}'
        in (await stranger.get("/metrics")).text
    )
    openmetrics = await stranger.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    assert openmetrics.text.endswith("# EOF\n")


@pytest.mark.parametrize("change", ["DROP TABLE alembic_version", "DELETE FROM alembic_version"])
async def test_readiness_needs_the_migrations(stranger: httpx.AsyncClient, sessions: Sessions, change: str) -> None:
    async with transaction(sessions) as session:
        await session.execute(text(change))
    answer = await stranger.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "service_unavailable")
    assert str(migrate.head()) in answer.json()["detail"]


async def test_a_newer_schema_is_no_reason_to_turn_callers_away(
    stranger: httpx.AsyncClient, sessions: Sessions
) -> None:
    async with transaction(sessions) as session:
        await session.execute(text("UPDATE alembic_version SET version_num = 'of a later release'"))
    assert (await stranger.get("/readyz")).status_code == 200


async def test_an_outage_turns_readiness_red_and_requests_503_until_the_database_is_back(
    database_url: str, settings: Settings, api_client: tuple[object, str]
) -> None:
    async with database_proxy(database_url) as proxy:
        engine = create_engine(proxy.url)
        async with caller(create_app(settings, sessions=create_sessions(engine)), api_client[1]) as api:
            assert (await api.get("/readyz")).status_code == 200
            await proxy.stop()
            for _ in range(2):  # once with a connection that was cut, once without any
                for path in ("/readyz", "/v1/models", "/v1/jobs"):
                    answer = await api.get(path)
                    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
                    assert answer.headers["retry-after"]
            assert (await api.get("/livez")).status_code == 200
            await proxy.start()
            assert (await api.get("/readyz")).status_code == 200
            assert (await api.get("/v1/jobs")).status_code == 200
        await engine.dispose()


async def test_a_database_that_does_not_answer_is_not_waited_for(database_url: str, settings: Settings) -> None:
    async with database_proxy(database_url) as proxy:
        proxy.silent = True
        engine = create_engine(proxy.url)
        async with caller(create_app(settings, sessions=create_sessions(engine))) as stranger:
            answer = await stranger.get("/readyz")
            assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
            proxy.silent = False
            assert (await stranger.get("/readyz")).status_code == 200
        await engine.dispose()


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/docs", "/docs/errors", "/openapi.json"])
async def test_pages_without_a_token_ignore_what_probes_and_caches_add(stranger: httpx.AsyncClient, path: str) -> None:
    assert (await stranger.get(f"{path}?_=1795420804")).status_code == 200
