"""Indexes stored documents of versions that kept no index of blocks. Their `document_index` is NULL until then."""

import asyncio
import gzip
import time

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.transcripts.normalise import around_sentences
from app.transcripts.seekable_gzip import GzipWriter, Written, pack

# A call locks its documents for about this long: the deletion of one of them waits.
STEP_S = 0.1
_MAX_DOCUMENTS = 50
_LEVEL = 6


def index_document(document_gzip: bytes) -> Written:
    """The document compressed in blocks, with their index: 3 ms for a short transcript, 1 s for 12 hours. Pure."""
    document = orjson.loads(gzip.decompress(document_gzip))
    channels = document.pop("transcripts")
    writer = GzipWriter(_LEVEL)
    writer.head(orjson.dumps(document)[:-1] + b',"transcripts":[')
    for number, channel in enumerate(channels):
        before, after = around_sentences({**channel, "sentences": []})
        writer.open_channel(channel.get("channel_id", 0), (b"," if number else b"") + before)
        for sentence in channel["sentences"]:
            writer.add(sentence)
        writer.close_channel(after)
    return writer.finish(b"]}")


async def index_old_documents(session: AsyncSession) -> int:
    """Index some documents, and return their number. Several pollers may call this at once; a crash loses nothing."""
    stop_at = time.monotonic() + STEP_S
    transcript_ids = (await session.scalars(_UNINDEXED, {"limit": _MAX_DOCUMENTS})).all()
    for done, transcript_id in enumerate(transcript_ids, 1):
        document_gzip = await session.scalar(_READ, {"id": transcript_id})
        written = await asyncio.to_thread(index_document, document_gzip)
        values = {"gzip": written.gzip, "sha256": written.sha256, "bytes": written.size_bytes}
        await session.execute(_WRITE, {"id": transcript_id, "index": pack(written.index), **values})
        if time.monotonic() > stop_at:
            return done
    return len(transcript_ids)


# SKIP LOCKED: waits neither for another poller nor for a deletion.
_UNINDEXED = text("""
    SELECT transcript_id FROM transcript_bodies WHERE document_index IS NULL
    ORDER BY transcript_id DESC LIMIT :limit FOR UPDATE SKIP LOCKED
""")

_READ = text("SELECT document_gzip FROM transcript_bodies WHERE transcript_id = :id")

_WRITE = text("""
    UPDATE transcript_bodies
    SET document_gzip = :gzip, document_sha256 = :sha256, document_bytes = :bytes, document_index = :index
    WHERE transcript_id = :id
""")
