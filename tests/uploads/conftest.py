"""Fixtures: the API and a poller against the sandbox, with the default store, and with a store in a folder."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from app.clients.service import CurrentClient
from app.dashscope.transport import http_client
from app.db import Sessions
from app.sandbox import RunningSandbox
from app.settings import Settings
from tests.api_fixtures import ADMIN_TOKEN, admin, api, api_client, application, other_api, stranger
from tests.poller.conftest import QueueClient, StartPoller, sandbox, settings_for, start_poller

__all__ = [
    "QueueClient",
    "StartPoller",
    "admin",
    "api",
    "api_client",
    "other_api",
    "queue",
    "sandbox",
    "start_poller",
    "stranger",
]


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with http_client() as client:
        yield client


@pytest.fixture
def queue(sessions: Sessions, api_client: tuple[CurrentClient, str]) -> QueueClient:
    """The queue, as the client of `api`."""
    return QueueClient(sessions, api_client[0].id)


@pytest.fixture
def settings(sandbox: RunningSandbox) -> Settings:
    return settings_for(sandbox, admin_token=ADMIN_TOKEN)


@pytest.fixture
def app(settings: Settings, sessions: Sessions, http: httpx.AsyncClient) -> FastAPI:
    return application(settings, sessions, http=http)
