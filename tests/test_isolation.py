"""Clients cannot access the resources of other clients. Every operation of the OpenAPI document is tested.

A new path parameter needs an entry in `own_ids`, a new body or required parameter an entry in BODIES or QUERIES.
"""

import re
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import httpx
import pytest
from sqlalchemy import func, insert

from app.clients.service import CurrentClient
from app.db import Sessions, transaction
from app.identifiers import new_id
from app.uploads.models import Upload
from app.webhooks.models import Delivery
from tests.api.snapshot import committed_document
from tests.api_fixtures import *  # noqa: F403 - fixtures are found by their names
from tests.jobs.rows import SUCCEEDED, add_job
from tests.transcripts.transcript_store import store

BODIES: dict[str, Any] = {}
QUERIES: dict[str, dict[str, str]] = {"searchTranscripts": {"q": "a"}}
# Parameters of shared resources, and of operations that need ADMIN_TOKEN.
SHARED = {"model_id"}
ADMINS = {"client_id"}


class Call(NamedTuple):
    method: str
    path: str
    name: str

    @property
    def parameters(self) -> set[str]:
        return set(re.findall(r"\{(\w+)\}", self.path))


def _calls() -> list[Call]:
    paths = committed_document()["paths"]  # equals the application's: `tests/api/test_openapi.py`
    return [
        Call(method.upper(), path, operation["operationId"])
        for path, operations in paths.items()
        for method, operation in operations.items()
        if path.startswith(("/v1/", "/api/v1/"))
    ]


CALLS = _calls()
WITH_AN_ID = [call for call in CALLS if call.parameters - SHARED]
LISTS = [call for call in CALLS if call.method == "GET" and not call.parameters and call.name != "listClients"]


@pytest.fixture
async def own_ids(api_client: tuple[CurrentClient, str], sessions: Sessions) -> dict[str, UUID]:
    """The id of one resource of each kind, by the name of its path parameter."""
    client_id = api_client[0].id
    job_id = await add_job(sessions, client_id, [SUCCEEDED])
    transcript = await store(sessions, client_id, job_id=job_id)
    delivery_id = new_id()
    delivery = {"type": "job.succeeded", "url": "https://example.com/hook", "host": "example.com", "body": "{}"}
    async with transaction(sessions) as session:
        await session.execute(insert(Delivery).values(id=delivery_id, job_id=job_id, client_id=client_id, **delivery))
        upload = {"file_name": "a.wav", "size_bytes": 4, "sha256": b"", "model": "fun-asr", "region": "beijing"}
        upload |= {"file_url": "oss://a.wav", "account": "beijing/default", "expires_at": func.now() + timedelta(1)}
        upload_id = new_id()
        await session.execute(insert(Upload).values(id=upload_id, client_id=client_id, **upload))
    return {
        "job_id": job_id,
        "transcript_id": transcript.id,
        "delivery_id": delivery_id,
        "client_id": client_id,
        "upload_id": upload_id,
    }


async def send(http: httpx.AsyncClient, call: Call, ids: dict[str, UUID]) -> httpx.Response:
    path = re.sub(r"\{(\w+)\}", lambda found: str(ids.get(found[1], "fun-asr")), call.path)
    return await http.request(call.method, path, params=QUERIES.get(call.name), json=BODIES.get(call.name))


def call_name(call: Call) -> str:
    return call.name


@pytest.mark.parametrize("call", CALLS, ids=call_name)
async def test_every_operation_needs_a_token(stranger: httpx.AsyncClient, call: Call) -> None:
    response = await send(stranger, call, {name: new_id() for name in call.parameters - SHARED})
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")


@pytest.mark.parametrize("call", WITH_AN_ID, ids=call_name)
async def test_resources_of_another_client_are_not_found(
    api: httpx.AsyncClient, other_api: httpx.AsyncClient, own_ids: dict[str, UUID], call: Call
) -> None:
    assert call.parameters <= own_ids.keys() | SHARED
    expected = (403, "forbidden") if call.parameters & ADMINS else (404, "not_found")
    other = await send(other_api, call, own_ids)
    assert (other.status_code, other.json()["code"]) == expected
    mine = await send(api, call, own_ids)
    assert call.parameters & ADMINS or mine.status_code in {200, 202, 204, 409}, mine.text


@pytest.mark.parametrize("call", LISTS, ids=call_name)
async def test_lists_do_not_show_resources_of_another_client(
    other_api: httpx.AsyncClient, own_ids: dict[str, UUID], call: Call
) -> None:
    response = await send(other_api, call, {})
    assert response.status_code == 200
    assert not [name for name, own in own_ids.items() if str(own) in response.text]
