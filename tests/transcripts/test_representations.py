"""Rendered output may change only together with RENDER_VERSION, which is part of its ETag."""

import gzip
import hashlib
from collections.abc import Iterator
from functools import partial
from typing import Any

from app.transcripts import captions, csv_tsv, paragraphs
from app.transcripts.captions import CaptionOptions
from app.transcripts.csv_tsv import SpokenSentence
from app.transcripts.document_reader import StoredDocument
from app.transcripts.responses import RENDER_VERSION, encode_pieces, gzip_pieces, render_captions, render_text
from tests.transcripts.documents import parsed
from tests.transcripts.test_seekable_gzip import reader, write

# Hash of all forms of the samples, by version. A change needs a new RENDER_VERSION and a line here.
OUTPUTS = {5: "2fd04627487b7050f9378b41225c66453a22e909bddf0945ba87373ca1c3e410"}


def _spoken(document: StoredDocument) -> Iterator[SpokenSentence]:
    return (SpokenSentence(position.channel, sentence) for position, sentence in document.sentences(document.entries()))


MAKERS: list[Any] = [
    lambda document: csv_tsv.words_csv(_spoken(document)),
    lambda document: csv_tsv.sentences_tsv(_spoken(document)),
    lambda document: paragraphs.markdown(_spoken(document), title="a.wav", channels=True),
    lambda document: (piece.decode() for piece in paragraphs.paragraphs_json(_spoken(document))),
    partial(render_text, channel_id=None, speakers=True),
    *(
        partial(
            render_captions, options=CaptionOptions(speakers=speakers, max_chars_per_line=columns), write=write_cues
        )
        for write_cues in (captions.srt, captions.vtt, partial(captions.text, blank_lines=True))
        for speakers in (False, True)
        for columns in (10, 42)
    ),
]


def test_a_change_of_output_needs_a_new_render_version() -> None:
    output = hashlib.sha256()
    for name in ("funasr_two_channels_synthetic", "funasr_diarized_synthetic", "paraformer_female2_seed"):
        written = write(parsed(name)["transcripts"])
        for make in MAKERS:
            output.update("".join(make(StoredDocument(written.index, reader(written)))).encode())
    assert {RENDER_VERSION: output.hexdigest()} == OUTPUTS, "raise RENDER_VERSION, then note the output"


def test_pieces_have_at_most_the_given_number_of_characters() -> None:
    assert list(encode_pieces(["ab", "c" * 9, "", "d"], 4)) == [b"abcc", b"cccc", b"ccc", b"d"]
    assert list(encode_pieces([])) == []


def test_gzip_pieces_are_one_gzip_stream() -> None:
    text = b"".join(hashlib.sha256(bytes([number % 256, number // 256])).digest() for number in range(10_000))
    pieces = list(gzip_pieces([text[:100_000], b"", text[100_000:]]))
    assert gzip.decompress(b"".join(pieces)) == text
    assert len(pieces) > 1
    assert [gzip.decompress(piece) for piece in gzip_pieces([])] == [b""]
