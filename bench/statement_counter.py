"""A proxy in front of PostgreSQL that counts the statements of the processes that connect through it.

It reads PostgreSQL's protocol, so it counts every commit of the gateway alike, also BEGIN and COMMIT, and each row of
an `executemany`.
"""

import asyncio
import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import parse_qs, unquote, urlsplit

_LENGTH = struct.Struct("!I")
_ENDS = ("BEGIN", "COMMIT", "ROLLBACK")


class StatementCounter:
    """`sent` has the number of executions by the text of the statement."""

    def __init__(self, database_url: str) -> None:
        self._parts = urlsplit(database_url)
        self._port = 0
        self.sent: Counter[str] = Counter()

    @property
    def url(self) -> str:
        parts = self._parts
        credentials = parts.netloc.rpartition("@")[0]
        host = f"{credentials}@127.0.0.1" if credentials else "127.0.0.1"
        return f"postgresql://{host}:{self._port}{parts.path}?sslmode=disable"

    @property
    def statements(self) -> int:
        return sum(count for text, count in self.sent.items() if not text.startswith(_ENDS))

    @property
    def transaction_ends(self) -> int:
        """BEGIN, COMMIT and ROLLBACK."""
        return sum(self.sent.values()) - self.statements

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        folder = parse_qs(self._parts.query).get("host", [""])[0] or unquote(self._parts.hostname or "")
        port = self._parts.port or 5432
        if folder.startswith("/"):
            server_reader, server_writer = await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.{port}")
        else:
            server_reader, server_writer = await asyncio.open_connection(folder or "127.0.0.1", port)
        await asyncio.gather(self._count(reader, server_writer), _forward(server_reader, writer))

    async def _count(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward the messages of a client, and count the statements that they execute."""
        prepared: dict[bytes, str] = {}
        bound = ""
        with suppress(OSError, asyncio.IncompleteReadError):
            writer.write(await _startup(reader))
            while True:
                head = await reader.readexactly(5)
                body = await reader.readexactly(_LENGTH.unpack(head[1:])[0] - 4)
                writer.write(head + body)
                match head[:1]:
                    case b"Q":
                        self.sent[body.rstrip(b"\0").decode()] += 1
                    case b"P":
                        name, text, _ = body.split(b"\0", 2)
                        prepared[name] = " ".join(text.decode().split())
                    case b"B":
                        _, name, _ = body.split(b"\0", 2)
                        bound = prepared.get(name, "")
                    case b"E":
                        self.sent[bound] += 1
        writer.transport.abort()


@asynccontextmanager
async def statement_counter(database_url: str) -> AsyncIterator[StatementCounter]:
    counter = StatementCounter(database_url)
    server = await counter.start()
    try:
        yield counter
    finally:
        server.close()


async def _startup(reader: asyncio.StreamReader) -> bytes:
    """The first message, which has no type."""
    length = await reader.readexactly(4)
    return length + await reader.readexactly(_LENGTH.unpack(length)[0] - 4)


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()
