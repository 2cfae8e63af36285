"""The plain lane takes the route that Starlette's router would, and leaves all else to it."""

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Route

from app.api.strict import StrictRoute
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


async def ask(app: FastAPI, path: str, method: str = "GET") -> tuple[int, bytes]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://gateway") as http:
        answer = await http.request(method, path, headers={"X-Request-ID": "same"})
        return answer.status_code, answer.content


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


async def test_a_route_of_another_kind_ends_the_lane() -> None:
    async def early(_request: object) -> JSONResponse:
        return JSONResponse("early")

    app = small_app(APIRouter())
    app.router.routes[:0] = [Route("/things/first", early), *router().routes]
    assert await ask(app, "/things/first") == (200, b'"early"')
