"""Whatever goes wrong is a problem that says what, where, and what would be right."""

import json
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Header
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from structlog.testing import capture_logs

from app.api.problems import problem_response, problem_type
from app.api.strict_route import StrictRoute
from app.errors import Conflict, DatabaseUnavailable, Fault, GatewayError, InvalidRequest
from tests.api.small_app import caller_of

router = APIRouter(route_class=StrictRoute)


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    numbers: list[int] = []
    two: list[int] = Field(default=[1, 2], min_length=2)


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")
    inner: Inner
    by_name: dict[str, int] = Field(default={}, alias="a/b~c")


@router.post("/things")
async def create_thing(body: Body, key: Annotated[str | None, Header(max_length=3)] = None) -> None: ...


@router.get("/things")
async def list_things(limit: int = 1) -> None: ...


@router.get("/crash")
async def crash() -> None:
    raise RuntimeError("the password is hunter2")


@router.get("/teapot/{status}")
async def answer_with(status: int) -> None:
    raise HTTPException(status)


@router.get("/surrogate")
async def repeat_surrogate() -> None:
    raise InvalidRequest("bad \ud800", faults=[Fault("/\ud800", "bad")])


@router.get("/outage")
async def lose_database() -> None:
    raise DatabaseUnavailable("The database cannot be reached.")


@pytest.fixture
def small() -> httpx.AsyncClient:
    return caller_of(router)


async def test_a_problem_has_all_fields_and_its_own_media_type(small: httpx.AsyncClient) -> None:
    answer = await small.get("/nowhere?token=secret", headers={"X-Request-ID": "abc"})
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem.pop("detail")
    assert problem == {
        "type": "/docs/errors#not_found",
        "title": "There is nothing here",
        "status": 404,
        "instance": "/nowhere",
        "code": "not_found",
        "request_id": "abc",
        "errors": [],
    }


async def test_validation_errors_point_into_the_body(small: httpx.AsyncClient) -> None:
    answer = await small.post("/things", json={"inner": {"numbers": [1, "x"], "other": 1}, "a/b~c": {"k": "y"}})
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["code"] == "validation_failed"
    assert [place["pointer"] for place in problem["errors"]] == ["/inner/numbers/1", "/inner/other", "/a~1b~0c/k"]
    assert problem["errors"][1]["detail"] == "is not a known field"
    assert problem["detail"].startswith("/inner/numbers/1 ")


async def test_a_list_that_is_too_short_is_said_plainly(small: httpx.AsyncClient) -> None:
    answer = await small.post("/things", json={"inner": {"two": [1]}})
    assert answer.json()["detail"] == "/inner/two needs to have at least 2 items, not 1."


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ([1], "The body needs to be an object."),
        ({"inner": 1}, "/inner needs to be an object."),
        ({"inner": {"numbers": "1"}}, "/inner/numbers needs to be an array."),
        ({"inner": {"numbers": ["x"]}}, "/inner/numbers/0 needs to be an integer."),
        ({"inner": {}, "a/b~c": 1}, "/a~1b~0c needs to be an object."),
    ],
)
async def test_what_is_needed_is_said_in_words_of_json(small: httpx.AsyncClient, body: object, detail: str) -> None:
    assert (await small.post("/things", json=body)).json()["detail"] == detail


async def test_of_many_wrong_places_the_first_hundred_are_shown_and_all_are_counted(small: httpx.AsyncClient) -> None:
    problem = (await small.post("/things", json={"inner": {f"a{number}": 1 for number in range(200)}})).json()
    assert problem["detail"] == "/inner/a0 is not a known field (and 199 more)."
    assert [place["pointer"] for place in problem["errors"]] == [f"/inner/a{number}" for number in range(100)]


async def test_validation_errors_point_to_query_and_header(small: httpx.AsyncClient) -> None:
    query = await small.get("/things?limit=x")
    assert query.json()["errors"][0]["pointer"] == "/query/limit"
    header = await small.post("/things", json={"inner": {}}, headers={"Key": "secret-value"})
    assert header.json()["errors"][0]["pointer"] == "/header/key"
    assert "secret-value" not in header.text


