"""Stored documents as plain text and captions, made piece by piece. CPU work: take the pieces in a thread. Pure."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

from app.transcripts import text
from app.transcripts.captions import CaptionOptions, Cue, cues
from app.transcripts.document_reader import StoredDocument
from app.transcripts.seekable_gzip import GZIP_WBITS

# What a document is rendered to is known by the document, the options and this: raise it with every change of what
# comes out of `plain`, `captions`, `tables`, `paragraphs` or what they use. Who has the old form would be told that
# nothing changed.
VERSION = 3

PIECE_BYTES = 64 * 1024


Writer = Callable[[Iterable[Cue]], Iterator[str]]


def render_text(document: StoredDocument, *, channel_id: int | None, speakers: bool) -> Iterator[str]:
    if channel_id is None and not speakers:
        yield text.strip_controls(document.text())
    else:
        yield from text.text(document.transcripts(channel_id), speakers=speakers)


def render_captions(document: StoredDocument, options: CaptionOptions, write: Writer) -> Iterator[str]:
    """`write`: `captions.srt`, `captions.vtt` or `captions.text`."""
    yield from write(cues(document.transcripts(options.channel_id), replace(options, channel_id=None)))


def in_pieces(written: Iterable[str], piece_bytes: int = PIECE_BYTES) -> Iterator[bytes]:
    """As UTF-8, so many bytes or a few more at a time."""
    return _gathered((part.encode() for text in written for part in _cut(text, piece_bytes)), piece_bytes)


def compressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """As gzip, and quickly: level 6 would save a fifteenth of the bytes for three times the CPU."""
    compressor = zlib.compressobj(3, wbits=GZIP_WBITS)
    flushed = (compressor.flush() for _ in range(1))
    return _gathered(chain(map(compressor.compress, pieces), flushed), PIECE_BYTES // 4)


def _cut(text: str, length: int) -> Sequence[str]:
    return [text] if len(text) <= length else [text[at : at + length] for at in range(0, len(text), length)]


def _gathered(parts: Iterable[bytes], piece_bytes: int) -> Iterator[bytes]:
    waiting = bytearray()
    for part in parts:
        waiting += part
        if len(waiting) >= piece_bytes:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)
