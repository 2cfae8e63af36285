"""Fixtures for tests of the HTTP API. Import them in a conftest.py: `from tests.api_fixtures import *`.

`app` is the application on the test's own database. `api` sends a client's token, `other_api` that of another client,
`admin` ADMIN_TOKEN, and `stranger` none.
"""

from collections.abc import AsyncIterator
from functools import cache
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.clients.service import CurrentClient, create_client
from app.clients.tokens import cursor_key
from app.db import Sessions, transaction
from app.main import connect
from app.settings import Settings, load_settings
from tests.api.snapshot import any_app

__all__ = [
    "ADMIN_TOKEN",
    "admin",
    "api",
    "api_client",
    "app",
    "application",
    "caller",
    "new_client",
    "other_api",
    "settings",
    "stranger",
]

ADMIN_TOKEN = "admin-token-of-the-tests"


@cache
def _settings() -> Settings:
    return load_settings(
        {
            "admin_token": ADMIN_TOKEN,
            "dashscope_beijing_api_key": "sk-beijing-test",
            "dashscope_singapore_api_key": "sk-singapore-test",
        }
    )


@pytest.fixture
def settings() -> Settings:
    """Both regions have a key, Beijing is the default, and ADMIN_TOKEN is set."""
    return _settings().model_copy()


@pytest.fixture
def app(settings: Settings, sessions: Sessions) -> FastAPI:
    return application(settings, sessions)


def application(settings: Settings, sessions: Sessions, **services: Any) -> FastAPI:
    """The application with new state. Replaces the one that the process had before.

    The routes are made once per process: that takes longer than most tests. `services` are those of `app.main.connect`.
    """
    connect(any_app(), settings, sessions=sessions, **services)
    return any_app()


@pytest.fixture
async def api_client(sessions: Sessions) -> tuple[CurrentClient, str]:
    """The client of `api`, and its token."""
    return await new_client(sessions, "tester")


@pytest.fixture
async def api(app: FastAPI, api_client: tuple[CurrentClient, str]) -> AsyncIterator[httpx.AsyncClient]:
    async with caller(app, api_client[1]) as http:
        yield http


@pytest.fixture
async def other_api(app: FastAPI, sessions: Sessions) -> AsyncIterator[httpx.AsyncClient]:
    _, token = await new_client(sessions, "other-client")
    async with caller(app, token) as http:
        yield http


@pytest.fixture
async def stranger(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with caller(app) as http:
        yield http


@pytest.fixture
async def admin(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with caller(app, ADMIN_TOKEN) as http:
        yield http


def caller(app: FastAPI, token: str | None = None) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://gateway", headers=headers)


async def new_client(sessions: Sessions, name: str) -> tuple[CurrentClient, str]:
    async with transaction(sessions) as session:
        client, token = await create_client(session, name)
        return CurrentClient(client.id, client.name, cursor_key(client.token_sha256)), token
