"""Route classes refuse requests with unknown parts, and RequestRoute validates as FastAPI does."""

from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

import httpx
import pytest
from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, TypeAdapter

from app.api.parameters import DIGITS
from app.api.request_body import RequestBody, decode_json
from app.api.strict_route import (
    RequestRoute,
    StrictRoute,
    prefixed_query,
    query_prefix,
    query_values,
    validate_request,
)
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


async def test_declared_parameters_pass_including_dependencies_and_aliases(small: httpx.AsyncClient) -> None:
    response = await small.get("/jobs?limit=3&cursor=a&status=x&status=y&from=z&metadata.call=4711&metadata.a.b=%20")
    assert response.json() == {
        "page": [3, "a"],
        "status": ["x", "y"],
        "from": "z",
        "metadata": {"call": "4711", "a.b": " "},
    }


@pytest.mark.parametrize("name", ["limits", "from_", "metadata", "metadata.", "metadatax", "LIMIT"])
async def test_unknown_parameters_are_refused(small: httpx.AsyncClient, name: str) -> None:
    response = await small.get("/jobs", params={name: "1"})
    assert response.status_code == 422
    assert [place["pointer"] for place in response.json()["errors"]] == [f"/query/{name}"]
    assert "there are cursor, from, limit, metadata.KEY, status" in response.json()["errors"][0]["detail"]


async def test_route_without_parameters_refuses_all(small: httpx.AsyncClient) -> None:
    assert (await small.get("/plain")).status_code == 200
    assert (await small.get("/plain?")).status_code == 200
    assert (await small.get("/plain?x")).status_code == 422


@pytest.mark.parametrize("query", ["limit=1&limit=2", "metadata.a=1&metadata.a=2"])
async def test_repeated_single_value_parameter_is_refused(small: httpx.AsyncClient, query: str) -> None:
    response = await small.get(f"/jobs?{query}")
    assert (response.status_code, response.json()["errors"][0]["detail"]) == (422, "may be given once only")


@pytest.mark.parametrize("query", ["cursor=%00", "from=a%0Ab", "metadata.%01=1", "status=%7f"])
async def test_control_characters_are_refused(small: httpx.AsyncClient, query: str) -> None:
    response = await small.get(f"/jobs?{query}")
    assert response.status_code == 422
    assert "control characters" in response.json()["errors"][0]["detail"]


async def test_all_faults_are_reported_together(small: httpx.AsyncClient) -> None:
    response = await small.get("/jobs?x=1&limit=1&limit=2&y=1")
    assert {place["pointer"] for place in response.json()["errors"]} == {"/query/x", "/query/limit", "/query/y"}


def test_parameters_with_free_names_are_documented() -> None:
    document = small_app(router).openapi()
    parameters = document["paths"]["/jobs"]["get"]["parameters"]
    assert {"metadata", "limit", "cursor", "status", "from"} == {parameter["name"] for parameter in parameters}
    [metadata] = [parameter for parameter in parameters if parameter["name"] == "metadata"]
    assert metadata["example"] == {}, "what /docs sends when it is tried"


@pytest.mark.parametrize(
    "accept",
    ["*/*", "application/*", "application/json; charset=utf-8", "text/html, application/json;q=0.1", "", "gibberish"],
)
async def test_accept_header_that_allows_json_passes(small: httpx.AsyncClient, accept: str) -> None:
    assert (await small.get("/jobs", headers={"Accept": accept})).status_code == 200


@pytest.mark.parametrize(
    "accept", ["text/xml", "application/xml, text/*", "*/*, application/json;q=0", "image/png;q=x"]
)
async def test_accept_header_that_excludes_json_is_406(small: httpx.AsyncClient, accept: str) -> None:
    response = await small.get("/jobs", headers={"Accept": accept})
    assert response.status_code == 406
    assert response.json()["code"] == "not_acceptable"


async def test_routes_without_json_responses_accept_any_accept_header(small: httpx.AsyncClient) -> None:
    assert (await small.get("/plain", headers={"Accept": "text/xml"})).status_code == 200


