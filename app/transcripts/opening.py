"""Documents in the database, opened for the pure code that reads them in a thread."""

import asyncio
from uuid import UUID

from app.db import Sessions
from app.errors import Fault, InvalidRequest
from app.transcripts.document_reader import StoredDocument
from app.transcripts.queries import Body, find_document
from app.transcripts.seekable_gzip import Read, unpack
from app.transcripts.slices import Slices


async def open_document(
    sessions: Sessions, slices: Slices, client_id: UUID, transcript_id: UUID
) -> tuple[Body, StoredDocument]:
    """One statement; what is not in the first slice is fetched when it is read. Raises NotFound."""
    body, index = await find_document(sessions, slices, client_id, transcript_id)
    return body, StoredDocument(unpack(index), _reads(body))


def require_channel(document: StoredDocument, channel_id: int | None) -> None:
    """Raises InvalidRequest with the channels that there are."""
    if channel_id is None or channel_id in document.channel_ids:
        return
    known = ", ".join(map(str, document.channel_ids))
    detail = (
        f"is no channel of this transcript; it has {known}" if known else "is none: this transcript has no channels"
    )
    raise InvalidRequest(f"/query/channel_id {detail}.", faults=[Fault("/query/channel_id", detail)])


def _reads(body: Body) -> Read:
    """For a thread: the database is asked on the loop of who called, which must not wait for the thread."""
    loop = asyncio.get_running_loop()

    def read(at: int, length: int) -> bytes:
        found = body.here(at, length)
        return asyncio.run_coroutine_threadsafe(body.fetch(at, length), loop).result() if found is None else found

    return read
