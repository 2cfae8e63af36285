"""Reading a stored document in parts, against the same document read whole."""

from math import inf
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.transcripts import text
from app.transcripts.captions import CaptionOptions, srt
from app.transcripts.document_reader import SentenceFilters, StoredDocument, find_sentences
from app.transcripts.responses import render_captions, render_text
from tests.transcripts.documents import cues, hostile_transcripts, plausible_transcripts, sentence, transcript
from tests.transcripts.test_seekable_gzip import reader, write

ANY_TRANSCRIPTS = st.one_of(plausible_transcripts(), hostile_transcripts())


class RecordingDocument:
    """A document that records its reads."""

    def __init__(self, transcripts: list[dict[str, Any]], block_bytes: int) -> None:
        written = write(transcripts, block_bytes=block_bytes)
        self.reads: list[tuple[int, int]] = []
        self._read = reader(written)
        self.blocks = sum(len(channel.blocks) for channel in written.index.channels)
        self.document = StoredDocument(written.index, self.read)

    def read(self, at: int, length: int) -> bytes:
        self.reads.append((at, length))
        return self._read(at, length)


def opened(transcripts: list[dict[str, Any]], block_bytes: int = 200) -> StoredDocument:
    return RecordingDocument(transcripts, block_bytes).document


def in_order(transcripts: list[dict[str, Any]]) -> list[tuple[tuple[int, int, int], dict[str, Any]]]:
    """All sentences in the order and form of pages."""
    return sorted(
        (
            ((each["begin_time"], channel, number), {**each, "channel_id": item["channel_id"]})
            for channel, item in enumerate(transcripts)
            for number, each in enumerate(item["sentences"])
        ),
        key=lambda found: found[0],
    )


@given(ANY_TRANSCRIPTS, st.integers(1, 1500))
def test_sentences_are_in_order_of_time_for_any_block_size(transcripts: list[dict[str, Any]], block_bytes: int) -> None:
    found = find_sentences(opened(transcripts, block_bytes), SentenceFilters(), 10_000)
    assert found == in_order(transcripts)


@given(ANY_TRANSCRIPTS, st.integers(1, 1500), st.integers(1, 5))
def test_all_pages_are_the_whole_document(transcripts: list[dict[str, Any]], block_bytes: int, limit: int) -> None:
    document = opened(transcripts, block_bytes)
    pages: list[Any] = []
    while page := find_sentences(document, SentenceFilters(after=pages[-1][0] if pages else None), limit):
        pages += page
    assert pages == in_order(transcripts)


FILTERS = st.builds(
    SentenceFilters,
    channel_id=st.none() | st.integers(0, 2),
    speaker_id=st.none() | st.sampled_from(["0", "1", "2", "a", ""]),
    from_ms=st.none() | st.integers(0, 20_000),
    to_ms=st.none() | st.integers(0, 20_000),
)


def is_wanted(each: dict[str, Any], filters: SentenceFilters) -> bool:
    speaker = each.get("speaker_id")
    begin, end = each["begin_time"], max(each["end_time"], each["begin_time"] + 1)
    since = -inf if filters.from_ms is None else filters.from_ms
    until = inf if filters.to_ms is None else filters.to_ms
    return (
        filters.channel_id in {None, each["channel_id"]}
        and (filters.speaker_id is None or (speaker is not None and str(speaker) == filters.speaker_id))
        and (since < until and begin < until and end > since)
    )


@given(ANY_TRANSCRIPTS, st.integers(1, 1500), FILTERS)
def test_filters_select_the_same_sentences_as_a_full_scan(
    transcripts: list[dict[str, Any]], block_bytes: int, filters: SentenceFilters
) -> None:
    found = find_sentences(opened(transcripts, block_bytes), filters, 10_000)
    assert found == [each for each in in_order(transcripts) if is_wanted(each[1], filters)]


@given(ANY_TRANSCRIPTS, st.integers(1, 1500), st.booleans(), st.sampled_from([None, 0]))
def test_forms_read_in_blocks_equal_those_of_the_whole_document(
    transcripts: list[dict[str, Any]], block_bytes: int, speakers: bool, channel_id: int | None
) -> None:
    document = opened(transcripts, block_bytes)
    options = CaptionOptions(speakers=speakers, channel_id=channel_id)
    assert "".join(render_captions(document, options, srt)) == "".join(srt(cues(transcripts, options)))
    if speakers or channel_id is not None:
        rendered = "".join(render_text(document, channel_id=channel_id, speakers=speakers))
        assert rendered == "".join(text.text(transcripts, channel_id=channel_id, speakers=speakers))


LONG = [
    transcript(
        *(sentence(f"Sentence {n}.", n * 1000, n * 1000 + 900, speaker_id=n // 100) for n in range(1000)),
        channel_id=channel_id,
    )
    for channel_id in range(2)
]


@pytest.mark.parametrize(
    "filters",
    [
        SentenceFilters(),
        SentenceFilters(channel_id=1, from_ms=500_000, to_ms=501_000),
        SentenceFilters(speaker_id="7", channel_id=0),
        SentenceFilters(from_ms=999_500),
    ],
    ids=repr,
)
def test_a_page_reads_only_the_blocks_that_it_needs(filters: SentenceFilters) -> None:
    recorded = RecordingDocument(LONG, block_bytes=2000)
    assert recorded.blocks > 50
    assert find_sentences(recorded.document, filters, 10)
    assert len(recorded.reads) <= 4


def test_filters_without_matches_read_no_block() -> None:
    recorded = RecordingDocument(LONG, block_bytes=2000)
    for filters in (SentenceFilters(speaker_id="99"), SentenceFilters(from_ms=10**9), SentenceFilters(to_ms=0)):
        assert find_sentences(recorded.document, filters, 10) == []
    assert recorded.reads == []


def test_captions_read_ahead() -> None:
    recorded = RecordingDocument(LONG, block_bytes=2000)
    assert orjson.dumps("".join(render_captions(recorded.document, CaptionOptions(), srt)))
    assert len(recorded.reads) < 10
