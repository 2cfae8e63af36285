"""Who a token belongs to, asked of the database for every request, so that revoking works at once.

The requests of one moment ask together. An answer is never kept: a question is asked after its request came.
"""

from collections.abc import Sequence
from functools import partial

from app.batching import Batcher
from app.clients.service import CurrentClient, find_clients
from app.clients.tokens import hash_token
from app.db import RawConnection, Sessions, raw_connection
from app.outages import translate_outages


class Authenticator:
    """One per process."""

    def __init__(self, sessions: Sessions) -> None:
        self._clients = Batcher(partial(raw_connection, sessions), self._find)

    async def client(self, token: bytes) -> CurrentClient | None:
        """The active client with that token. Raises DatabaseUnavailable."""
        return await self._clients(hash_token(token))

    async def _find(self, connection: RawConnection, digests: Sequence[bytes]) -> Sequence[CurrentClient | None]:
        with translate_outages():
            return await find_clients(connection, digests)
