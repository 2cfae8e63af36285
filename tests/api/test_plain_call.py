"""What is called without FastAPI's help is answered as FastAPI answers it, to the byte."""

from typing import Annotated, Any, Literal
from uuid import UUID

import httpx
import pytest
from fastapi import APIRouter, Cookie, Depends, FastAPI, Header, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from app.api.instants import Instant
from app.api.plain_call import plain_call
from app.api.strict_route import StrictRoute
from app.errors import Forbidden
from tests.api.small_app import small_app

ID = "019ab0a4-4d5e-7a20-8f3b-2b1c6a0d9e11"


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    names: list[str] = Field(min_length=1, max_length=3)
    kind: Literal["a", "b"] = "a"
    more: dict[str, Any] = {}


async def whose(request: Request) -> str:
    return request.headers.get("x-owner", "nobody")


def answer(request: Request, **values: Any) -> JSONResponse:
    """Only FastAPI's way leaves a stack behind."""
    way = "fastapi" if "fastapi_inner_astack" in request.scope else "plain"
    return JSONResponse({name: repr(value) for name, value in values.items()}, headers={"X-Way": way})


def router() -> APIRouter:
    made = APIRouter(route_class=StrictRoute)

    @made.get("/things/{thing_id}")
    async def get_thing(
        request: Request,
        thing_id: UUID,
        *,
        owner: Annotated[str, Depends(whose)],
        since: Instant | None = None,
        kinds: Annotated[list[Literal["a", "b"]] | None, Query(alias="kind")] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        prefer: Annotated[str | None, Header(max_length=10)] = None,
    ) -> JSONResponse:
        return answer(
            request, thing_id=thing_id, owner=owner, since=since, kinds=kinds, limit=limit, prefer=prefer
        )  # fmt: skip

    @made.post("/things")
    async def make_thing(request: Request, thing: Thing, wait: bool = False) -> JSONResponse:
        return answer(request, thing=thing, wait=wait)

    @made.get("/needed")
    async def need(request: Request, q: str) -> JSONResponse:
        return answer(request, q=q)

    return made


GETS = [
    *(f"/things/{ID}", f"/things/{ID.upper()}", "/things/x", "/things/", "/needed", "/needed?q=", "/needed?q=%C3%A9"),
    *(f"/things/{ID}?{query}" for query in ("limit=7", "limit=0", "limit=x", "limit=", "limit=1&limit=2", "other=1")),
    *(f"/things/{ID}?{query}" for query in ("kind=a", "kind=a&kind=b", "kind=c", "kind=", "kind=a&limit=3")),
    *(f"/things/{ID}?{query}" for query in ("since=2026-11-23T08:00:00Z", "since=yesterday", "since=", "limit=%00")),
]
# Valid for FastAPI's reader alone, which is then asked.
LENIENT = [b'{"names": ["x"], "more": {"n": 1e400}}', b'{"names": ["\\ud800"]}', b'\xef\xbb\xbf{"names": ["x"]}']
BODIES = [
    *(
        *LENIENT,
        b'{"names": ["x"]}',
        b'{"names": ["x"], "kind": "b", "more": {"n": 1.5, "big": 12345678901234567890123}}',
    ),
    *(b'{"names": []}', b'{"names": "x"}', b'{"names": [1]}', b'{"names": ["x"], "other": 1}', b"[]", b"null", b"1"),
    *(b"", b"{", b'{"names": ["x"]} x', b"\xff", b"[" * 100_000, b'{"names": NaN}', b"9" * 5000),
    *('{"names": ["x"]}'.encode("utf-16"), b'{"names": ["a"], "names": ["b"]}'),
]


async def both(method: str, path: str, **more: Any) -> tuple[httpx.Response, httpx.Response]:
    headers = {"X-Request-ID": "same", **more.pop("headers", {})}
    plain, fastapi = small_app(APIRouter()), small_app(router())
    plain.router.routes[:0] = router().routes
    return await ask(plain, method, path, headers=headers, **more), await ask(
        fastapi, method, path, headers=headers, **more
    )


async def ask(app: FastAPI, method: str, path: str, **more: Any) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://gateway") as http:
        return await http.request(method, path, **more)


def same(plain: httpx.Response, fastapi: httpx.Response) -> bool:
    return (plain.status_code, plain.content, headers(plain)) == (
        fastapi.status_code, fastapi.content, headers(fastapi),
    )  # fmt: skip


def headers(answer: httpx.Response) -> list[tuple[str, str]]:
    return sorted(pair for pair in answer.headers.items() if pair[0] != "x-way")


@pytest.mark.parametrize("path", GETS)
@pytest.mark.parametrize("headers", [{}, {"Prefer": "wait=1"}, {"Prefer": "far too long"}, {"X-Owner": "me"}], ids=str)
async def test_parameters_are_read_as_fastapi_reads_them(path: str, headers: dict[str, str]) -> None:
    plain, fastapi = await both("GET", path, headers=headers)
    assert same(plain, fastapi)
    assert plain.headers.get("x-way", "fastapi") == ("plain" if plain.status_code == 200 else "fastapi")


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:40]))
@pytest.mark.parametrize("path", ["/things", "/things?wait=true", "/things?wait=perhaps"])
async def test_bodies_are_read_as_fastapi_reads_them(path: str, body: bytes) -> None:
    plain, fastapi = await both("POST", path, content=body, headers={"Content-Type": "application/json"})
    assert same(plain, fastapi)
    is_plain = plain.status_code == 200 and body not in LENIENT
    assert plain.headers.get("x-way", "fastapi") == ("plain" if is_plain else "fastapi")


@pytest.mark.parametrize("method", ["HEAD", "PUT", "OPTIONS"])
async def test_other_methods_are_answered_alike(method: str) -> None:
    assert same(*await both(method, f"/things/{ID}"))


async def test_the_dependencies_of_an_included_router_are_kept() -> None:
    async def refuse() -> None:
        raise Forbidden("No.")

    app = small_app(APIRouter())
    app.include_router(router(), dependencies=[Depends(refuse)])
    assert (await ask(app, "GET", f"/things/{ID}")).status_code == 403


async def test_what_needs_more_than_plain_arguments_is_left_to_fastapi() -> None:
    made = APIRouter(route_class=StrictRoute)

    def blocking() -> int:
        return 1

    @made.get("/cookie")
    async def cookie(jar: Annotated[str | None, Cookie()] = None) -> JSONResponse:
        return JSONResponse(jar)

    @made.get("/model")
    async def model() -> Thing:
        return Thing(names=["x"])

    @made.get("/blocking")
    def not_async() -> JSONResponse:
        return JSONResponse(1)

    @made.get("/dependency")
    async def dependency(number: Annotated[int, Depends(blocking)]) -> JSONResponse:
        return JSONResponse(number)

    @made.get("/mutable")
    async def mutable(names: Annotated[list[str], Query()] = []) -> JSONResponse:  # noqa: B006
        return JSONResponse(names)

    assert [route.path for route in made.routes if isinstance(route, StrictRoute) and plain_call(route)] == []
