"""`/v1/clients` over HTTP."""

import httpx
import pytest
from fastapi import FastAPI

from app.db import Sessions
from app.settings import load_settings
from tests.api_fixtures import ADMIN_TOKEN, application, caller


async def test_created_client_can_call_until_it_is_revoked(app: FastAPI, admin: httpx.AsyncClient) -> None:
    created = await admin.post("/v1/clients", json={"name": "alice"})
    assert created.status_code == 201
    assert created.headers["cache-control"] == "no-store"
    assert created.json().keys() == {"id", "name", "created_at", "last_used_at", "revoked_at", "budget", "token"}
    async with caller(app, created.json()["token"]) as alice:
        assert (await alice.get("/v1/models")).status_code == 200
        assert created.json()["last_used_at"] is None
        assert (await admin.get("/v1/clients")).json()["items"][0]["last_used_at"] is not None
        revoked = await admin.delete(f"/v1/clients/{created.json()['id']}")
        assert (revoked.status_code, revoked.content) == (204, b"")
        assert not [name for name in revoked.headers if name.startswith("content-")]
        assert (await alice.get("/v1/models")).status_code == 401


async def test_token_is_shown_only_at_creation(admin: httpx.AsyncClient) -> None:
    created = (await admin.post("/v1/clients", json={"name": "alice"})).json()
    listed = await admin.get("/v1/clients")
    assert listed.json()["items"] == [{key: value for key, value in created.items() if key != "token"}]
    assert created["token"] not in listed.text


async def test_location_of_a_created_client_works_after_revocation(admin: httpx.AsyncClient) -> None:
    created = await admin.post("/v1/clients", json={"name": "alice"})
    assert created.headers["location"] == f"/v1/clients/{created.json()['id']}"
    found = await admin.get(created.headers["location"])
    assert found.json() == {key: value for key, value in created.json().items() if key != "token"}
    await admin.delete(created.headers["location"])
    assert (await admin.get(created.headers["location"])).json()["revoked_at"] is not None


async def test_list_is_paginated(admin: httpx.AsyncClient) -> None:
    for name in ("a", "b", "c"):
        await admin.post("/v1/clients", json={"name": name})
    first = (await admin.get("/v1/clients?limit=2")).json()
    second = (await admin.get("/v1/clients", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [client["name"] for page in (first, second) for client in page["items"]] == ["c", "b", "a"]
    assert second["next_cursor"] is None


@pytest.mark.parametrize("query", ["cursor=", "cursor=x", "limit=0", "name=alice"])
async def test_invalid_list_parameter_is_refused(admin: httpx.AsyncClient, query: str) -> None:
    response = await admin.get(f"/v1/clients?{query}")
    pointers = [place["pointer"] for place in response.json()["errors"]]
    assert (response.status_code, pointers) == (422, [f"/query/{query.partition('=')[0]}"])


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"name": "taken"}, 409, "client_exists"),
        ({"name": "default"}, 409, "client_exists"),
        ({"name": "a b"}, 422, "validation_failed"),
        ({"name": "a\n"}, 422, "validation_failed"),
        ({"name": None}, 422, "validation_failed"),
        ({"name": "x", "admin": True}, 422, "validation_failed"),
        ({}, 422, "validation_failed"),
    ],
)
async def test_invalid_clients_are_refused(
    admin: httpx.AsyncClient, body: dict[str, object], status: int, code: str
) -> None:
    await admin.post("/v1/clients", json={"name": "taken"})
    response = await admin.post("/v1/clients", json=body)
    assert (response.status_code, response.json()["code"]) == (status, code)


async def test_invalid_name_has_a_readable_message(admin: httpx.AsyncClient) -> None:
    problem = (await admin.post("/v1/clients", json={"name": "a b"})).json()
    detail = "needs 1 to 64 letters, digits, dots, underscores or hyphens"
    assert problem["errors"] == [{"pointer": "/name", "detail": detail}]


@pytest.mark.parametrize("client_id", ["01980000-0000-7000-8000-000000000000", "no-uuid", "%00"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_unknown_client_is_404(admin: httpx.AsyncClient, client_id: str, method: str) -> None:
    response = await admin.request(method, f"/v1/clients/{client_id}")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("query", ["", "?unknown=1"])
@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
async def test_token_is_checked_before_the_request_is_read(
    stranger: httpx.AsyncClient, query: str, content_type: str
) -> None:
    headers = {"Content-Type": content_type, "Authorization": "Bearer guessed"}
    response = await stranger.post(f"/v1/clients{query}", content="{", headers=headers)
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")


async def test_client_token_is_refused(api: httpx.AsyncClient) -> None:
    response = await api.get("/v1/clients")
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")


async def test_missing_and_wrong_tokens_are_401(app: FastAPI, stranger: httpx.AsyncClient) -> None:
    assert (await stranger.get("/v1/clients")).status_code == 401
    async with caller(app, ADMIN_TOKEN + "x") as other:
        assert (await other.get("/v1/clients")).status_code == 401


async def test_without_admin_token_client_management_is_disabled(sessions: Sessions) -> None:
    app = application(load_settings({}), sessions)
    for token in (None, "", ADMIN_TOKEN):
        async with caller(app, token) as http:
            response = await http.get("/v1/clients")
            assert (response.status_code, response.json()["code"]) == (403, "admin_disabled")


async def test_admin_token_is_not_a_client_token(admin: httpx.AsyncClient) -> None:
    assert (await admin.get("/v1/models")).status_code == 401
