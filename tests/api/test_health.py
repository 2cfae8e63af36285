"""Probes report the state of the database and recover with it."""

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
        response = await stranger.get(path)
        assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_metrics_are_prometheus_text_or_openmetrics(stranger: httpx.AsyncClient) -> None:
    response = await stranger.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
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
    response = await stranger.get("/readyz")
    assert (response.status_code, response.json()["code"]) == (503, "service_unavailable")
    assert str(migrate.head()) in response.json()["detail"]


async def test_newer_schema_counts_as_ready(stranger: httpx.AsyncClient, sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        await session.execute(text("UPDATE alembic_version SET version_num = 'of a later release'"))
    assert (await stranger.get("/readyz")).status_code == 200


async def test_readiness_and_requests_are_503_during_an_outage(
    database_url: str, settings: Settings, api_client: tuple[object, str]
) -> None:
    async with database_proxy(database_url) as proxy:
        engine = create_engine(proxy.url)
        async with caller(create_app(settings, sessions=create_sessions(engine)), api_client[1]) as api:
            assert (await api.get("/readyz")).status_code == 200
            await proxy.stop()
            for _ in range(2):  # first with a lost connection, then without a connection
                for path in ("/readyz", "/v1/models", "/v1/jobs"):
                    response = await api.get(path)
                    assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
                    assert response.headers["retry-after"]
            assert (await api.get("/livez")).status_code == 200
            await proxy.start()
            assert (await api.get("/readyz")).status_code == 200
            assert (await api.get("/v1/jobs")).status_code == 200
        await engine.dispose()


async def test_readiness_does_not_wait_for_a_silent_database(database_url: str, settings: Settings) -> None:
    async with database_proxy(database_url) as proxy:
        proxy.silent = True
        engine = create_engine(proxy.url)
        async with caller(create_app(settings, sessions=create_sessions(engine))) as stranger:
            response = await stranger.get("/readyz")
            assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
            proxy.silent = False
            assert (await stranger.get("/readyz")).status_code == 200
        await engine.dispose()


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/docs", "/docs/errors", "/openapi.json"])
async def test_public_pages_ignore_extra_query_parameters(stranger: httpx.AsyncClient, path: str) -> None:
    assert (await stranger.get(f"{path}?_=1795420804")).status_code == 200
