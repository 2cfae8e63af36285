"""The receiver in `docs/webhooks.md` accepts what the gateway sends."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.db import transaction
from app.settings import load_settings
from app.webhooks.sender import Sender
from app.webhooks.signing_secrets import current_secret
from tests.api_fixtures import caller
from tests.poller.conftest import QueueClient, StartPoller
from tests.webhooks.receiver import Received, receiver
from tests.webhooks.test_delivering import GOOD, LOOPBACK

PAGE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()


class Reader:
    """The example of the page with a reader's secret, `is_new` and `enqueue`."""

    def __init__(self, secret: str) -> None:
        self.seen: set[str] = set()
        self.queue: list[tuple[str, str]] = []
        (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
        names: dict[str, Any] = {"is_new": self.is_new, "enqueue": lambda *event: self.queue.append(event)}
        exec(compile(code.replace("whsec_…", secret), "docs/webhooks.md", "exec"), names)  # noqa: S102 - the page's code
        self.app: FastAPI = names["app"]

    def is_new(self, webhook_id: str) -> bool:
        known = webhook_id in self.seen
        self.seen.add(webhook_id)
        return not known

    async def post(self, sent: Received) -> int:
        async with caller(self.app) as http:
            return (await http.post("/hooks/asr", content=sent.body, headers=sent.headers)).status_code


@pytest.fixture
def app(app: FastAPI) -> FastAPI:
    app.state.webhook_sender = Sender(load_settings(LOOPBACK).webhook_allowed_networks)
    return app


async def test_example_accepts_a_test_ping(api: httpx.AsyncClient) -> None:
    reader = Reader((await api.get("/v1/webhooks/secret")).json()["secret"])
    async with receiver() as server:
        result = (await api.post("/v1/webhooks/test", json={"url": server.url()})).json()
        ping = await server.got()
    assert result["delivered"]
    assert await reader.post(ping) == 204
    assert reader.queue == []


async def test_page_shows_the_test_ping(api: httpx.AsyncClient) -> None:
    async with receiver() as server:
        await api.post("/v1/webhooks/test", json={"url": server.url()})
        sent = json.loads((await server.got()).body)
    (shown,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert {**json.loads(shown), "timestamp": ""} == {**sent, "timestamp": ""}


async def test_example_accepts_the_event_of_a_job_once(queue: QueueClient, start_poller: StartPoller) -> None:
    async with receiver() as server, start_poller(**LOOPBACK):
        job = await queue.post(GOOD, webhook_url=server.url())
        event = await server.got()
    async with transaction(queue.sessions) as session:
        reader = Reader(await current_secret(session, queue.client_id))
    assert [await reader.post(event), await reader.post(event)] == [204, 204]
    assert reader.queue == [("job.succeeded", str(job))]
    forged = Received(event.line, event.headers, event.body.replace("succeeded", "failed"))
    assert await reader.post(forged) == 400
