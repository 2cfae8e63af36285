from typing import Any

import pytest

from app.transcripts import text
from tests.transcripts.documents import parsed, sentence, transcript


def written(transcripts: list[dict[str, Any]], **options: Any) -> str:
    return "".join(text.text(transcripts, **options))


def test_channels_are_separated_by_newlines_and_empty_ones_skipped() -> None:
    channels = [transcript(sentence(text, 0, 1), channel_id=index) for index, text in enumerate(["你好。", "", "Hi."])]
    assert written(channels) == "你好。\nHi."


def test_one_channel_can_be_selected() -> None:
    channels = [transcript(sentence(text, 0, 1), channel_id=index) for index, text in enumerate(["你好。", "Hi."])]
    assert written(channels, channel_id=1) == "Hi."
    assert written(channels, channel_id=7) == ""


@pytest.mark.parametrize(
    ("texts", "joined"),
    [
        ([], ""),
        (["你好。", "我是"], "你好。我是"),
        (["Hello.", "World."], "Hello. World."),
        (["Hello. ", "World."], "Hello. World."),
        (["Hello.", "", "World."], "Hello. World."),
        (["저는", "개발자"], "저는 개발자"),
        (["你好。", "Hello.", "再见。"], "你好。Hello.再见。"),
    ],
)
def test_sentences_are_joined_with_a_space_only_in_scripts_that_use_spaces(texts: list[str], joined: str) -> None:
    assert text.join(texts) == joined


def test_control_characters_are_removed() -> None:
    talk = transcript(sentence("a\0b\r\nc\x1fd\te\x9f", 0, 1000, speaker_id="\x07A"))
    assert written([talk]) == "ab\nc d\te"
    assert written([talk], speakers=True) == "Speaker A: ab\nc d\te"


def test_speakers_have_one_line_for_each_change_of_speaker() -> None:
    transcripts = parsed("funasr_diarized_synthetic")["transcripts"]
    assert written(transcripts, speakers=True) == (
        "Speaker 0: Hello World，这里是阿里巴巴语音实验室。\nSpeaker 1: 你好，我是第二位说话人。"
    )


def test_consecutive_sentences_of_one_speaker_share_a_line() -> None:
    talk = transcript(
        sentence("One.", 0, 1000, speaker_id=0),
        sentence("Two.", 1000, 2000, speaker_id=0),
        sentence("Three.", 2000, 3000, speaker_id=1),
    )
    assert written([talk], speakers=True) == "Speaker 0: One. Two.\nSpeaker 1: Three."


def test_lines_of_two_channels_are_ordered_by_time_and_named() -> None:
    caller = transcript(sentence("喂？", 0, 500), sentence("好。", 2000, 2500), channel_id=0)
    agent = transcript(sentence("您好。", 600, 1500), channel_id=1)
    assert written([caller, agent], speakers=True) == "Channel 0: 喂？\nChannel 1: 您好。\nChannel 0: 好。"


def test_a_speaker_without_words_has_no_line_but_separates_others() -> None:
    talk = transcript(
        sentence("One.", 0, 1000, speaker_id=0),
        sentence("", 1000, 2000, speaker_id=1),
        sentence("", 2000, 3000, speaker_id=0),
        sentence("Two.", 3000, 4000, speaker_id=0),
        sentence("", 4000, 5000, speaker_id=0),
        sentence("Three.", 5000, 6000, speaker_id=0),
    )
    assert written([talk], speakers=True) == "Speaker 0: One.\nSpeaker 0: Two. Three."


def test_unknown_speakers_are_not_named() -> None:
    assert written([transcript(sentence("Hi.", 0, 1))], speakers=True) == "Hi."
