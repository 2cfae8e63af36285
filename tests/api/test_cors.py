"""Calls from web pages: CORS_ALLOWED_ORIGINS."""

import httpx
import pytest

from app.clients.service import CurrentClient
from app.db import Sessions
from app.main import create_app
from app.settings import load_settings
from tests.api_fixtures import caller

PAGE = "https://app.example.com"
PREFLIGHT = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
}


def page(sessions: Sessions, token: str | None, allowed: str) -> httpx.AsyncClient:
    app = create_app(load_settings({"cors_allowed_origins": allowed}), sessions=sessions)
    return caller(app, token)


async def test_no_origin_is_allowed_by_default(api: httpx.AsyncClient) -> None:
    for response in (await api.options("/v1/jobs", headers=PREFLIGHT), await api.get("/v1/jobs", headers=PREFLIGHT)):
        assert not [name for name in response.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("allowed", [f"https://other.example, {PAGE}", "*"])
async def test_page_of_an_allowed_origin_can_call(
    sessions: Sessions, api_client: tuple[CurrentClient, str], allowed: str
) -> None:
    origin = "*" if allowed == "*" else PAGE
    async with page(sessions, None, allowed) as http:
        preflight = await http.options("/v1/jobs", headers=PREFLIGHT)
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, origin)
        assert "x-request-id" in preflight.headers
    async with page(sessions, api_client[1], allowed) as http:
        for response in (
            await http.get("/v1/jobs", headers={"Origin": PAGE}),
            await http.get("/v1/jobs/1", headers={"Origin": PAGE}),
            await http.post("/v1/jobs", headers={"Origin": PAGE}, content=b" " * 17_000_000),
        ):
            assert response.headers["access-control-allow-origin"] == origin
            assert "Retry-After" in response.headers["access-control-expose-headers"]
            assert "access-control-allow-credentials" not in response.headers


async def test_page_of_another_origin_cannot_call(sessions: Sessions, api_client: tuple[CurrentClient, str]) -> None:
    async with page(sessions, api_client[1], PAGE) as http:
        for origin in ("https://evil.example", f"{PAGE}.evil.example", "http://app.example.com", "null"):
            assert (await http.options("/v1/jobs", headers=PREFLIGHT | {"Origin": origin})).status_code == 400
            response = await http.get("/v1/jobs", headers={"Origin": origin})
            assert "access-control-allow-origin" not in response.headers
