"""Bodies are read within their size limit, whatever their compression ratio."""

import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator

import pytest

from app.dashscope.bodies import UnusableBody, read_body

MAX_BYTES = 2 * 1024 * 1024
TEXT = b'{"text": "Hello World."}' * 50_000


async def read(
    body: bytes, encoding: str, max_bytes: int = MAX_BYTES, *, chunk_bytes: int = 64 * 1024, length: str = ""
) -> bytes | None:
    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(body), chunk_bytes):
            yield body[at : at + chunk_bytes]

    return await read_body(chunks(), max_bytes, encoding=encoding, length=length)


def raw_deflate(contents: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(contents) + compressor.flush()


ENCODINGS = [
    ("", bytes),
    ("identity", bytes),
    ("gzip", gzip.compress),
    (" GZIP ", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
]


@pytest.mark.parametrize(("encoding", "encode"), ENCODINGS)
@pytest.mark.parametrize("chunk_bytes", [7, 64 * 1024])
async def test_body_is_decoded(encoding: str, encode: type[bytes], chunk_bytes: int) -> None:
    for contents in (b"", b"{}", TEXT[:1000], TEXT):
        assert await read(encode(contents), encoding, chunk_bytes=chunk_bytes) == contents


@pytest.mark.parametrize(("encoding", "encode"), ENCODINGS)
async def test_limit_applies_to_the_decoded_body(encoding: str, encode: type[bytes]) -> None:
    assert await read(encode(TEXT), encoding, len(TEXT)) == TEXT
    assert await read(encode(TEXT), encoding, len(TEXT) - 1) is None


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress"])
async def test_other_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(UnusableBody):
        await read(TEXT, encoding)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_damaged_body_is_unusable(encoding: str) -> None:
    with pytest.raises(UnusableBody):
        await read(b"\xff" * 1000, encoding)


@pytest.mark.parametrize("length", ["9" * 5000, str(MAX_BYTES + 1)])
async def test_body_with_a_content_length_over_the_limit_is_not_read(length: str) -> None:
    assert await read(b"{}", "", length=length) is None


@pytest.mark.slow
async def test_memory_stays_bounded_for_a_highly_compressed_body() -> None:
    bomb = gzip.compress(bytes(64 * 1024 * 1024))
    tracemalloc.start()
    assert await read(bomb, "gzip", chunk_bytes=len(bomb)) is None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * 1024 * 1024
