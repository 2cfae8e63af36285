"""Paragraphs as JSON, and as Markdown read by a CommonMark parser."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from app.transcripts.line_breaking import width
from app.transcripts.paragraphs import MAX_COLUMNS, PAUSE_MS, markdown, paragraphs, paragraphs_json, title_of
from tests.transcripts.documents import hostile_transcripts, plausible_transcripts, sentence, spoken, transcript
from tests.transcripts.golden_files import golden_transcripts
from tests.transcripts.test_csv_tsv import Transcripts, listed


def texts(*transcripts: dict[str, Any]) -> list[str]:
    return [paragraph.text for paragraph in paragraphs(listed(*transcripts))]


def test_consecutive_sentences_are_one_paragraph() -> None:
    talk = transcript(sentence("One.", 0, 900), sentence("Two.", 1000, 2000), sentence("三。", 2000, 3000))
    (paragraph,) = paragraphs(listed(talk))
    assert (paragraph.begin_time, paragraph.end_time, paragraph.text) == (0, 3000, "One. Two.三。")


def test_a_silence_ends_a_paragraph() -> None:
    talk = transcript(
        sentence("One.", 0, 1000), sentence("Two.", 999 + PAUSE_MS, 4000), sentence("Three.", 4000 + PAUSE_MS, 9000)
    )
    assert texts(talk) == ["One. Two.", "Three."]


def test_a_new_speaker_or_channel_begins_a_paragraph() -> None:
    first = transcript(sentence("One.", 0, 1, speaker_id=0), sentence("Two.", 1, 2, speaker_id=1))
    assert texts(first, transcript(sentence("Three.", 2, 3, speaker_id=1), channel_id=1)) == ["One.", "Two.", "Three."]


def test_a_paragraph_has_a_maximum_length_except_for_one_long_sentence() -> None:
    long = "字" * MAX_COLUMNS
    talk = transcript(*(sentence(text, 0, 1) for text in ("a" * 400, "b" * 200, "c", long, "d")))
    assert texts(talk) == ["a" * 400 + " " + "b" * 200, "c", long, "d"]


def test_json_has_the_documented_keys() -> None:
    assert orjson.loads(b"".join(paragraphs_json(listed(*golden_transcripts("funasr_diarized_synthetic"))))) == {
        "items": [
            {
                "begin_time": 760,
                "end_time": 3240,
                "channel_id": 0,
                "speaker_id": 0,
                "text": "Hello World，这里是阿里巴巴语音实验室。",
                "sentences": 1,
            },
            {
                "begin_time": 5000,
                "end_time": 7400,
                "channel_id": 0,
                "speaker_id": 1,
                "text": "你好，我是第二位说话人。",
                "sentences": 1,
            },
        ]
    }
    assert b"".join(paragraphs_json([])) == b'{"items":[]}'


@pytest.mark.parametrize(
    ("url", "title"),
    [
        ("https://example.com/calls/call-4711.wav?Signature=secret#frag", "call-4711.wav"),
        ("https://example.com/%E9%80%9A%E8%AF%9D%0A1.mp3", "通话 1.mp3"),
        ("oss://bucket/a/b/", "b"),
        ("https://user:password@example.com/?key=secret", "example.com"),
        ("nonsense?secret", "nonsense"),
        ("?secret", "transcript"),
    ],
)
def test_the_title_is_the_file_name_without_the_query_string(url: str, title: str) -> None:
    assert title_of(url) == title


def test_markdown_names_speakers_and_times() -> None:
    talk = listed(*golden_transcripts("funasr_diarized_synthetic"))
    assert "".join(markdown(talk, title="a_b.wav", channels=False)) == (
        "# a\\_b.wav\n\n**Speaker 0** [00:00:00] Hello World，这里是阿里巴巴语音实验室。\n\n"
        "**Speaker 1** [00:00:05] 你好，我是第二位说话人。\n"
    )
    assert "**" not in "".join(markdown(talk, title="a.wav", channels=False, speakers=False))


def test_channels_are_named_if_there_are_several() -> None:
    talk = listed(*golden_transcripts("funasr_two_channels_synthetic"))
    assert "**Channel 1** [00:00:00] Hello" in "".join(markdown(talk, title="a.wav", channels=True))


def plain_text(token: Token) -> str:
    return "".join(child.content for child in token.children or [])


def test_control_characters_are_removed() -> None:
    assert title_of("https://example.com/a%00%07.wav") == "a.wav"
    (paragraph,) = paragraphs(listed(transcript(sentence("a\0b\x85c\x9f", 0, 1000))))
    assert paragraph.text == "ab c"


@pytest.mark.slow
@given(hostile_transcripts(), st.text())
def test_rendered_markdown_shows_exactly_the_text(transcripts: Transcripts, name: str) -> None:
    title = title_of(f"https://example.com/{name}")
    written = "".join(markdown(listed(*transcripts), title=title, channels=len(transcripts) > 1, speakers=False))
    tokens = MarkdownIt("commonmark").parse(written)
    assert {token.type for token in tokens} <= {
        "heading_open", "inline", "heading_close", "paragraph_open", "paragraph_close"
    }  # fmt: skip
    head, *rest = [plain_text(token) for token in tokens if token.type == "inline"]
    assert visible(head) == visible(title)
    found = [paragraph.text for paragraph in paragraphs(listed(*transcripts))]
    assert [visible(text.partition("] ")[2]) for text in rest] == [visible(text) for text in found]


def visible(text: str) -> str:
    return "".join(text.split())


@given(plausible_transcripts())
def test_every_sentence_is_in_exactly_one_paragraph_in_order(transcripts: Transcripts) -> None:
    spoken_ = listed(*transcripts)
    found = list(paragraphs(spoken_))
    assert sum(len(paragraph.texts) for paragraph in found) == len(spoken_)
    assert visible("".join(paragraph.text for paragraph in found)) == visible(
        "".join(item["text"] for _, item in spoken_)
    )
    assert all(width(paragraph.text) <= MAX_COLUMNS * 1.2 or len(paragraph.texts) == 1 for paragraph in found)


def test_a_long_recording_is_written_completely() -> None:
    words = [(time_ms, time_ms + 240, ["Hello ", "world, ", "这", "里", "是 "][time_ms % 5]) for time_ms in range(20)]
    talk = listed(transcript(*[spoken(*words)] * 7500))
    assert sum(len(piece) for piece in paragraphs_json(talk)) > 150_000
    assert sum(len(piece) for piece in markdown(talk, title="a.wav", channels=False)) > 150_000
