"""Nobody gets in without a token, and nobody stays in without a valid one."""

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI
from structlog.testing import capture_logs

from app.clients.authentication import AuthenticatedRoute, ClientDep, current_client
from app.clients.service import CurrentClient, ensure_default_client, revoke_client
from app.db import Sessions, transaction
from tests.api_fixtures import caller


@pytest.fixture
def app_with_body(app: FastAPI) -> FastAPI:
    """A route with a body under the routes of the application."""
    router = APIRouter(route_class=AuthenticatedRoute)

    @router.post("/v1/echo")
    async def echo(body: dict[str, int], client: ClientDep) -> dict[str, int | str]:
        return {**body, "client": client.name}

    app.include_router(router, dependencies=[Depends(current_client)])
    return app


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Basic dTpw", "asr_x", "Bearer asr_unknown", "Bearer \xe9"]
)
async def test_no_or_another_token_is_a_401_that_says_how(
    stranger: httpx.AsyncClient, authorization: str | None
) -> None:
    headers = [] if authorization is None else [(b"Authorization", authorization.encode("latin-1"))]
    answer = await stranger.get("/v1/models", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "Authorization: Bearer <token>" in answer.json()["detail"]
    assert "asr_" not in answer.text


async def test_the_scheme_is_case_insensitive(app: FastAPI, api_client: tuple[CurrentClient, str]) -> None:
    async with caller(app) as http:
        answer = await http.get("/v1/models", headers={"Authorization": f"bearer {api_client[1]}"})
    assert answer.status_code == 200


async def test_revoking_takes_effect_at_once(api: httpx.AsyncClient, sessions: Sessions) -> None:
    assert (await api.get("/v1/models")).status_code == 200
    async with transaction(sessions) as session:
        await revoke_client(session, "tester")
    assert (await api.get("/v1/models")).status_code == 401


async def test_an_api_token_beyond_ascii_works(app: FastAPI, sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        await ensure_default_client(session, "pässword")
    async with caller(app) as http:
        answer = await http.get("/v1/models", headers=[(b"Authorization", "Bearer pässword".encode())])
    assert answer.status_code == 200


async def test_a_strangers_body_is_not_even_read(app_with_body: FastAPI) -> None:
    async with caller(app_with_body) as http:
        answer = await http.post("/v1/echo", content=b"{", headers={"Content-Type": "application/json"})
    assert answer.status_code == 401


async def test_a_client_is_known_to_the_route_and_to_the_log(
    app_with_body: FastAPI, api_client: tuple[CurrentClient, str]
) -> None:
    async with caller(app_with_body, api_client[1]) as http:
        with capture_logs() as logs:
            answer = await http.post("/v1/echo", json={"a": 1})
    assert answer.json() == {"a": 1, "client": "tester"}
    assert logs[-1]["client"] == "tester"
    assert api_client[1] not in str(logs)
