"""The route class of DashScope's protocol: it authenticates the client, and leaves the rest to the endpoint.

Unlike `/v1`, unknown fields, query parameters and media types are accepted, as DashScope accepts them.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.routing import request_response

from app.clients.authentication import Authenticator
from app.dashscope_api.errors import Refused


class DashScopeRoute(APIRoute):
    """An endpoint that takes the Request alone. `request.state.client` is its client.

    A request over the client's limit is delayed, and not refused: the SDKs end a wait at the first 429.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.app = request_response(self.get_route_handler())

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        async def handle(request: Request) -> Response:
            authenticator: Authenticator = request.app.state.authenticator
            try:
                await authenticator.patient_client(request)
                response: Response = await self.endpoint(request)
            except Refused as refused:
                return refused.response(request.scope)
            return response

        return handle
