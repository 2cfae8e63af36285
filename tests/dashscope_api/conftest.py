"""Fixtures: the API and a poller against the sandbox, and calls in DashScope's protocol."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from tests.uploads.conftest import *  # noqa: F403 - fixtures are found by their names
from tests.uploads.conftest import api, api_client, app, http, other_api, sandbox, settings, start_poller, stranger

__all__ = ["api", "api_client", "app", "http", "other_api", "sandbox", "settings", "start_poller", "stranger"]

SUBMIT = "/api/v1/services/audio/asr/transcription"
ASYNC = {"X-DashScope-Async": "enable"}
URL = "https://example.com/a.wav"
FINAL = {"SUCCEEDED", "FAILED", "CANCELED", "UNKNOWN"}

Submit = Callable[..., Awaitable[str]]


async def post(api: httpx.AsyncClient, body: Any, *, base: str = "") -> httpx.Response:
    return await api.post(f"{base}{SUBMIT}", json=body, headers=ASYNC)


@pytest.fixture
def submit(api: httpx.AsyncClient) -> Submit:
    """Submits the URLs and returns the id of the task."""

    async def call(*urls: str, model: str = "fun-asr", base: str = "", **parameters: Any) -> str:
        body = {"model": model, "input": {"file_urls": list(urls or (URL,))}, "parameters": parameters}
        response = await post(api, body, base=base)
        assert response.status_code == 200, response.text
        task_id: str = response.json()["output"]["task_id"]
        return task_id

    return call


async def fetch(api: httpx.AsyncClient, task_id: str, *, base: str = "/api/v1") -> dict[str, Any]:
    response = await api.get(f"{base}/tasks/{task_id}")
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def finished(api: httpx.AsyncClient, task_id: str) -> dict[str, Any]:
    """The task once it is final. `?wait` of the job gives the signal."""
    async with asyncio.timeout(60):
        while (task := await fetch(api, task_id))["output"]["task_status"] not in FINAL:
            await api.get(f"/v1/jobs/{task_id}", params={"wait": 30})
    return task
