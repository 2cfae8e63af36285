"""Bodies over HTTP: gzip for who takes it, streamed in bounded memory for the others, 304 for who has them."""

import hashlib
import re
import zlib
from collections.abc import AsyncIterator

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from app.api.conditional import not_modified, strong_etag, validators
from app.transcripts.reading import StoredBody

_GZIP = 31  # zlib's window bits for gzip
_CHUNK_BYTES = 64 * 1024
# Up to here the whole contents in memory cost less than a stream.
_WHOLE_BYTES = 256 * 1024
_GZIP_CODING = re.compile(r"(?:^|,)\s*(?:x-)?(?:gzip|\*)\s*(?:;\s*q\s*=\s*([0-9.]+)\s*)?(?=,|$)", re.IGNORECASE)


def accepts_gzip(request: Request) -> bool:
    """RFC 9110, section 12.5.3. A caller who says nothing gets the contents as they are."""
    header = ",".join(request.headers.getlist("accept-encoding"))
    weights = [found[1] for found in _GZIP_CODING.finditer(header)]
    return bool(weights) and any(weight is None or weight.strip("0.") for weight in weights)


def body_etag(request: Request, sha256: bytes) -> str:
    """Strong: the compressed bytes are others, so they have another tag."""
    return strong_etag(sha256, "gzip" if accepts_gzip(request) else "identity")


def unchanged(request: Request, sha256: bytes) -> Response | None:
    """A 304, when the caller has these contents in the coding that it would get now."""
    answer = not_modified(request, body_etag(request, sha256))
    if answer is not None:
        answer.headers["Vary"] = "Accept-Encoding"
    return answer


def stored_response(request: Request, body: StoredBody, media_type: str) -> Response:
    """To who takes gzip the bytes as they are stored; to others inflated on the way, 64 KiB at a time."""
    headers = {**validators(body_etag(request, body.sha256)), "Vary": "Accept-Encoding"}
    if accepts_gzip(request):
        return Response(body.gzip, headers={**headers, "Content-Encoding": "gzip"}, media_type=media_type)
    if body.size_bytes <= _WHOLE_BYTES:
        return Response(zlib.decompress(body.gzip, _GZIP), headers=headers, media_type=media_type)
    headers["Content-Length"] = str(body.size_bytes)
    return StreamingResponse(_inflate(body.gzip), headers=headers, media_type=media_type)


def rendered_response(request: Request, contents: bytes, media_type: str) -> Response:
    """Contents made for this request. Call it in a thread, next to the rendering."""
    sha256 = hashlib.sha256(contents).digest()
    if answer := unchanged(request, sha256):
        return answer
    headers = {**validators(body_etag(request, sha256)), "Vary": "Accept-Encoding"}
    if accepts_gzip(request):
        contents = zlib.compress(contents, 5, _GZIP)
        headers["Content-Encoding"] = "gzip"
    return Response(contents, headers=headers, media_type=media_type)


async def _inflate(gzip: bytes) -> AsyncIterator[bytes]:
    inflater = zlib.decompressobj(_GZIP)
    pending = gzip
    while not inflater.eof:
        yield inflater.decompress(pending, _CHUNK_BYTES)
        pending = inflater.unconsumed_tail
