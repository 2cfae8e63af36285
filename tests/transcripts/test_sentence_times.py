"""All forms of a transcript agree about the time of a sentence."""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from app.search.segments import Segments, unpack
from app.transcripts.captions import CaptionOptions
from app.transcripts.csv_tsv import SpokenSentence
from app.transcripts.normalise import normalise
from app.transcripts.paragraphs import paragraphs
from app.transcripts.text import sentence_times
from tests.transcripts.documents import cues, sentence, transcript


def said(begin: int, end: int, *words: tuple[int, int, str]) -> dict[str, Any]:
    listed = [{"begin_time": first, "end_time": last, "text": text} for first, last, text in words]
    return sentence("".join(text for _, _, text in words), begin, end, words=listed)


def times(*sentences: dict[str, Any]) -> Iterator[tuple[int, int]]:
    raw = orjson.dumps({"transcripts": [transcript(*sentences)]})
    document = normalise(raw, file_url="u", family="fun-asr").transcripts
    (item,) = document[0]["sentences"]
    yield item["begin_time"], item["end_time"]
    (cue,) = cues(document, CaptionOptions())
    yield cue.begin_time, cue.end_time
    (paragraph,) = paragraphs([SpokenSentence(0, item)])
    yield paragraph.begin_time, paragraph.end_time
    segments = Segments()
    segments.add_channel(document[0])
    ((_, rows),) = [unpack(segment.texts).read_head() for segment in segments.finish()]
    yield rows[0][1], rows[0][2]


@pytest.mark.parametrize(
    ("begin", "end", "expected"), [(1000, 2000, (500, 3000)), (500, 3000, (500, 3000)), (0, 4000, (0, 4000))]
)
def test_a_sentence_lasts_from_the_first_to_the_last_of_its_times(
    begin: int, end: int, expected: tuple[int, int]
) -> None:
    assert set(times(said(begin, end, (500, 1500, "你"), (1500, 3000, "好")))) == {expected}


def test_words_of_another_clock_do_not_move_their_sentence() -> None:
    assert sentence_times(said(2000, 3000, (0, 400, "你"), (400, 900, "好"))) == (2000, 3000)
    assert sentence_times(said(2000, 3000, (0, 2500, "你"), (0, 2500, "好"))) == (2000, 3000)
    assert set(times(said(2000, 3000, (0, 400, "你"), (400, 900, "好")))) == {(2000, 3000)}


def test_a_long_silence_inside_a_sentence_has_no_caption() -> None:
    document = transcript(said(0, 9000, (5000, 5400, "你"), (5400, 6000, "好")))
    assert [(cue.begin_time, cue.end_time) for cue in cues([document], CaptionOptions())] == [(5000, 6000)]
