"""A request says only what the route knows."""

from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Depends, Query, Request

from app.api.strict_route import StrictRoute, prefixed_query, query_prefix
from tests.api.small_app import caller_of, small_app

router = APIRouter(route_class=StrictRoute)


async def page(limit: int = 50, cursor: str | None = None) -> tuple[int, str | None]:
    return limit, cursor


@router.get("/jobs", openapi_extra=query_prefix("metadata.", "Jobs with this metadata."))
async def list_jobs(
    request: Request,
    page: Annotated[tuple[int, str | None], Depends(page)],
    status: Annotated[list[str] | None, Query()] = None,
    from_: Annotated[str | None, Query(alias="from")] = None,
) -> dict[str, object]:
    return {"page": page, "status": status, "from": from_, "metadata": prefixed_query(request, "metadata.")}


@router.get("/plain")
async def plain() -> None: ...


@pytest.fixture
def small() -> httpx.AsyncClient:
    return caller_of(router)


async def test_declared_parameters_pass_also_those_of_dependencies_and_aliases(small: httpx.AsyncClient) -> None:
    answer = await small.get("/jobs?limit=3&cursor=a&status=x&status=y&from=z&metadata.call=4711&metadata.a.b=%20")
    assert answer.json() == {
        "page": [3, "a"],
        "status": ["x", "y"],
        "from": "z",
        "metadata": {"call": "4711", "a.b": " "},
    }


@pytest.mark.parametrize("name", ["limits", "from_", "metadata", "metadata.", "metadatax", "LIMIT"])
async def test_other_parameters_are_refused(small: httpx.AsyncClient, name: str) -> None:
    answer = await small.get("/jobs", params={name: "1"})
    assert answer.status_code == 422
    assert [place["pointer"] for place in answer.json()["errors"]] == [f"/query/{name}"]
    assert "there are cursor, from, limit, metadata.KEY, status" in answer.json()["errors"][0]["detail"]


async def test_a_route_without_parameters_takes_none(small: httpx.AsyncClient) -> None:
    assert (await small.get("/plain")).status_code == 200
    assert (await small.get("/plain?")).status_code == 200
    assert (await small.get("/plain?x")).status_code == 422


@pytest.mark.parametrize("query", ["limit=1&limit=2", "metadata.a=1&metadata.a=2"])
async def test_what_has_one_value_may_be_given_once(small: httpx.AsyncClient, query: str) -> None:
    answer = await small.get(f"/jobs?{query}")
    assert (answer.status_code, answer.json()["errors"][0]["detail"]) == (422, "may be given once only")


@pytest.mark.parametrize("query", ["cursor=%00", "from=a%0Ab", "metadata.%01=1", "status=%7f"])
async def test_control_characters_are_refused(small: httpx.AsyncClient, query: str) -> None:
    answer = await small.get(f"/jobs?{query}")
    assert answer.status_code == 422
    assert "control characters" in answer.json()["errors"][0]["detail"]


async def test_all_faults_are_told_at_once(small: httpx.AsyncClient) -> None:
    answer = await small.get("/jobs?x=1&limit=1&limit=2&y=1")
    assert {place["pointer"] for place in answer.json()["errors"]} == {"/query/x", "/query/limit", "/query/y"}


def test_free_names_are_documented() -> None:
    document = small_app(router).openapi()
    parameters = document["paths"]["/jobs"]["get"]["parameters"]
    assert {"metadata", "limit", "cursor", "status", "from"} == {parameter["name"] for parameter in parameters}
    [metadata] = [parameter for parameter in parameters if parameter["name"] == "metadata"]
    assert metadata["example"] == {}, "what /docs sends when it is tried"


@pytest.mark.parametrize(
    "accept",
    ["*/*", "application/*", "application/json; charset=utf-8", "text/html, application/json;q=0.1", "", "gibberish"],
)
async def test_an_accept_that_json_can_meet_passes(small: httpx.AsyncClient, accept: str) -> None:
    assert (await small.get("/jobs", headers={"Accept": accept})).status_code == 200


@pytest.mark.parametrize(
    "accept", ["text/xml", "application/xml, text/*", "*/*, application/json;q=0", "image/png;q=x"]
)
async def test_an_accept_that_rules_out_json_is_refused(small: httpx.AsyncClient, accept: str) -> None:
    answer = await small.get("/jobs", headers={"Accept": accept})
    assert answer.status_code == 406
    assert answer.json()["code"] == "not_acceptable"


async def test_routes_that_answer_with_something_else_take_any_accept(small: httpx.AsyncClient) -> None:
    assert (await small.get("/plain", headers={"Accept": "text/xml"})).status_code == 200
