"""Properties of all routes of the application."""

import httpx
import pytest
from fastapi import FastAPI

from app.db import Sessions
from app.jobs.long_poll import JobWaiters
from app.main import connect, create_app
from app.queue.wakeup import WakeUp
from app.settings import Settings
from tests.api_fixtures import *  # noqa: F403 - fixtures are found by their names


@pytest.mark.slow
async def test_every_operation_under_v1_needs_a_token(app: FastAPI, stranger: httpx.AsyncClient) -> None:
    for path, operations in app.openapi()["paths"].items():
        for method in operations:
            response = await stranger.request(method, path.replace("{", "").replace("}", ""))
            assert (response.status_code == 401) == path.startswith("/v1/"), (method, path)


@pytest.mark.slow
async def test_every_operation_refuses_unknown_query_parameters(
    app: FastAPI, api: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    for path, operations in app.openapi()["paths"].items():
        if path.startswith("/v1/audio/"):
            continue  # OpenAI's protocol, which ignores them
        for method in operations if path.startswith("/v1/") else ():
            http = admin if path.startswith("/v1/clients") else api
            response = await http.request(method, path.replace("{", "").replace("}", ""), params={"surprise": "1"})
            assert response.status_code == 422, (method, path, response.text)
            assert {"pointer": "/query/surprise"}.items() <= response.json()["errors"][0].items()


@pytest.mark.parametrize("path", ["/v1x", "//v1/models", "/docs/", "/%00"])
async def test_unknown_paths_are_404_without_a_redirect(stranger: httpx.AsyncClient, path: str) -> None:
    response = await stranger.get(path)
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1", 404),
        ("GET", "/v1/", 404),
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/models/", 404),
        ("GET", "/v1/tasks", 404),
        ("PUT", "/v1/jobs", 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/v1/clients/x", 405),
    ],
)
async def test_unknown_paths_under_v1_are_401_without_a_token(
    stranger: httpx.AsyncClient,
    *,
    api: httpx.AsyncClient,
    admin: httpx.AsyncClient,
    method: str,
    path: str,
    status: int,
) -> None:
    for caller in (api, admin):
        assert (await caller.request(method, path)).status_code == status
    for headers in ({}, {"Authorization": "Bearer guessed"}):
        response = await stranger.request(method, path, headers=headers)
        assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
        assert "allow" not in response.headers


def test_the_routes_use_the_given_wakeup_and_waiters(settings: Settings, sessions: Sessions) -> None:
    wakeup, waiters = WakeUp(), JobWaiters(sessions)
    app = create_app(settings, sessions=sessions, wakeup=wakeup, waiters=waiters)
    assert (app.state.services.wakeup, app.state.services.waiters) == (wakeup, waiters)


def test_connect_replaces_all_state(settings: Settings, sessions: Sessions) -> None:
    app = create_app(settings, sessions=sessions)
    before = app.state.services
    app.state.stopping = app.state.extra = True
    connect(app, settings, sessions=sessions)
    assert not app.state.stopping
    assert not hasattr(app.state, "extra")
    assert app.state.services is not before
