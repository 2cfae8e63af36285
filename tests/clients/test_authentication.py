"""Requests need a valid token."""

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI
from structlog.testing import capture_logs

from app.clients.authentication import AuthenticatedRoute, ClientDep, current_client
from app.clients.service import CurrentClient, ensure_default_client, revoke_client
from app.db import Sessions, transaction
from app.main import create_app
from app.settings import Settings
from tests.api_fixtures import caller


@pytest.fixture
def app_with_body(settings: Settings, sessions: Sessions) -> FastAPI:
    """An application of its own with one more route, which has a body."""
    app = create_app(settings, sessions=sessions)
    router = APIRouter(route_class=AuthenticatedRoute)

    @router.post("/v1/echo")
    async def echo(body: dict[str, int], client: ClientDep) -> dict[str, int | str]:
        return {**body, "client": client.name}

    app.include_router(router, dependencies=[Depends(current_client)])
    return app


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Basic dTpw", "asr_x", "Bearer asr_unknown", "Bearer \xe9"]
)
async def test_missing_or_unknown_token_is_401_with_instructions(
    stranger: httpx.AsyncClient, authorization: str | None
) -> None:
    headers = [] if authorization is None else [(b"Authorization", authorization.encode("latin-1"))]
    response = await stranger.get("/v1/models", headers=headers)
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert "Authorization: Bearer <token>" in response.json()["detail"]
    assert "asr_" not in response.text


async def test_authorization_scheme_is_case_insensitive(app: FastAPI, api_client: tuple[CurrentClient, str]) -> None:
    async with caller(app) as http:
        response = await http.get("/v1/models", headers={"Authorization": f"bearer {api_client[1]}"})
    assert response.status_code == 200


async def test_revoking_takes_effect_at_once(api: httpx.AsyncClient, sessions: Sessions) -> None:
    assert (await api.get("/v1/models")).status_code == 200
    async with transaction(sessions) as session:
        await revoke_client(session, "tester")
    assert (await api.get("/v1/models")).status_code == 401


async def test_non_ascii_api_token_works(app: FastAPI, sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        await ensure_default_client(session, "pässword")
    async with caller(app) as http:
        response = await http.get("/v1/models", headers=[(b"Authorization", "Bearer pässword".encode())])
    assert response.status_code == 200


async def test_body_is_not_read_without_a_valid_token(app_with_body: FastAPI) -> None:
    async with caller(app_with_body) as http:
        response = await http.post("/v1/echo", content=b"{", headers={"Content-Type": "application/json"})
    assert response.status_code == 401


async def test_route_and_log_line_have_the_client(
    app_with_body: FastAPI, api_client: tuple[CurrentClient, str]
) -> None:
    async with caller(app_with_body, api_client[1]) as http:
        with capture_logs() as logs:
            response = await http.post("/v1/echo", json={"a": 1})
    assert response.json() == {"a": 1, "client": "tester"}
    assert logs[-1]["client"] == "tester"
    assert api_client[1] not in str(logs)
