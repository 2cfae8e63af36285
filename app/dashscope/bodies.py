"""Reads response bodies within a size limit, however they are compressed.

HTTP clients inflate each chunk as a whole: 64 KB of gzip became 66 MB on the event loop before any limit was checked.
"""

import asyncio
import zlib
from collections.abc import AsyncIterable

# Newer encodings, and several encodings in a row, are refused: no request asks for them.
ENCODINGS = {"", "identity", "gzip", "deflate"}
# Most bytes that one step inflates: on the event loop, and in a thread if the chunk holds more.
_STEP_BYTES = 256 * 1024
_LARGE_STEP_BYTES = 4 * 1024 * 1024


class UnusableBody(Exception):
    """The body is damaged, too large, or compressed in a way that was not asked for."""


async def read_body(
    chunks: AsyncIterable[bytes], max_bytes: int, *, encoding: str = "", length: str = ""
) -> bytes | None:
    """The decoded body, or None if it is longer than `max_bytes`.

    `chunks` are the bytes as received. `encoding` and `length` are the values of Content-Encoding and Content-Length.
    Raises UnusableBody for an unknown encoding and for damaged data.
    """
    encoding = encoding.strip().lower()
    if encoding not in ENCODINGS:
        raise UnusableBody
    if encoding in {"", "identity"}:
        return await _read_uncompressed(chunks, max_bytes, length.lstrip("0"))
    body = bytearray()
    inflater = _Inflater(encoding)
    async for chunk in chunks:
        body += inflater.inflate(chunk, _STEP_BYTES)
        while inflater.pending and len(body) <= max_bytes:
            body += await asyncio.to_thread(inflater.inflate, inflater.pending, _LARGE_STEP_BYTES)
        if len(body) > max_bytes:
            return None
    return bytes(body)


async def _read_uncompressed(chunks: AsyncIterable[bytes], max_bytes: int, length: str) -> bytes | None:
    if length.isdecimal() and (len(length) > len(str(max_bytes)) or int(length) > max_bytes):
        return None
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > max_bytes:
            return None
    return bytes(body)


class _Inflater:
    """Inflates gzip, and deflate with or without its zlib header: servers send both."""

    def __init__(self, encoding: str) -> None:
        self._stream = zlib.decompressobj(zlib.MAX_WBITS | 16 if encoding == "gzip" else zlib.MAX_WBITS)
        self._may_lack_header = encoding == "deflate"

    @property
    def pending(self) -> bytes:
        """Compressed bytes that are not inflated yet. Bytes after the end of the stream are dropped."""
        return self._stream.unconsumed_tail

    def inflate(self, chunk: bytes, max_bytes: int) -> bytes:
        """Up to `max_bytes` of the decoded chunk. The rest of the chunk becomes `pending`."""
        try:
            inflated = self._stream.decompress(chunk, max_bytes)
        except zlib.error:
            if not self._may_lack_header:
                raise UnusableBody from None
            self._may_lack_header = False
            self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
            return self.inflate(chunk, max_bytes)
        self._may_lack_header = self._may_lack_header and not inflated
        return inflated
