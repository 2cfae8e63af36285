"""Dividing transcripts into segments, and the stored bytes."""

from hypothesis import given
from hypothesis import strategies as st

from app.search.folding import BORDER, clean
from app.search.matching import matches
from app.search.query import parse
from app.search.segments import OVERLAP_CHARACTERS, SEGMENT_CHARACTERS, Segment, Segments, pack, segment_terms, unpack
from app.search.terms import prefix_term, run_terms, word_term
from tests.search.search_case import segmented, sentences


def test_a_segment_contains_everything_that_a_hit_shows() -> None:
    segments = Segments()
    segments.add(1, {"begin_time": 5, "end_time": 9, "speaker_id": "x", "text": " 你好。", "words": []})
    (prepared,) = segments.finish()
    segment = unpack(prepared.texts)
    assert segment.channels == ["你好。"]
    assert segment.read_head() == (0, [(1, 5, 9, "x")])


def test_old_segments_with_a_boolean_overlap_are_read() -> None:
    head = b"[true,[[0,0,900,null],[0,1000,1900,null]]]"
    query = parse("go")
    assert [match.row for match in matches(Segment(head, ["go\x1ego"]), query)] == [1]


def test_silence_has_no_segments() -> None:
    assert segmented() == segmented(sentences()) == segmented(sentences("", " ")) == []


def test_a_long_transcript_becomes_segments_of_limited_size() -> None:
    hours = segmented(sentences(*["今天天气很好，我们去公园。"] * 20_000))
    sizes = [len(channel) for segment in hours for channel in segment.channels]
    assert len(hours) < 100
    assert max(sizes) < (SEGMENT_CHARACTERS + OVERLAP_CHARACTERS) * 1.1


@given(st.lists(st.text(max_size=900), max_size=20))
def test_all_sentences_are_in_the_segments_in_order(texts: list[str]) -> None:
    stored = [
        text
        for segment in segmented(sentences(*texts))
        for text in segment.channels[0].split(BORDER)[segment.read_head()[0] :]
    ]
    assert stored == [clean(text) for text in texts if clean(text)]


@given(st.text(st.sampled_from("龘靐齉爩鱻麤龗灪龖厵滟爨癵籱饢驫鲡鹂鸾鹳abcdefghijklmnop"), min_size=2, max_size=30))
def test_stored_segments_contain_no_legible_text(text: str) -> None:
    """zlib stores incompressible bytes unchanged."""
    (segment,) = segmented(sentences(text))
    assert text.encode() not in pack(segment)


def test_words_and_characters_do_not_share_terms() -> None:
    (segment,) = segmented(sentences("iPhone手机"))
    assert segment_terms(segment) >= run_terms("手机") | {word_term("iphone"), prefix_term("ipho"), prefix_term("i")}
    assert not run_terms("手") & run_terms("手机")
    assert all(-(2**31) <= term < 2**31 for term in segment_terms(segment))
