"""`/docs` works without internet access."""

import re
from urllib.parse import urljoin

import httpx

from app.errors import GatewayError


async def test_docs_page_loads_no_external_resources(stranger: httpx.AsyncClient) -> None:
    page = await stranger.get("/docs")
    assert page.status_code == 200
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text) + re.findall(r"url: '([^']+)'", page.text)
    assert len(loaded) == 4
    for address in loaded:
        assert not re.match(r"https?:|//", address)
        assert (await stranger.get(urljoin("/docs", address))).status_code == 200
    assert "://" not in page.text


async def test_example_of_the_docs_page_is_accepted(api: httpx.AsyncClient) -> None:
    document = (await api.get("/openapi.json")).json()
    for example in document["components"]["schemas"]["JobRequest"]["examples"]:
        response = await api.post("/v1/jobs", json=example)
        assert response.status_code == 202, response.text


async def test_errors_page_has_every_code(stranger: httpx.AsyncClient) -> None:
    page = await stranger.get("/docs/errors")
    errors: list[type[GatewayError]] = [GatewayError, *GatewayError.__subclasses__()]
    for error in errors:
        assert f'id="{error.code}"' in page.text


async def test_problem_type_links_to_its_explanation(stranger: httpx.AsyncClient) -> None:
    problem = (await stranger.get("/v1/models")).json()
    path, _, anchor = problem["type"].partition("#")
    assert f'id="{anchor}"' in (await stranger.get(path)).text


async def test_assets_of_the_docs_page_allow_only_get(stranger: httpx.AsyncClient) -> None:
    response = await stranger.post("/docs/assets/swagger-ui.css")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")
