"""Documentation for people, without internet."""

import re
from urllib.parse import urljoin

import httpx

from app.errors import GatewayError


async def test_the_documentation_page_loads_nothing_from_elsewhere(stranger: httpx.AsyncClient) -> None:
    page = await stranger.get("/docs")
    assert page.status_code == 200
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text) + re.findall(r"url: '([^']+)'", page.text)
    assert len(loaded) == 4
    for address in loaded:
        assert not re.match(r"https?:|//", address)
        assert (await stranger.get(urljoin("/docs", address))).status_code == 200
    assert "://" not in page.text


async def test_the_example_that_the_page_offers_to_try_is_accepted(api: httpx.AsyncClient) -> None:
    document = (await api.get("/openapi.json")).json()
    for example in document["components"]["schemas"]["JobRequest"]["examples"]:
        answer = await api.post("/v1/jobs", json=example)
        assert answer.status_code == 202, answer.text


async def test_the_page_on_errors_explains_every_code(stranger: httpx.AsyncClient) -> None:
    page = await stranger.get("/docs/errors")
    errors: list[type[GatewayError]] = [GatewayError, *GatewayError.__subclasses__()]
    for error in errors:
        assert f'id="{error.code}"' in page.text


async def test_a_problem_links_to_its_explanation(stranger: httpx.AsyncClient) -> None:
    problem = (await stranger.get("/v1/models")).json()
    path, _, anchor = problem["type"].partition("#")
    assert f'id="{anchor}"' in (await stranger.get(path)).text


async def test_what_the_pages_load_can_be_read_only(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.post("/docs/assets/swagger-ui.css")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
