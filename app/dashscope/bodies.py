"""Bodies of upstream's answers, read within a limit however they are compressed.

httpx inflates each piece that arrives at once: 64 KB of gzip became 66 MB on the event loop before any limit was
looked at.
"""

import asyncio
import zlib

import httpx

from app.coding import GZIP

# Stacked codings and newer ones are refused: they were not asked for.
CODINGS = {"", "identity", "gzip", "deflate"}
# What one step may inflate to: on the event loop, and in a thread for a piece that holds more.
_STEP_BYTES = 256 * 1024
_LARGE_STEP_BYTES = 4 * 1024 * 1024


class UnusableBody(Exception):
    """Compressed in a way that was not asked for."""


async def read_body(response: httpx.Response, max_bytes: int) -> bytes | None:
    """The decoded body; None: it is longer. Raises UnusableBody, and DecodingError for what is damaged."""
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    if coding not in CODINGS:
        raise UnusableBody
    if coding in {"", "identity"}:
        return await _read_plain(response, max_bytes)
    body = bytearray()
    inflater = _Inflater(coding)
    async for piece in response.aiter_raw():
        body += inflater.inflate(piece, _STEP_BYTES)
        while inflater.pending and len(body) <= max_bytes:
            body += await asyncio.to_thread(inflater.inflate, inflater.pending, _LARGE_STEP_BYTES)
        if len(body) > max_bytes:
            return None
    return bytes(body)


async def _read_plain(response: httpx.Response, max_bytes: int) -> bytes | None:
    length = response.headers.get("Content-Length", "").lstrip("0")
    if length.isdecimal() and (len(length) > len(str(max_bytes)) or int(length) > max_bytes):
        return None
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > max_bytes:
            return None
    return bytes(body)


class _Inflater:
    """gzip, or deflate with its header or without, as servers send both."""

    def __init__(self, coding: str) -> None:
        self._stream = zlib.decompressobj(GZIP if coding == "gzip" else zlib.MAX_WBITS)
        self._may_lack_header = coding == "deflate"

    @property
    def pending(self) -> bytes:
        """What was taken and not inflated yet. What follows the end of the stream is dropped."""
        return self._stream.unconsumed_tail

    def inflate(self, piece: bytes, max_bytes: int) -> bytes:
        """Up to so many bytes of what `piece` holds; the rest of it is `pending`."""
        try:
            inflated = self._stream.decompress(piece, max_bytes)
        except zlib.error:
            if not self._may_lack_header:
                raise httpx.DecodingError("the body is not compressed as its Content-Encoding says") from None
            self._may_lack_header = False
            self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
            return self.inflate(piece, max_bytes)
        self._may_lack_header = self._may_lack_header and not inflated
        return inflated
