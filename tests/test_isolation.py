"""Clients cannot access the resources of other clients. Every operation of the OpenAPI document is tested.

A new path parameter needs an entry in `own_ids`, a new body or required parameter an entry in BODIES or QUERIES.
"""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import func, insert

from app.catalogue import REGIONS
from app.clients.service import CurrentClient
from app.db import Sessions, transaction
from app.identifiers import new_id
from app.sandbox import Sandbox, SandboxConfig, create_sandbox
from app.sandbox.state import Vocabulary as SandboxVocabulary
from app.settings import Settings, load_settings
from app.uploads.models import Upload
from app.vocabularies.models import Vocabulary
from app.webhooks.models import Delivery
from tests.api.snapshot import committed_document
from tests.api_fixtures import ADMIN_TOKEN, api, api_client, application, other_api, stranger
from tests.jobs.rows import SUCCEEDED, add_job
from tests.transcripts.transcript_store import store

__all__ = ["api", "api_client", "other_api", "stranger"]

BODIES: dict[str, Any] = {"updateVocabulary": {"vocabulary": [{"text": "word", "weight": 4}]}}
VOCABULARY_ID = "vocab-calls-6977ae49f65c4c3db054727c2b1d7e04"
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
def sandbox() -> Sandbox:
    keys: dict[str, dict[str, str]] = {region: {f"sk-{region}-test": "main"} for region in REGIONS}
    return create_sandbox(SandboxConfig(keys=keys))


@pytest.fixture
def settings() -> Settings:
    """With the sandbox as upstream, in the process."""
    keys = {f"dashscope_{region}_api_key": f"sk-{region}-test" for region in REGIONS}
    urls = {f"dashscope_{region}_base_url": f"http://sandbox/{region}/api/v1" for region in REGIONS}
    return load_settings({"admin_token": ADMIN_TOKEN, **keys, **urls})


@pytest.fixture
def app(settings: Settings, sessions: Sessions, sandbox: Sandbox) -> FastAPI:
    return application(settings, sessions, http=httpx.AsyncClient(transport=sandbox.transport()))


@pytest.fixture
async def own_ids(api_client: tuple[CurrentClient, str], sessions: Sessions, sandbox: Sandbox) -> dict[str, UUID | str]:
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
        vocabulary: dict[str, Any] = {
            "region": "beijing",
            "account": "beijing/default",
            "target_model": "fun-asr",
            "prefix": "calls",
        }
        vocabulary |= {"vocabulary": [], "status": "OK", "state": "ready", "known_ids": []}
        await session.execute(insert(Vocabulary).values(vocabulary_id=VOCABULARY_ID, client_id=client_id, **vocabulary))
    sandbox.state.vocabularies[VOCABULARY_ID] = SandboxVocabulary("beijing/main", VOCABULARY_ID, "fun-asr", [], 0, 0)
    return {
        "job_id": job_id,
        "transcript_id": transcript.id,
        "delivery_id": delivery_id,
        "client_id": client_id,
        "upload_id": upload_id,
        "vocabulary_id": VOCABULARY_ID,
    }


async def send(http: httpx.AsyncClient, call: Call, ids: Mapping[str, UUID | str]) -> httpx.Response:
    path = re.sub(r"\{(\w+)\}", lambda found: str(ids.get(found[1], "fun-asr")), call.path)
    return await http.request(call.method, path, params=QUERIES.get(call.name), json=BODIES.get(call.name))


def call_name(call: Call) -> str:
    return call.name


@pytest.mark.parametrize("call", CALLS, ids=call_name)
async def test_every_operation_needs_a_token(stranger: httpx.AsyncClient, call: Call) -> None:
    response = await send(stranger, call, {name: new_id() for name in call.parameters - SHARED})
    body = response.json()
    assert (response.status_code, body.get("error", body)["code"]) == (401, "unauthorized")  # OpenAI's form has `error`


@pytest.mark.parametrize("call", WITH_AN_ID, ids=call_name)
async def test_resources_of_another_client_are_not_found(
    api: httpx.AsyncClient, other_api: httpx.AsyncClient, own_ids: dict[str, UUID | str], call: Call
) -> None:
    assert call.parameters <= own_ids.keys() | SHARED
    expected = (403, "forbidden") if call.parameters & ADMINS else (404, "not_found")
    other = await send(other_api, call, own_ids)
    assert (other.status_code, other.json()["code"]) == expected
    mine = await send(api, call, own_ids)
    assert call.parameters & ADMINS or mine.status_code in {200, 202, 204, 409}, mine.text


@pytest.mark.parametrize("call", LISTS, ids=call_name)
async def test_lists_do_not_show_resources_of_another_client(
    other_api: httpx.AsyncClient, own_ids: dict[str, UUID | str], call: Call
) -> None:
    response = await send(other_api, call, {})
    assert response.status_code == 200
    assert not [name for name, own in own_ids.items() if str(own) in response.text]
