"""Bodies over HTTP: gzip for who takes it, streamed in bounded memory for the others, 304 for who has them."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from uuid import UUID

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from app.api.conditional import is_wildcard, not_modified, strong_etag, validator_headers
from app.api.negotiation import accepts_gzip
from app.db import Sessions, transaction
from app.transcripts.document_reader import StoredDocument
from app.transcripts.opening import open_document, require_channel
from app.transcripts.queries import BodyKind, find_body, find_sha256
from app.transcripts.rendering import VERSION, compressed, in_pieces
from app.transcripts.seekable_gzip import GZIP_WBITS
from app.transcripts.slices import Slices

# Documents this large take tenths of a second of CPU to render: piece by piece in turn, so that others get theirs.
LARGE_BYTES = 1024 * 1024

_CHUNK_BYTES = 256 * 1024
T = TypeVar("T")
Turn = asyncio.Lock | nullcontext[None]


async def serve_stored(
    request: Request, sessions: Sessions, client_id: UUID, transcript_id: UUID, kind: BodyKind
) -> Response:
    """To who takes gzip the bytes as they are stored; to others inflated on the way. Raises NotFound.

    Both have their length: who is cut off, as when the transcript is deleted meanwhile, can tell.
    """
    if answer := await _unchanged(request, sessions, client_id, transcript_id, kind):
        return answer
    body = await find_body(sessions, kept_slices(request), client_id, transcript_id, kind)
    if accepts_gzip(request):
        size_bytes, chunks = body.gzip_bytes, body.stream()
    else:
        size_bytes, chunks = body.size_bytes, _inflate(body.stream())
    headers = {**_headers(request, _etag(request, body.sha256)), "Content-Length": str(size_bytes)}
    return StreamingResponse(chunks, headers=headers, media_type="application/json")


@dataclass(frozen=True, slots=True)
class Representation:
    """What documents are made into for a request. `options`: whatever changes the outcome."""

    media_type: str
    channel_id: int | None
    options: Any
    make: Callable[[StoredDocument], Iterator[str]]

    @property
    def name(self) -> str:
        return f"{VERSION} {self.media_type} {self.channel_id} {self.options!r}"


async def serve_rendered(
    request: Request, sessions: Sessions, client_id: UUID, transcript_id: UUID, form: Representation
) -> Response:
    """Made in a thread, each piece when the caller has taken the one before. Short answers come with their length.

    Raises NotFound, and InvalidRequest for a channel that is not there.
    """
    # A tag was only ever given for a channel that is there.
    known = not is_wildcard(request)
    if known and (answer := await _unchanged(request, sessions, client_id, transcript_id, "document", form.name)):
        return answer
    body, document = await open_document(sessions, kept_slices(request), client_id, transcript_id)
    require_channel(document, form.channel_id)
    etag = _etag(request, body.sha256, form.name)
    if answer := _not_modified(request, etag):
        return answer
    pieces = in_pieces(_written(form, document))
    if accepts_gzip(request):
        pieces = compressed(pieces)
    turn = _of_app(request, "large_rendering", asyncio.Lock) if body.size_bytes >= LARGE_BYTES else nullcontext()
    first, second = await _next(pieces, turn), await _next(pieces, turn)
    headers = _headers(request, etag)
    if second is None:
        return Response(first, headers=headers, media_type=form.media_type)
    made = [first or b"", second]
    return StreamingResponse(_stream(made, pieces, turn), headers=headers, media_type=form.media_type)


def _written(form: Representation, document: StoredDocument) -> Iterator[str]:
    """Nothing is read before the first piece is asked for, which a thread does: reads wait for the event loop."""
    yield from form.make(document)


async def _unchanged(
    request: Request, sessions: Sessions, client_id: UUID, transcript_id: UUID, kind: BodyKind, *form: str
) -> Response | None:
    """A 304 for who has the body in this form and coding: nothing is fetched or rendered only to say so."""
    if "if-none-match" not in request.headers:
        return None
    async with transaction(sessions) as session:
        sha256 = await find_sha256(session, client_id, transcript_id, kind)
    return _not_modified(request, _etag(request, sha256, *form))


def _not_modified(request: Request, etag: str) -> Response | None:
    return not_modified(request, etag, {"Vary": "Accept-Encoding"})


def _etag(request: Request, *parts: bytes | str) -> str:
    """Strong: the compressed bytes are others, so they have another tag."""
    return strong_etag(*parts, "gzip" if accepts_gzip(request) else "identity")


def _headers(request: Request, etag: str) -> dict[str, str]:
    coding = {"Content-Encoding": "gzip"} if accepts_gzip(request) else {}
    return {**validator_headers(etag), **coding, "Vary": "Accept-Encoding"}


def kept_slices(request: Request) -> Slices:
    return _of_app(request, "slices", Slices)


def _of_app(request: Request, name: str, make: Callable[[], T]) -> T:
    """What all requests of this process share."""
    state = request.app.state
    if not hasattr(state, name):
        setattr(state, name, make())
    return cast("T", getattr(state, name))


async def _stream(made: list[bytes], pieces: Iterator[bytes], turn: Turn) -> AsyncIterator[bytes]:
    while made:
        yield made.pop(0)
    while (piece := await _next(pieces, turn)) is not None:
        yield piece


async def _next(pieces: Iterator[bytes], turn: Turn) -> bytes | None:
    async with turn:
        return await asyncio.to_thread(next, pieces, None)


async def _inflate(slices: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    inflater = zlib.decompressobj(GZIP_WBITS)
    async for compressed_slice in slices:
        pending = compressed_slice
        while pending:
            yield inflater.decompress(pending, _CHUNK_BYTES)
            pending = inflater.unconsumed_tail
    if rest := inflater.flush():
        yield rest
