"""Every error is a problem that names the fault, its place and the correct form."""

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
from app.errors import Conflict, DatabaseUnavailable, Fault, GatewayError, InvalidRequest, UpstreamUnavailable
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
async def raise_status(status: int) -> None:
    raise HTTPException(status)


@router.get("/surrogate")
async def repeat_surrogate() -> None:
    raise InvalidRequest("bad \ud800", faults=[Fault("/\ud800", "bad")])


@router.get("/upstream-outage")
async def lose_upstream(with_cause: bool = False) -> None:
    raise UpstreamUnavailable("DashScope does not respond.") from (OSError("refused") if with_cause else None)


@router.get("/outage")
async def lose_database() -> None:
    raise DatabaseUnavailable("The database cannot be reached.")


@pytest.fixture
def small() -> httpx.AsyncClient:
    return caller_of(router)


async def test_problem_has_all_fields_and_its_own_media_type(small: httpx.AsyncClient) -> None:
    response = await small.get("/nowhere?token=secret", headers={"X-Request-ID": "abc"})
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
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
    response = await small.post("/things", json={"inner": {"numbers": [1, "x"], "other": 1}, "a/b~c": {"k": "y"}})
    assert response.status_code == 422
    problem = response.json()
    assert problem["code"] == "validation_failed"
    assert [place["pointer"] for place in problem["errors"]] == ["/inner/numbers/1", "/inner/other", "/a~1b~0c/k"]
    assert problem["errors"][1]["detail"] == "is not a known field"
    assert problem["detail"].startswith("/inner/numbers/1 ")


async def test_message_for_a_short_list_is_plain(small: httpx.AsyncClient) -> None:
    response = await small.post("/things", json={"inner": {"two": [1]}})
    assert response.json()["detail"] == "/inner/two needs to have at least 2 items, not 1."


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
async def test_messages_use_json_types(small: httpx.AsyncClient, body: object, detail: str) -> None:
    assert (await small.post("/things", json=body)).json()["detail"] == detail


async def test_first_hundred_faults_are_listed_and_all_are_counted(small: httpx.AsyncClient) -> None:
    problem = (await small.post("/things", json={"inner": {f"a{number}": 1 for number in range(200)}})).json()
    assert problem["detail"] == "/inner/a0 is not a known field (and 199 more)."
    assert [place["pointer"] for place in problem["errors"]] == [f"/inner/a{number}" for number in range(100)]


async def test_validation_errors_point_to_query_and_header(small: httpx.AsyncClient) -> None:
    query = await small.get("/things?limit=x")
    assert query.json()["errors"][0]["pointer"] == "/query/limit"
    header = await small.post("/things", json={"inner": {}}, headers={"Key": "secret-value"})
    assert header.json()["errors"][0]["pointer"] == "/header/key"
    assert "secret-value" not in header.text


async def test_fault_of_a_missing_or_wrong_body_points_to_the_whole_body(small: httpx.AsyncClient) -> None:
    for response in (await small.post("/things"), await small.post("/things", json=[1])):
        assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "")


