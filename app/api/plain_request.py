"""A request of which headers and body are read in the shortest way: Starlette's goes through all headers for each that
is asked for, and through a stream for every body.
"""

from typing import Any

from fastapi import Request
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send


class IndexedHeaders(Headers):
    """Starlette's, with an index by name."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope=scope)
        self._index: dict[bytes, list[bytes]] = {}
        for name, value in self._list:
            self._index.setdefault(name, []).append(value)

    def __getitem__(self, key: str) -> str:
        return self._index[key.lower().encode("latin-1")][0].decode("latin-1")

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.lower().encode("latin-1") in self._index

    def get(self, key: str, default: Any = None) -> Any:
        found = self._index.get(key.lower().encode("latin-1"))
        return found[0].decode("latin-1") if found else default

    def getlist(self, key: str) -> list[str]:
        return [value.decode("latin-1") for value in self._index.get(key.lower().encode("latin-1"), ())]


class IndexedRequest(Request):
    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(scope, receive, send)
        self._headers = IndexedHeaders(scope)

    @property
    def has_body(self) -> bool:
        """Whether it was read."""
        return hasattr(self, "_body")

    async def body(self) -> bytes:
        """As Starlette's: kept, and the same however often it is asked for. Raises ClientDisconnect."""
        if not self.has_body:
            chunks = []
            more = True
            while more:
                message = await self.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunks.append(message.get("body", b""))
                more = message.get("more_body", False)
            self._body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return self._body
