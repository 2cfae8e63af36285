"""Bodies are read within their limit, however much their bytes inflate to."""

import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator

import httpx
import pytest

from app.dashscope.bodies import UnusableBody, read_body

MOST = 2 * 1024 * 1024
TEXT = b'{"text": "Hello World."}' * 50_000


def response(body: bytes, coding: str, *, piece_bytes: int = 64 * 1024, length: str | None = None) -> httpx.Response:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(body), piece_bytes):
            yield body[at : at + piece_bytes]

    headers = {"Content-Encoding": coding} | ({"Content-Length": length} if length else {})
    return httpx.Response(200, headers=headers, content=pieces())


def raw_deflate(contents: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(contents) + compressor.flush()


CODED = [
    ("", bytes),
    ("identity", bytes),
    ("gzip", gzip.compress),
    (" GZIP ", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
]


@pytest.mark.parametrize(("coding", "encode"), CODED)
@pytest.mark.parametrize("piece_bytes", [7, 64 * 1024])
async def test_a_body_is_decoded(coding: str, encode: type[bytes], piece_bytes: int) -> None:
    for contents in (b"", b"{}", TEXT[:1000], TEXT):
        assert await read_body(response(encode(contents), coding, piece_bytes=piece_bytes), MOST) == contents


@pytest.mark.parametrize(("coding", "encode"), CODED)
async def test_the_limit_is_that_of_the_decoded_body(coding: str, encode: type[bytes]) -> None:
    assert await read_body(response(encode(TEXT), coding), len(TEXT)) == TEXT
    assert await read_body(response(encode(TEXT), coding), len(TEXT) - 1) is None


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "compress"])
async def test_other_codings_are_refused(coding: str) -> None:
    with pytest.raises(UnusableBody):
        await read_body(response(TEXT, coding), MOST)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_what_is_not_compressed_as_it_says_is_a_decoding_error(coding: str) -> None:
    with pytest.raises(httpx.DecodingError):
        await read_body(response(b"\xff" * 1000, coding), MOST)


@pytest.mark.parametrize("length", ["9" * 5000, str(MOST + 1)])
async def test_an_announced_length_over_the_limit_is_not_read(length: str) -> None:
    assert await read_body(response(b"{}", "", length=length), MOST) is None


async def test_a_piece_that_inflates_to_a_thousand_times_its_size_takes_no_more_memory_than_the_limit() -> None:
    bomb = gzip.compress(bytes(64 * 1024 * 1024))
    tracemalloc.start()
    assert await read_body(response(bomb, "gzip", piece_bytes=len(bomb)), MOST) is None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * 1024 * 1024