class ThingQuery(BaseModel):
    limit: Annotated[int, Query(ge=1, le=200), DIGITS] = 50
    kinds: Annotated[list[Literal["a", "b"]] | None, Query(alias="kind")] = None


class ThingHeaders(BaseModel):
    note: Annotated[str | None, Header(alias="Note", max_length=3)] = None


class Thing(RequestBody):
    names: list[str] = Field(min_length=1)


@dataclass
class ThingRequest:
    thing_id: UUID
    query: Annotated[ThingQuery, Query()]
    header: Annotated[ThingHeaders, Header()]
    body: Thing


THING_REQUEST = TypeAdapter(ThingRequest)
request_router = APIRouter(route_class=RequestRoute)
fastapi_router = APIRouter(route_class=StrictRoute)
THING = "/things/019ab0a4-4d5e-7a20-8f3b-2b1c6a0d9e11"


@request_router.post("/things/{thing_id}", dependencies=[Depends(ThingRequest)])
async def create_thing(request: Request) -> JSONResponse:
    note = request.headers.get("note")
    parsed = validate_request(
        THING_REQUEST,
        thing_id=request.path_params["thing_id"],
        query=query_values(request, repeatable="kind"),
        header={} if note is None else {"Note": note},
        **decode_json(await request.body()),
    )
    return JSONResponse(repr(parsed))


@fastapi_router.post("/things/{thing_id}", name="create_thing")
async def create_thing_by_fastapi(parsed: Annotated[ThingRequest, Depends()]) -> JSONResponse:
    return JSONResponse(repr(parsed))


async def respond_twice(path: str, body: bytes, headers: dict[str, str]) -> tuple[httpx.Response, httpx.Response]:
    """The responses of the RequestRoute and of FastAPI."""
    headers = {"Content-Type": "application/json", "X-Request-ID": "same", **headers}
    first = await caller_of(request_router).post(path, content=body, headers=headers)
    return first, await caller_of(fastapi_router).post(path, content=body, headers=headers)


@pytest.mark.parametrize(
    "query",
    ["", "?limit=7", "?limit=0", "?limit=", "?limit=1_0", "?limit=1&limit=2", "?kind=a&kind=b", "?kind=c", "?other=1"],
)
@pytest.mark.parametrize("headers", [{}, {"Note": "abc"}, {"Note": "too long"}], ids=str)
async def test_request_route_validates_query_and_headers_as_fastapi(query: str, headers: dict[str, str]) -> None:
    response, expected = await respond_twice(THING + query, b'{"names": ["x"]}', headers)
    assert (response.status_code, response.content) == (expected.status_code, expected.content)


@pytest.mark.parametrize(
    "body",
    [
        *(b'{"names": ["x"]}', b'{"names": []}', b'{"names": "x"}', b'{"names": [1]}', b'{"names": ["x"], "other": 1}'),
        *(b"[]", b"null", b"1", b"", b"{", b'{"names": ["x"]} x', b"\xff", b"[" * 100_000, b'{"names": NaN}'),
        *(b"9" * 5000, b'{"names": ["\\ud800"]}', b'\xef\xbb\xbf{"names": ["x"]}', '{"names": ["x"]}'.encode("utf-16")),
    ],
    ids=lambda body: repr(body[:40]),
)
@pytest.mark.parametrize("query", ["", "?limit=x"])
async def test_request_route_reads_bodies_as_fastapi(query: str, body: bytes) -> None:
    response, expected = await respond_twice(THING + query, body, {})
    assert (response.status_code, response.content) == (expected.status_code, expected.content)


async def test_request_route_with_a_malformed_path_parameter_is_404() -> None:
    response, expected = await respond_twice("/things/x", b'{"names": ["x"]}', {})
    assert (response.status_code, response.content) == (404, expected.content)


def test_request_route_is_documented_as_by_fastapi() -> None:
    by_fastapi, by_request = (small_app(router).openapi()["paths"] for router in (fastapi_router, request_router))
    [expected], [operation] = by_fastapi["/things/{thing_id}"].values(), by_request["/things/{thing_id}"].values()
    for key in ("parameters", "requestBody"):
        assert operation[key] == expected[key]
