"""Fixtures: the API and a poller against the sandbox, and forms as OpenAI's clients send them."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.db import Sessions
from app.sandbox import RunningSandbox
from app.settings import Settings
from tests.api_fixtures import ADMIN_TOKEN, api, api_client, application, other_api, stranger
from tests.poller.conftest import QueueClient, StartPoller, sandbox, settings_for, start_poller
from tests.uploads.conftest import http, queue

__all__ = [
    "QueueClient",
    "StartPoller",
    "api",
    "api_client",
    "http",
    "other_api",
    "queue",
    "sandbox",
    "start_poller",
    "stranger",
]

PATH = "/v1/audio/transcriptions"
AUDIO = bytes(range(256)) * 1000
# A recording that the sandbox knows.
HELLO = "https://dashscope.oss-cn-beijing.aliyuncs.com/samples/audio/paraformer/hello_world_female2.wav"


@pytest.fixture
def settings(sandbox: RunningSandbox) -> Settings:
    return settings_for(sandbox, admin_token=ADMIN_TOKEN)


@pytest.fixture
def app(settings: Settings, sessions: Sessions, http: httpx.AsyncClient) -> FastAPI:
    return application(settings, sessions, http=http)


def form(name: str = "call.wav", content: bytes = AUDIO, **fields: Any) -> dict[str, Any]:
    return {"files": {"file": (name, content)}, "data": {"model": "whisper-1", **fields}}


def url_form(url: str = HELLO, **fields: Any) -> dict[str, Any]:
    """A form without a file. httpx sends a form with parts only if one of them is in `files`."""
    return {"files": {"url": (None, url)}, "data": {"model": "whisper-1", **fields}}
