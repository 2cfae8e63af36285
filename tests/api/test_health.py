"""Probes report the state of the database and recover with it."""

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from app import __version__, migrate
from app.db import Sessions, create_engine, create_sessions, transaction
from app.settings import Settings
from tests.api_fixtures import application, caller
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
        async with caller(application(settings, create_sessions(engine)), api_client[1]) as api:
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


@pytest.mark.slow
async def test_readiness_does_not_wait_for_a_silent_database(database_url: str, settings: Settings) -> None:
    async with database_proxy(database_url) as proxy:
        proxy.silent = True
        engine = create_engine(proxy.url)
        async with caller(application(settings, create_sessions(engine))) as stranger:
            response = await stranger.get("/readyz")
            assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
            proxy.silent = False
            assert (await stranger.get("/readyz")).status_code == 200
        await engine.dispose()


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/docs", "/docs/errors", "/openapi.json"])
async def test_public_pages_ignore_extra_query_parameters(stranger: httpx.AsyncClient, path: str) -> None:
    assert (await stranger.get(f"{path}?_=1795420804")).status_code == 200


async def test_verbose_readiness_has_the_version_and_the_state_of_each_account(
    stranger: httpx.AsyncClient, sessions: Sessions
) -> None:
    async with transaction(sessions) as session:
        await session.execute(
            text(
                "INSERT INTO circuits (account, model, code, message, probe_at) VALUES"
                " ('beijing/default', '', 'account_unpaid', 'says a secret', now()),"
                " ('beijing/removed', '', 'account_unpaid', '', now()),"
                " ('singapore/default', 'fun-asr', 'model_not_granted', '', now())"
            )
        )
    response = await stranger.get("/readyz?verbose=true")
    assert response.status_code == 200
    body = response.json()
    assert (body["status"], body["version"]) == ("ok", __version__)
    beijing, singapore = body["accounts"]
    assert (beijing["account"], beijing["available"]) == ("beijing/default", False)
    assert [(each["model"], each["code"]) for each in beijing["circuits"]] == [(None, "account_unpaid")]
    assert (singapore["account"], singapore["available"]) == ("singapore/default", True)
    assert [(each["model"], each["code"]) for each in singapore["circuits"]] == [("fun-asr", "model_not_granted")]
    assert "secret" not in response.text
    assert (await stranger.get("/readyz")).json() == {"status": "ok"}


async def test_accounts_of_verbose_readiness_have_their_documented_members(
    app: FastAPI, stranger: httpx.AsyncClient
) -> None:
    schemas = app.openapi()["components"]["schemas"]
    items = schemas["Readiness"]["properties"]["accounts"]["items"]
    account, *_ = (await stranger.get("/readyz?verbose=1")).json()["accounts"]
    assert schemas[items["$ref"].rpartition("/")[2]]["properties"].keys() == account.keys()


@pytest.mark.parametrize("query", ["verbose", "verbose=", "verbose=1", "verbose=true"])
async def test_verbose_may_be_given_as_monitoring_tools_write_it(stranger: httpx.AsyncClient, query: str) -> None:
    assert "accounts" in (await stranger.get(f"/readyz?{query}")).json()


async def test_metrics_have_the_version_and_no_creation_times(stranger: httpx.AsyncClient) -> None:
    lines = (await stranger.get("/metrics")).text.splitlines()
    assert f'asr_gateway_build_info{{version="{__version__}"}} 1.0' in lines
    assert not [line for line in lines if "_created" in line]


async def test_assets_of_the_documentation_have_a_route_of_their_own(stranger: httpx.AsyncClient) -> None:
    for method in ("GET", "HEAD"):
        assert (await stranger.request(method, "/docs/assets/swagger-ui.css")).status_code == 200
    metrics = (await stranger.get("/metrics")).text
    assert 'asr_gateway_http_requests_total{method="HEAD",route="/docs/assets/{name}",status="200"}' in metrics
    assert 'method="GET",route="unmatched",status="200"' not in metrics
