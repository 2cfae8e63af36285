"""The route class and the responses of DashScope's protocol. The class authenticates the client.

Unlike `/v1`, unknown fields, query parameters and media types are accepted, as DashScope accepts them.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Literal

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.routing import request_response

from app.api.problems import request_id
from app.catalogue import RegionName
from app.clients.authentication import authenticator_of
from app.clients.service import CurrentClient
from app.dashscope_api.errors import Refused

RequestedRegion = Literal["auto"] | RegionName

BASES: dict[str, RequestedRegion] = {"/api/v1": "auto", "/beijing/api/v1": "beijing", "/singapore/api/v1": "singapore"}


class DashScopeRoute(APIRoute):
    """An endpoint that takes the Request alone. `request.state.client` is its client.

    A request over the client's limit is delayed, and not refused: the SDKs end a wait at the first 429.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.app = request_response(self.get_route_handler())

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        async def handle(request: Request) -> Response:
            try:
                await authenticator_of(request).patient_client(request)
                response: Response = await self.endpoint(request)
            except Refused as refused:
                return refused.response(request.scope)
            return response

        return handle


def client_of(request: Request) -> CurrentClient:
    client: CurrentClient = request.state.client
    return client


def region_of(request: Request) -> RequestedRegion:
    """The region of the path."""
    path = request.scope["path"]
    return next(region for base, region in BASES.items() if path.startswith(f"{base}/"))


def respond(request: Request, body: dict[str, Any]) -> Response:
    content = orjson.dumps({"request_id": request_id(request.scope), **body})
    return Response(content, media_type="application/json")
