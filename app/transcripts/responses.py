"""HTTP responses with stored and rendered transcripts: gzip where accepted, streamed in bounded memory, ETag and 304.

Rendering takes CPU time, so the pieces of a response are made in threads.
"""

import asyncio
import re
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Annotated, Any
from urllib.parse import quote
from uuid import UUID

from fastapi import Depends, Request, Response
from fastapi.responses import StreamingResponse

from app.api.conditional import is_wildcard, select_variant
from app.clients.authentication import ClientDep
from app.db import transaction
from app.errors import InvalidRequest
from app.transcripts import text
from app.transcripts.captions import CaptionOptions, Cue, cues
from app.transcripts.document_reader import StoredDocument
from app.transcripts.paragraphs import title_of
from app.transcripts.queries import BodyKind, StoredBodies, StoredBody, find_body, find_document, find_sha256
from app.transcripts.seekable_gzip import GZIP_WBITS, ReadBytes, unpack

# Part of the ETag of every rendered response. Raise it with every change of the output of `captions`, `csv_tsv`,
# `paragraphs`, `text` or a module that they use; otherwise clients with the old output get a 304.
RENDER_VERSION = 5

# Without it Excel reads UTF-8 in the code page of the machine.
BYTE_ORDER_MARK = "\ufeff"

# Documents of this size take tenths of a second of CPU to render. Their pieces are rendered one at a time.
LARGE_BYTES = 1024 * 1024
PIECE_CHARS = 64 * 1024
# Of compressed pieces.
PIECE_BYTES = 16 * 1024
MAX_FILE_NAME_CHARS = 100
# Bytes that are inflated at once.
_INFLATE_BYTES = 256 * 1024

CueWriter = Callable[[Iterable[Cue]], Iterator[str]]
RenderLock = asyncio.Lock | nullcontext[None]


def stored_bodies_of(request: Request) -> StoredBodies:
    bodies: StoredBodies = request.app.state.stored_bodies
    return bodies


async def _stored_bodies(request: Request) -> StoredBodies:
    return stored_bodies_of(request)


StoredBodiesDep = Annotated[StoredBodies, Depends(_stored_bodies)]


@dataclass(frozen=True, slots=True)
class Representation:
    """A form of a transcript that a request asks for. `options`: every parameter that changes the output.

    `extension`: of the file as which browsers save the response, None for JSON.
    `bom`: begin with a byte order mark.
    """

    media_type: str
    channel_id: int | None
    options: Any
    render: Callable[[StoredDocument], Iterator[str]]
    extension: str | None = None
    bom: bool = False
    # Raises InvalidRequest if this form does not exist for transcripts of the model.
    require_model: Callable[[str], None] | None = None

    @property
    def tag(self) -> str:
        """The part of the ETag that tells representations of one document apart."""
        return f"{RENDER_VERSION} {self.media_type} {self.channel_id} {self.options!r} {self.bom}"


async def serve_stored(
    request: Request, bodies: StoredBodies, client_id: UUID, transcript_id: UUID, kind: BodyKind
) -> Response:
    """The stored gzip bytes where the client accepts gzip, otherwise inflated while they are sent. Raises NotFound.

    Content-Length is always set, so a client can detect a truncated response (transcript deleted meanwhile).
    """
    if unchanged := await _not_modified_stored(request, bodies, client_id, transcript_id, kind):
        return unchanged
    body = await find_body(bodies, client_id, transcript_id, kind)
    variant = select_variant(request, body.sha256)
    if variant.gzip:
        size_bytes, chunks = body.gzip_bytes, body.stream()
    else:
        size_bytes, chunks = body.size_bytes, _inflate(body.stream())
    headers = {**variant.headers, "Content-Length": str(size_bytes)}
    return StreamingResponse(chunks, headers=headers, media_type="application/json")


async def serve_rendered(
    request: Request, bodies: StoredBodies, client_id: UUID, transcript_id: UUID, representation: Representation
) -> Response:
    """Rendered in a thread; each piece is made after the client has taken the one before.

    A response of one piece has its Content-Length. Raises NotFound, and InvalidRequest for an unknown channel.
    """
    tag = representation.tag
    # Only existing channels and forms have an ETag, so a match needs no check of them. `*` matches any.
    if not is_wildcard(request) and (
        unchanged := await _not_modified_stored(request, bodies, client_id, transcript_id, "document", tag)
    ):
        return unchanged
    body, document = await open_document(bodies, client_id, transcript_id)
    require_channel(document, representation.channel_id)
    if representation.require_model is not None:
        representation.require_model(body.model)
    variant = select_variant(request, body.sha256, tag)
    if unchanged := variant.not_modified():
        return unchanged
    pieces = encode_pieces(_rendered(representation, document))
    if variant.gzip:
        pieces = gzip_pieces(pieces)
    lock = render_lock(body)
    first, second = await next_piece(pieces, lock), await next_piece(pieces, lock)
    headers = variant.headers
    if representation.extension:
        headers["Content-Disposition"] = await asyncio.to_thread(_disposition, document, representation.extension)
    if second is None:
        return Response(first, headers=headers, media_type=representation.media_type)
    stream = _stream([first or b"", second], pieces, lock)
    return StreamingResponse(stream, headers=headers, media_type=representation.media_type)


@dataclass(frozen=True, slots=True)
class TranscriptRequest:
    """A request for a form of one of the client's transcripts."""

    request: Request
    client_id: UUID
    transcript_id: UUID
    bodies: StoredBodies

    async def serve(self, representation: Representation) -> Response:
        """As `serve_rendered`."""
        return await serve_rendered(self.request, self.bodies, self.client_id, self.transcript_id, representation)