@pytest.mark.parametrize("body", [b'{"a": ', b"\xff{}", b"{'a': 1}"])
async def test_invalid_json_is_400(small: httpx.AsyncClient, body: bytes) -> None:
    response = await small.post("/things", content=body, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_json")


@pytest.mark.parametrize("depth", [500, 5000, 200_000])
async def test_too_deeply_nested_json_is_422(small: httpx.AsyncClient, depth: int) -> None:
    body = b'{"inner": ' + b"[" * depth + b"]" * depth + b"}"
    response = await small.post("/things", content=body, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (422, "validation_failed")


@pytest.mark.parametrize(("digits", "pointer"), [(4000, "/inner"), (5000, "")])
async def test_integer_with_too_many_digits_is_422(small: httpx.AsyncClient, digits: int, pointer: str) -> None:
    body = b'{"inner": ' + b"1" * digits + b"}"
    response = await small.post("/things", content=body, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, pointer)
    assert pointer or "more than 4,300 digits" in response.json()["detail"]


@pytest.mark.parametrize("media_type", [None, "text/plain", "application/x-www-form-urlencoded", "a/json; charset"])
async def test_other_media_type_is_415(small: httpx.AsyncClient, media_type: str | None) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    response = await small.post("/things", content=b'{"inner": {}}', headers=headers)
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("media_type", ["application/json", "application/json; charset=UTF-8", "application/x+json"])
async def test_json_is_accepted_under_all_media_types(small: httpx.AsyncClient, media_type: str) -> None:
    response = await small.post("/things", content=b'{"inner": {}}', headers={"Content-Type": media_type})
    assert response.status_code == 200


async def test_method_not_allowed_lists_the_methods_of_all_routes_of_the_path(small: httpx.AsyncClient) -> None:
    response = await small.put("/things")
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
    assert response.headers["allow"] == "GET, HEAD, POST"


async def test_malformed_path_parameter_is_404(small: httpx.AsyncClient) -> None:
    response = await small.get("/teapot/xyz")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


async def test_unexpected_error_is_500_and_only_the_log_has_details(
    small: httpx.AsyncClient,
) -> None:
    with capture_logs() as logs:
        response = await small.get("/crash", headers={"X-Request-ID": "crash-1"})
    assert response.status_code == 500
    assert response.json()["code"] == "internal_error"
    assert response.headers["x-request-id"] == response.json()["request_id"] == "crash-1"
    assert "hunter2" not in response.text
    assert [entry["event"] for entry in logs] == ["unhandled_error", "request"]


async def test_database_outage_has_retry_after(small: httpx.AsyncClient) -> None:
    response = await small.get("/outage")
    assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
    assert int(response.headers["retry-after"]) > 0


async def test_log_of_a_503_names_the_exception_if_there_is_one(small: httpx.AsyncClient) -> None:
    with capture_logs() as logs:
        for with_cause in ("true", "false"):
            assert (await small.get("/upstream-outage", params={"with_cause": with_cause})).status_code == 503
    with_one, without = (log for log in logs if log["event"] == "unavailable")
    assert with_one["cause"] == "OSError('refused')"
    assert "cause" not in without


async def test_lone_surrogates_in_a_detail_do_not_break_the_response(small: httpx.AsyncClient) -> None:
    response = await small.get("/surrogate")
    assert response.status_code == 422
    assert json.loads(response.content)["errors"][0]["pointer"] == "/\ud800"


def test_instance_is_a_valid_uri_reference() -> None:
    response = problem_response({"type": "http", "path": "/v1/jobs/ü b%", "state": {}}, Conflict("x"))
    assert json.loads(bytes(response.body))["instance"] == "/v1/jobs/%C3%BC%20b%25"


def test_response_lists_at_most_a_hundred_faults() -> None:
    faults = [Fault(f"/{index}", "is wrong") for index in range(10_000)]
    response = problem_response({"type": "http", "path": "/"}, InvalidRequest("x", faults=faults))
    assert len(json.loads(bytes(response.body))["errors"]) == 100


def test_error_class_without_a_row_uses_the_row_of_its_base_class() -> None:
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

    # Errors of commands have no code of their own.
    codes = [cls.code for cls in family(GatewayError) if "code" in cls.__dict__]
    assert len(codes) == len(set(codes))


async def test_an_error_is_one_line(stranger: httpx.AsyncClient) -> None:
    response = await stranger.get("/v1/jobs")
    assert response.content.endswith(b"}\n")
    assert response.content.count(b"\n") == 1
    assert b'"status":401' in response.content


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/jobs/", "/v1/jobs"),
        ("//v1//jobs", "/v1/jobs"),
        ("/v1/v1/jobs", "/v1/jobs"),
        ("/v1/v1/jobs/", "/v1/jobs"),
        ("/jobs", "/v1/jobs"),
        ("/models/", "/v1/models"),
        ("/jobs/019ab0a4-4d5e-7a20-8f3b-2b1c6a0d9e11/files", "/v1/jobs/019ab0a4-4d5e-7a20-8f3b-2b1c6a0d9e11/files"),
        ("/v1/livez", "/livez"),
    ],
)
async def test_a_wrong_base_path_is_a_404_that_names_the_right_one(
    api: httpx.AsyncClient, path: str, meant: str
) -> None:
    response = await api.get(path)
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert response.json()["detail"] == f"The gateway has no such path; you may mean {meant}."


async def test_an_unknown_path_has_no_suggestion(api: httpx.AsyncClient) -> None:
    for path in ("/v1/nothing", "/v1/", "/docs/nothing", "/v1/jobs/x/y/z"):
        assert "you may mean" not in (await api.get(path)).text
