"""Stored documents as plain text and captions. CPU work and no input or output: call it in a thread."""

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
import orjson

from app.transcripts import plain
from app.transcripts.captions import CaptionOptions, Cue, cues
from app.transcripts.reading import StoredBody

# A document this large takes tenths of a second and a hundred megabytes to render: one at a time.
LARGE_BYTES = 1024 * 1024

_GZIP = 31  # zlib's window bits for gzip

Writer = Callable[[Iterable[Cue]], Iterator[str]]


class _Text(msgspec.Struct):
    """Skips everything else without building it: a tenth of the time and of the memory."""

    text: str


def render_text(document: StoredBody, *, channel_id: int | None, speakers: bool) -> bytes:
    if channel_id is None and not speakers:
        return msgspec.json.decode(_inflate(document), type=_Text).text.encode()
    return plain.text(_transcripts(document), channel_id=channel_id, speakers=speakers).encode()


def render_captions(document: StoredBody, options: CaptionOptions, write: Writer) -> bytes:
    """`write`: `captions.srt`, `captions.vtt` or `captions.text`."""
    return "".join(write(cues(_transcripts(document), options))).encode()


def _transcripts(document: StoredBody) -> list[dict[str, Any]]:
    transcripts: list[dict[str, Any]] = orjson.loads(_inflate(document))["transcripts"]
    return transcripts


def _inflate(document: StoredBody) -> bytes:
    return zlib.decompress(document.gzip, _GZIP, document.size_bytes)
