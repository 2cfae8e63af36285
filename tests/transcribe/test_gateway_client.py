"""What `transcribe` says of an address at which another program listens."""

import pytest
from starlette.responses import Response
from starlette.types import ASGIApp

from app.transcribe.gateway_client import NO_GATEWAY, Gateway
from app.transcribe.inputs import TranscribeError
from tests.live_server import live_server


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "content"),
    [(200, "<html>log in</html>"), (200, "{}"), (200, "[]"), (200, "null"), (204, ""), (302, ""), (502, "{}")],
)
async def test_another_server_at_the_address_is_explained(status: int, content: str) -> None:
    page: ASGIApp = Response(content, status)
    async with live_server(page) as url:
        gateway = Gateway(url, "token", is_local=True)
        with pytest.raises(TranscribeError) as raised:
            await gateway.until_ready(0)
        await gateway.close()
    assert NO_GATEWAY in raised.value.detail
