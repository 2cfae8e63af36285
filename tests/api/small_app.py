"""An application with one router and the middleware and error handlers of the gateway, without a database."""

import httpx
from fastapi import APIRouter, FastAPI

from app.api.exception_handlers import add_problem_handlers
from app.api.middleware import add_middleware


def small_app(router: APIRouter) -> FastAPI:
    app = FastAPI(redirect_slashes=False)
    add_problem_handlers(app)
    add_middleware(app)
    app.include_router(router)
    return app


def caller_of(router: APIRouter) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=small_app(router)), base_url="http://gateway")
