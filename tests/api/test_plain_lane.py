"""The plain lane takes the route that Starlette's router would, and leaves all else to it."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Route

from app.api.strict_route import StrictRoute
from app.errors import Conflict
from tests.api.small_app import small_app


def router() -> APIRouter:
    made = APIRouter(route_class=StrictRoute)

    @made.get("/things/first")
    async def first() -> JSONResponse:
        return JSONResponse("first")

    @made.get("/things/{name}")
    async def any_thing(name: str) -> JSONResponse:
        return JSONResponse(f"any {name}")

    @made.get("/things/last")
    async def shadowed() -> JSONResponse:
        return JSONResponse("never")

    @made.get("/parts/fastapi")
    async def modelled() -> dict[str, str]:
        return {"by": "FastAPI"}

    @made.get("/parts/{name}")
    async def part(name: str) -> JSONResponse:
        return JSONResponse(f"part {name}")

    @made.get("/whole/{rest:path}")
    async def whole(rest: str) -> JSONResponse:
        return JSONResponse(f"whole {rest}")

    @made.get("/conflict")
    async def conflict() -> JSONResponse:
        raise Conflict("Not now.")

    @made.get("/refused")
    async def refused() -> JSONResponse:
        raise HTTPException(404)

    @made.get("/broken")
    async def broken() -> JSONResponse:
        raise ZeroDivisionError

    return made


def plain_app() -> FastAPI:
    app = small_app(APIRouter())
    app.router.routes[:0] = router().routes
    return app


async def ask(app: FastAPI, path: str, method: str = "GET") -> tuple[int, bytes, list[tuple[str, str]]]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://gateway") as http:
        answer = await http.request(method, path, headers={"X-Request-ID": "same"})
        return answer.status_code, answer.content, sorted(answer.headers.items())


@pytest.mark.parametrize(
    "path",
    [
        *("/things/first", "/things/last", "/things/x", "/things/%E9%9F%B3", "/things/a%2Fb", "/things/", "/things"),
        *("/parts/fastapi", "/parts/other", "/whole/a/b", "/conflict", "/refused", "/broken", "/nowhere", "//things/x"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_each_path_is_answered_as_by_the_router(path: str, method: str) -> None:
    assert await ask(plain_app(), path, method) == await ask(small_app(router()), path, method)


async def test_a_body_that_nobody_wants_is_not_waited_for() -> None:
    """The parameter is wrong whatever else is still sent, and however much."""

    made = APIRouter(route_class=StrictRoute)

    @made.get("/limited")
    async def limited(limit: int) -> JSONResponse:
        return JSONResponse(limit)

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 1024 * 1024

    app = small_app(APIRouter())
    app.router.routes[:0] = made.routes
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://gateway") as http:
        answer = await http.request("GET", "/limited?limit=x", content=endless())
    assert answer.status_code == 422


async def test_what_is_called_most_is_in_the_lane(app: FastAPI) -> None:
    plain = {route.operation_id for route in app.router.routes if isinstance(route, StrictRoute) and route.plain}
    assert {"createJob", "getJob", "listJobs", "listJobFiles", "getTranscript"} <= plain


async def test_a_route_of_another_kind_ends_the_lane() -> None:
    async def early(_request: object) -> JSONResponse:
        return JSONResponse("early")

    app = small_app(APIRouter())
    app.router.routes[:0] = [Route("/things/first", early), *router().routes]
    assert (await ask(app, "/things/first"))[:2] == (200, b'"early"')
