"""Compress stored documents in blocks, and keep an index of them."""

import hashlib
import zlib
from collections.abc import Sequence
from typing import Any

import msgspec
import orjson
import sqlalchemy as sa
from alembic import op

revision: str = "20261123_1500"
down_revision: str | None = "20261123_1300"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_GZIP = 31
_BLOCK_BYTES = 64 * 1024

_IDS = sa.text("SELECT transcript_id FROM transcript_bodies WHERE document_index IS NULL")
_READ = sa.text("SELECT document_gzip, document_sha256 FROM transcript_bodies WHERE transcript_id = :id")
_WRITE = sa.text(
    "UPDATE transcript_bodies SET document_gzip = :gzip, document_index = :index WHERE transcript_id = :id"
)


def upgrade() -> None:
    op.add_column("transcript_bodies", sa.Column("document_index", sa.LargeBinary(), nullable=True))
    # All readers know one form only, so what is there is brought into it: some 3 ms for a short transcript.
    connection = op.get_bind()
    for transcript_id in connection.scalars(_IDS).all():
        gzip, sha256 = connection.execute(_READ, {"id": transcript_id}).one()
        blocks = _Blocks()
        index = blocks.write(zlib.decompress(gzip, _GZIP))
        if blocks.sha256.digest() != sha256:
            raise RuntimeError(f"transcript {transcript_id} would not stay what it is")
        packed = msgspec.msgpack.encode(index)
        connection.execute(_WRITE, {"id": transcript_id, "gzip": b"".join(blocks.gzip), "index": packed})
    op.alter_column("transcript_bodies", "document_index", nullable=False)


def downgrade() -> None:
    # The documents may stay as they are: they are ordinary gzip.
    op.drop_column("transcript_bodies", "document_index")


class _Blocks:
    """As `app.transcripts.seekable_gzip` wrote them when this migration was made."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(6, wbits=_GZIP)
        self._at = 10
        self._inflated = 0
        self._spans: list[list[int]] = []
        self.gzip: list[bytes] = []
        self.sha256 = hashlib.sha256()

    def write(self, json: bytes) -> list[Any]:
        document = orjson.loads(json)
        transcripts = document.pop("transcripts")
        head = self._add(orjson.dumps(document)[:-1] + b',"transcripts":[')
        channels = []
        for number, transcript in enumerate(transcripts):
            sentences = transcript["sentences"]
            before, after = _around_sentences(transcript)
            start = self._add((b"," if number else b"") + before)
            blocks = [self._block(part, first=not at) for at, part in enumerate(_parted(sentences))]
            end = self._add(after)
            channels.append([transcript.get("channel_id", 0), start, end, blocks])
        self._add(b"]}")
        self._flush(zlib.Z_FINISH)
        return [head, channels]

    def _block(self, sentences: list[dict[str, Any]], *, first: bool) -> list[Any]:
        if not first:
            self._add(b",")
        span = self._add(orjson.dumps(sentences)[1:-1])
        begins = [sentence["begin_time"] for sentence in sentences]
        end = max(max(sentence["end_time"], sentence["begin_time"] + 1) for sentence in sentences)
        return [span, len(sentences), [min(begins), max(begins)], end, None]

    def _add(self, json: bytes) -> list[int]:
        self.gzip.append(self._compressor.compress(json))
        self.sha256.update(json)
        # Where the part ends in the gzip stream is known once it is flushed.
        span = [self._at, 0, self._inflated, self._inflated + len(json)]
        self._spans.append(span)
        self._inflated += len(json)
        if self._inflated >= _BLOCK_BYTES:
            self._flush(zlib.Z_FULL_FLUSH)
        return span

    def _flush(self, mode: int) -> None:
        self.gzip.append(self._compressor.flush(mode))
        end = sum(map(len, self.gzip))
        for span in self._spans:
            span[1] = end - span[0]
        self._at, self._inflated, self._spans = end, 0, []


def _around_sentences(transcript: dict[str, Any]) -> tuple[bytes, bytes]:
    keys = list(transcript)
    at = keys.index("sentences")
    before = orjson.dumps({key: transcript[key] for key in keys[:at]} | {"sentences": []})
    after = orjson.dumps({key: transcript[key] for key in keys[at + 1 :]})
    return before.removesuffix(b"]}"), b"]" + (b"," + after[1:] if len(after) > 2 else b"}")


def _parted(sentences: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    parts: list[list[dict[str, Any]]] = []
    size = _BLOCK_BYTES
    for sentence in sentences:
        if size >= _BLOCK_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(sentence)
        size += len(orjson.dumps(sentence))
    return parts