async def test_a_missing_body_and_a_body_of_another_type_point_to_the_whole_document(small: httpx.AsyncClient) -> None:
    for answer in (await small.post("/things"), await small.post("/things", json=[1])):
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "")


@pytest.mark.parametrize("body", [b'{"a": ', b"\xff{}", b"{'a': 1}"])
async def test_what_is_no_json_is_a_400(small: httpx.AsyncClient, body: bytes) -> None:
    answer = await small.post("/things", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_json")


@pytest.mark.parametrize("depth", [500, 5000, 200_000])
async def test_json_that_is_nested_too_deeply_has_a_wrong_value(small: httpx.AsyncClient, depth: int) -> None:
    body = b'{"inner": ' + b"[" * depth + b"]" * depth + b"}"
    answer = await small.post("/things", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


@pytest.mark.parametrize(("digits", "pointer"), [(4000, "/inner"), (5000, "")])
async def test_an_integer_with_too_many_digits_is_a_wrong_value(
    small: httpx.AsyncClient, digits: int, pointer: str
) -> None:
    body = b'{"inner": ' + b"1" * digits + b"}"
    answer = await small.post("/things", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    assert pointer or "more than 4,300 digits" in answer.json()["detail"]


@pytest.mark.parametrize("media_type", [None, "text/plain", "application/x-www-form-urlencoded", "a/json; charset"])
async def test_another_media_type_is_a_415(small: httpx.AsyncClient, media_type: str | None) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    answer = await small.post("/things", content=b'{"inner": {}}', headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("media_type", ["application/json", "application/json; charset=UTF-8", "application/x+json"])
async def test_json_is_accepted_under_all_its_names(small: httpx.AsyncClient, media_type: str) -> None:
    answer = await small.post("/things", content=b'{"inner": {}}', headers={"Content-Type": media_type})
    assert answer.status_code == 200


async def test_method_not_allowed_lists_the_methods_of_all_routes_of_the_path(small: httpx.AsyncClient) -> None:
    answer = await small.put("/things")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD, POST"


async def test_a_path_parameter_that_cannot_be_right_is_a_404(small: httpx.AsyncClient) -> None:
    answer = await small.get("/teapot/xyz")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_an_unexpected_error_is_a_500_that_tells_nothing_and_a_log_line_that_does(
    small: httpx.AsyncClient,
) -> None:
    with capture_logs() as logs:
        answer = await small.get("/crash", headers={"X-Request-ID": "crash-1"})
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal_error"
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "crash-1"
    assert "hunter2" not in answer.text
    assert [entry["event"] for entry in logs] == ["unhandled_error", "request"]


async def test_an_outage_of_the_database_says_when_to_try_again(small: httpx.AsyncClient) -> None:
    answer = await small.get("/outage")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert int(answer.headers["retry-after"]) > 0


async def test_lone_surrogates_in_a_detail_do_not_break_the_answer(small: httpx.AsyncClient) -> None:
    answer = await small.get("/surrogate")
    assert answer.status_code == 422
    assert json.loads(answer.content)["errors"][0]["pointer"] == "/\ud800"


def test_the_instance_is_a_valid_uri_reference() -> None:
    response = problem_response({"type": "http", "path": "/v1/jobs/ü b%", "state": {}}, Conflict("x"))
    assert json.loads(bytes(response.body))["instance"] == "/v1/jobs/%C3%BC%20b%25"


def test_no_answer_lists_more_than_a_hundred_places() -> None:
    faults = [Fault(f"/{index}", "is wrong") for index in range(10_000)]
    response = problem_response({"type": "http", "path": "/"}, InvalidRequest("x", faults=faults))
    assert len(json.loads(bytes(response.body))["errors"]) == 100


def test_a_class_without_a_row_takes_that_of_its_base() -> None:
    class Special(Conflict):
        code = "special"

    assert problem_type(Special) == problem_type(Conflict)


def test_every_code_belongs_to_one_class() -> None:
    def family(cls: type[GatewayError]) -> list[type[GatewayError]]:
        return [
            cls,
            *(
                found
                for child in cls.__subclasses__()
                if child.__module__.startswith("app.")
                for found in family(child)
            ),
        ]

    codes = [cls.code for cls in family(GatewayError)]
    assert len(codes) == len(set(codes))