async def _transcript_request(
    request: Request, transcript_id: UUID, client: ClientDep, bodies: StoredBodiesDep
) -> TranscriptRequest:
    return TranscriptRequest(request, client.id, transcript_id, bodies)


TranscriptRequestDep = Annotated[TranscriptRequest, Depends(_transcript_request)]


async def open_document(
    bodies: StoredBodies, client_id: UUID, transcript_id: UUID
) -> tuple[StoredBody, StoredDocument]:
    """One statement. Parts beyond the first slice are fetched when they are read. Raises NotFound."""
    body, index = await find_document(bodies, client_id, transcript_id)
    return body, StoredDocument(unpack(index), _reader(body))


def render_lock(body: StoredBody) -> RenderLock:
    """Held while one piece is rendered: pieces of large documents take turns."""
    return body.bodies.large_rendering if body.size_bytes >= LARGE_BYTES else nullcontext()


def require_channel(document: StoredDocument, channel_id: int | None) -> None:
    """Raises InvalidRequest, which names the channels of the document."""
    if channel_id is None or channel_id in document.channel_ids:
        return
    known = ", ".join(map(str, document.channel_ids))
    detail = (
        f"is no channel of this transcript; it has {known}" if known else "is none: this transcript has no channels"
    )
    raise InvalidRequest.at("/query/channel_id", detail)


def render_text(document: StoredDocument, *, channel_id: int | None, speakers: bool) -> Iterator[str]:
    if channel_id is None and not speakers:
        yield text.tidy_lines(document.text())
    else:
        yield from text.text(document.transcripts(channel_id), speakers=speakers)


def render_captions(document: StoredDocument, options: CaptionOptions, write: CueWriter) -> Iterator[str]:
    """`write`: `captions.srt`, `captions.vtt`, `captions.ttml` or `captions.text`."""
    options = replace(options, audio_end_ms=document.audio_duration_ms)
    yield from write(cues(document.transcripts(options.channel_id), replace(options, channel_id=None)))


def encode_pieces(parts: Iterable[str], piece_chars: int = PIECE_CHARS) -> Iterator[bytes]:
    """The parts of a text as UTF-8, in pieces of at most `piece_chars` characters."""
    waiting: list[str] = []
    length = 0
    for part in parts:
        waiting.append(part)
        length += len(part)
        if length >= piece_chars:
            yield from _encoded("".join(waiting), piece_chars)
            waiting, length = [], 0
    yield from _encoded("".join(waiting), piece_chars)


def _encoded(whole: str, piece_chars: int) -> Iterator[bytes]:
    return (whole[at : at + piece_chars].encode() for at in range(0, len(whole), piece_chars))


def gzip_pieces(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces as one gzip stream. Level 3: level 6 saves a fifteenth of the bytes for three times the CPU."""
    compressor = zlib.compressobj(3, wbits=GZIP_WBITS)
    waiting = bytearray()
    for piece in pieces:
        waiting += compressor.compress(piece)
        if len(waiting) >= PIECE_BYTES:
            yield bytes(waiting)
            waiting.clear()
    yield bytes(waiting + compressor.flush())


def _rendered(representation: Representation, document: StoredDocument) -> Iterator[str]:
    """Starts to render at the first `next`, in a thread: reading on the event loop would wait for itself."""
    if representation.bom:
        yield BYTE_ORDER_MARK
    yield from representation.render(document)


def _reader(body: StoredBody) -> ReadBytes:
    """For threads: fetches on the event loop of the caller, which must not wait for the thread meanwhile."""
    loop = asyncio.get_running_loop()

    def read(at: int, length: int) -> bytes:
        cached = body.cached(at, length)
        return asyncio.run_coroutine_threadsafe(body.fetch(at, length), loop).result() if cached is None else cached

    return read


async def _not_modified_stored(
    request: Request, bodies: StoredBodies, client_id: UUID, transcript_id: UUID, kind: BodyKind, *tags: str
) -> Response | None:
    """A 304 if the client has this representation in this coding. Neither fetches nor renders the body."""
    if "if-none-match" not in request.headers:
        return None
    async with transaction(bodies.sessions) as session:
        sha256 = await find_sha256(session, client_id, transcript_id, kind)
    return select_variant(request, sha256, *tags).not_modified()


def _disposition(document: StoredDocument, extension: str) -> str:
    """A Content-Disposition (RFC 6266) with the name of the recording and another extension.

    The first form is ASCII, for programs such as `curl -OJ` that do not know the second one. To be called in a thread:
    the file's URL may have to be fetched by the event loop.
    """
    name = re.sub(r"[/\\]", "_", title_of(document.file_url))[:MAX_FILE_NAME_CHARS]
    stem = name.rpartition(".")[0].strip(". ") or name.strip(". ") or "transcript"
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", stem)
    encoded = quote(f"{stem}.{extension}", safe="", errors="replace")
    return f"inline; filename=\"{plain}.{extension}\"; filename*=UTF-8''{encoded}"


async def _stream(made: list[bytes], pieces: Iterator[bytes], lock: RenderLock) -> AsyncIterator[bytes]:
    while made:
        yield made.pop(0)
    while (piece := await next_piece(pieces, lock)) is not None:
        yield piece


async def next_piece(pieces: Iterator[bytes], lock: RenderLock) -> bytes | None:
    """The next piece, made in a thread; None at the end."""
    async with lock:
        return await asyncio.to_thread(next, pieces, None)


async def _inflate(slices: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    inflater = zlib.decompressobj(GZIP_WBITS)
    async for compressed in slices:
        pending = compressed
        while pending:
            yield inflater.decompress(pending, _INFLATE_BYTES)
            pending = inflater.unconsumed_tail
    if rest := inflater.flush():
        yield rest
