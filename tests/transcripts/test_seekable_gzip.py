"""A document in blocks is an ordinary gzip stream, and each part of it can be read alone."""

import gzip
import hashlib
import zlib
from collections.abc import Sequence
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from app.transcripts.seekable_gzip import (
    MAX_SPEAKERS,
    Channel,
    GzipWriter,
    ReadBytes,
    Span,
    Written,
    pack,
    read_block,
    unpack,
)
from tests.transcripts.documents import hostile_transcripts, sentence, transcript

HEAD = b'{"text":"","transcripts":['


def write(channels: Sequence[dict[str, Any]], *, block_bytes: int = 200) -> Written:
    writer = GzipWriter(6, block_bytes=block_bytes)
    writer.head(HEAD)
    for number, channel in enumerate(channels):
        before = b'{"channel_id":%d,"sentences":[' % channel["channel_id"]
        writer.open_channel(channel["channel_id"], (b"," if number else b"") + before)
        for each in channel["sentences"]:
            writer.add(each)
        writer.close_channel(b'],"text":%b}' % orjson.dumps(channel["text"]))
    return writer.finish(b"]}")


def reader(written: Written) -> ReadBytes:
    return lambda at, length: written.gzip[at : at + length]


def spans(channel: Channel) -> list[Span]:
    return [channel.before, *(block.span for block in channel.blocks), channel.after]


def inflated(gzipped: bytes, span: Span) -> bytes:
    return zlib.decompressobj(-15).decompress(gzipped[span.at : span.at + span.length])


@given(hostile_transcripts(), st.integers(1, 2000))
def test_the_stream_is_the_gzip_of_the_plain_json(channels: list[dict[str, Any]], block_bytes: int) -> None:
    written = write(channels, block_bytes=block_bytes)
    plain = gzip.decompress(written.gzip)
    whole = [{key: channel[key] for key in ("channel_id", "sentences", "text")} for channel in channels]
    assert plain == orjson.dumps({"text": "", "transcripts": whole})
    assert (hashlib.sha256(plain).digest(), len(plain)) == (written.sha256, written.size_bytes)


@given(hostile_transcripts(), st.integers(1, 2000))
def test_each_block_can_be_read_alone(channels: list[dict[str, Any]], block_bytes: int) -> None:
    written = write(channels, block_bytes=block_bytes)
    index = unpack(pack(written.index))
    assert index == written.index
    for channel, known in zip(channels, index.channels, strict=True):
        parts = [read_block(block, reader(written)) for block in known.blocks]
        assert [each for part in parts for each in part] == channel["sentences"]
        for block, part in zip(known.blocks, parts, strict=True):
            begins = [each["begin_time"] for each in part]
            assert block.count == len(part)
            assert block.begins == (min(begins), max(begins))
            assert block.end == max(max(each["end_time"], each["begin_time"] + 1) for each in part)
            said = {str(each["speaker_id"]) for each in part if each.get("speaker_id") is not None}
            assert block.speakers == (tuple(sorted(said)) if len(said) <= MAX_SPEAKERS else None)


@given(hostile_transcripts(), st.integers(1, 2000))
def test_all_spans_together_are_the_document(channels: list[dict[str, Any]], block_bytes: int) -> None:
    written = write(channels, block_bytes=block_bytes)
    every = [written.index.head, *(span for channel in written.index.channels for span in spans(channel))]
    parts = {span.at: inflated(written.gzip, span) for span in every}
    pieces = [parts[span.at][span.start : span.stop] for span in every]
    at, plain = 0, gzip.decompress(written.gzip)
    for piece in pieces:
        at += plain[at : at + 1] == b"," != piece[:1]  # the commas between blocks belong to none of them
        assert plain[at : at + len(piece)] == piece
        at += len(piece)
    assert plain[at:] == b"]}"


def test_blocks_end_between_sentences_and_add_few_bytes() -> None:
    spoken = [sentence(f"sentence {n} 语音识别", n * 1000, n * 1000 + 900, sentence_id=n) for n in range(20_000)]
    written = write([transcript(*spoken)], block_bytes=64 * 1024)
    blocks = written.index.channels[0].blocks
    assert len(blocks) > 10
    assert all(64 * 1024 <= block.span.stop - block.span.start < 65 * 1024 for block in blocks[:-1])
    assert len(written.gzip) < 1.1 * len(gzip.compress(gzip.decompress(written.gzip), 6))
    assert len(pack(written.index)) < 64 * len(blocks)


def test_a_short_document_is_compressed_as_a_whole() -> None:
    written = write([transcript(sentence("Hi.", 0, 1)), transcript(sentence("Ho.", 0, 1))], block_bytes=64 * 1024)
    assert len({span.at for channel in written.index.channels for span in spans(channel)}) == 1
    assert written.gzip == zlib.compress(gzip.decompress(written.gzip), 6, 31)


def test_equal_documents_give_equal_bytes() -> None:
    channels = [transcript(*[sentence("Hi.", n, n + 1) for n in range(100)])]
    assert write(channels).gzip == write(channels).gzip
