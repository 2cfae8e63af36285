from typing import Any

import pytest

from app.transcripts.captions import MIN_CUE_MS, CaptionOptions, Cue, srt, vtt
from app.transcripts.normalise import normalise
from tests.transcripts.documents import cues, parsed, sample, sentence, spoken, transcript


def captions(*transcripts: dict[str, Any], **options: Any) -> list[Cue]:
    return list(cues(transcripts, CaptionOptions(**options)))


def timed_lines(*transcripts: dict[str, Any], **options: Any) -> list[tuple[int, int, list[str]]]:
    return [(cue.begin_time, cue.end_time, cue.lines) for cue in captions(*transcripts, **options)]


def of_sample(name: str, family: str = "fun-asr", **options: Any) -> list[Cue]:
    document = normalise(sample(name), file_url="https://client.example/a.wav", family=family)
    return captions(*document.transcripts, **options)


def chinese(*words: str, begin: int = 0, each: int = 240) -> dict[str, Any]:
    return spoken(*((begin + index * each, begin + (index + 1) * each, word) for index, word in enumerate(words)))


@pytest.mark.parametrize(
    ("name", "times", "line"),
    [
        ("funasr_female2_seed", "00:00:00,760 --> 00:00:03,240", "Hello World，这里是阿里巴巴语音实验室。"),
        ("funasr_male2_seed", "00:00:00,680 --> 00:00:04,480", "Hello World，这里是阿里巴巴语音实验室。"),
        ("paraformer_female2_seed", "00:00:00,100 --> 00:00:03,820", "Hello word, 这里是阿里巴巴语音实验室。"),
        ("paraformer_male2_seed", "00:00:00,000 --> 00:00:04,720", "Hello world, 这里是阿里巴巴语音实验室。"),
    ],
)
def test_each_short_sample_is_one_caption(name: str, times: str, line: str) -> None:
    found = of_sample(name)
    assert "".join(srt(found)) == f"1\n{times}\n{line}\n\n"
    assert "".join(vtt(found)) == f"WEBVTT\n\n{times.replace(',', '.')}\n{line}\n"


@pytest.mark.slow
def test_sensevoice_is_captioned_without_its_tags_in_proportional_time() -> None:
    assert "".join(srt(of_sample("sensevoice_seed", "sensevoice"))) == (
        "1\n00:00:00,000 --> 00:00:02,927\nSenior staff, Principal Doris Jackson,\n\n"
        "2\n00:00:02,927 --> 00:00:07,060\nWakefield faculty, and of course,\nmy fellow classmates.\n\n"
        "3\n00:00:11,980 --> 00:00:15,244\nI am honored to have been chosen\nto speak before my classmates,\n\n"
        "4\n00:00:15,244 --> 00:00:17,630\nas well as the students\nacross America today.\n\n"
    )


def test_qwen_without_words_gets_proportional_times() -> None:
    found = of_sample("qwen3_filetrans_sentences_docs_shape", "qwen3-asr")
    assert [(cue.begin_time, cue.end_time) for cue in found] == [
        *((240, 4221), (4221, 6720), (12268, 15226), (15226, 17476)),
    ]


def test_an_empty_transcript_is_an_empty_srt_and_a_bare_header() -> None:
    assert "".join(srt(captions())) == ""
    assert "".join(vtt(captions())) == "WEBVTT\n"
    assert captions(transcript(sentence("  ", 0, 1000))) == []


def test_chinese_lines_are_measured_in_columns_and_end_after_a_comma() -> None:
    talk = transcript(chinese(*"今天我们来讨论一下语音识别服务，它把录音变成文字。"))
    assert [cue.lines for cue in captions(talk)] == [["今天我们来讨论一下语音识别服务，", "它把录音变成文字。"]]


def test_lines_do_not_end_inside_an_upstream_word_if_avoidable() -> None:
    words = transcript(chinese("我们", "都在", "阿里巴巴", "语音", "实验室", "工作"))
    characters = transcript(chinese(*"我们都在阿里巴巴语音实验室工作"))
    assert [cue.lines for cue in captions(words, max_chars_per_line=18)] == [["我们都在阿里巴巴", "语音实验室工作"]]
    assert [cue.lines for cue in captions(characters, max_chars_per_line=18)] == [
        ["我们都在阿里巴巴", "语音实验室工作"]
    ]


def test_a_caption_has_at_most_max_lines() -> None:
    talk = transcript(sentence("word " * 100, 0, 40_000))
    for lines in (1, 2, 3):
        assert max(len(cue.lines) for cue in captions(talk, max_lines=lines)) == lines


def test_a_long_sentence_is_divided_evenly_after_punctuation() -> None:
    text = "我们先说第一件事情，然后再说第二件事情，接着我们说第三件事情，最后才说第四件事情，因为它最重要。"
    assert [cue.lines for cue in captions(transcript(chinese(*text)))] == [
        ["我们先说第一件事情，然后再说第二件事情，"],
        ["接着我们说第三件事情，", "最后才说第四件事情，因为它最重要。"],
    ]


def test_a_caption_ends_after_a_sentence_or_clause_if_possible() -> None:
    parts = [
        "大家好，欢迎收看今天的节目。",
        "今天我们要跟大家聊的话题是医疗行业里面的应用，",
        "那么说到它，大家可能首先会想到语言模型。",
    ]
    talk = transcript(chinese(*"".join(parts), each=200))
    assert ["".join(cue.lines) for cue in captions(talk)] == parts


def test_a_silence_ends_a_caption() -> None:
    talk = transcript(spoken((0, 1000, "Well"), (1799, 2600, " then"), (3400, 4400, " goodbye")))
    assert timed_lines(talk) == [(0, 2600, ["Well then"]), (3400, 4400, ["goodbye"])]


def test_a_caption_stays_at_most_seven_seconds() -> None:
    talk = transcript(
        spoken((0, 9000, "Aaaah"), (9000, 12_000, " so"), (12_000, 15_900, " slow"), (15_900, 16_500, " today"))
    )
    assert timed_lines(talk) == [(0, 7000, ["Aaaah"]), (9000, 15_900, ["so slow"]), (15_900, 16_900, ["today"])]


def test_the_last_caption_stays_at_least_a_second() -> None:
    assert timed_lines(transcript(sentence("Yes.", 500, 600))) == [(500, 1500, ["Yes."])]


def test_fast_speech_stays_until_it_can_be_read() -> None:
    talk = transcript(sentence("a" * 40, 0, 1200), sentence("Next.", 5000, 6000))
    assert timed_lines(talk)[0] == (0, 2000, ["a" * 40])


def test_a_caption_ends_when_the_next_sentence_begins() -> None:
    talk = transcript(sentence("a" * 40, 0, 1200), sentence("Next.", 1500, 3000))
    assert timed_lines(talk)[0] == (0, 1500, ["a" * 40])


def test_a_sentence_too_short_to_read_shares_a_caption_with_the_next() -> None:
    talk = transcript(sentence("嗯。", 0, 300), sentence("我们开始吧。", 300, 2000), sentence("好的。", 2000, 4000))
    assert timed_lines(talk) == [(0, 2000, ["嗯。我们开始吧。"]), (2000, 4000, ["好的。"])]


def test_sentences_in_one_caption_keep_the_space_between_them() -> None:
    talk = transcript(sentence("Oh.", 0, 300), sentence("I see.", 300, 2000))
    assert timed_lines(talk) == [(0, 2000, ["Oh. I see."])]


def test_a_change_of_speaker_ends_a_caption() -> None:
    talk = transcript(sentence("Oh.", 0, 300, speaker_id=0), sentence("I see.", 300, 2000, speaker_id=1))
    assert [cue.lines for cue in captions(talk)] == [["Oh."], ["I see."]]


def test_speakers_are_named_only_on_request() -> None:
    assert {cue.speaker for cue in of_sample("funasr_diarized_synthetic")} == {None}
    found = of_sample("funasr_diarized_synthetic", speakers=True)
    assert "".join(srt(found)) == (
        "1\n00:00:00,760 --> 00:00:03,240\nSpeaker 0: Hello World，\n这里是阿里巴巴语音实验室。\n\n"
        "2\n00:00:05,000 --> 00:00:07,400\nSpeaker 1: 你好，我是第二位说话人。\n\n"
    )
    assert "".join(vtt(found)) == (
        "WEBVTT\n\n00:00:00.760 --> 00:00:03.240\n<v Speaker 0>Hello World，\n这里是阿里巴巴语音实验室。\n"
        "\n00:00:05.000 --> 00:00:07.400\n<v Speaker 1>你好，我是第二位说话人。\n"
    )


def test_simultaneous_captions_of_two_channels_divide_the_time() -> None:
    found = of_sample("funasr_two_channels_synthetic", speakers=True)
    assert [(cue.begin_time, cue.end_time, cue.speaker, cue.channel_id) for cue in found] == [
        (760, 2710, "Channel 0", 0),
        (2710, 4660, "Channel 1", 1),
    ]


def test_two_channels_are_interleaved_by_time() -> None:
    caller = transcript(sentence("喂，你好吗？", 0, 2000), sentence("好的。", 5000, 6000), channel_id=0)
    agent = transcript(sentence("您好。", 2500, 4000), channel_id=1)
    assert [cue.channel_id for cue in captions(caller, agent)] == [0, 1, 0]
    assert [cue.channel_id for cue in captions(caller, agent, channel_id=1)] == [1]
    assert captions(caller, agent, channel_id=9) == []


def test_an_interrupted_caption_ends_for_the_other_channel() -> None:
    long = transcript(sentence("I will now explain everything.", 0, 6000), channel_id=0)
    short = transcript(sentence("Please do.", 3000, 4500), channel_id=1)
    assert timed_lines(long, short) == [
        (0, 3000, ["I will now explain everything."]),
        (3000, 4500, ["Please do."]),
    ]


def test_a_delayed_caption_stays_long_enough_to_read() -> None:
    long = transcript(sentence("I will now explain everything.", 0, 3000), channel_id=0)
    short = transcript(sentence("Oh.", 200, 600), sentence("I do see.", 2800, 3600), channel_id=1)
    assert timed_lines(long, short) == [
        (0, 2727, ["I will now explain everything."]),
        (2727, 3227, ["Oh."]),
        (3227, 4227, ["I do see."]),
    ]


@pytest.mark.parametrize(
    ("texts", "end", "times"),
    [
        (["Yes.", "No."], 1300, [(1000, 2000), (2000, 3000)]),
        (["Yes.", "No."], 1001, [(1000, 2000), (2000, 3000)]),
        (["Yes.", "No.", "Sure, go on."], 1300, [(1000, 1300), (1300, 1700), (1700, 2700)]),
        (["Yes.", "No.", "Sure.", "Oh."], 1300, [(1000, 1300), (1300, 1600), (1600, 2300), (2300, 3300)]),
    ],
)
def test_overlapping_captions_divide_the_silence_after_them(
    texts: list[str], end: int, times: list[tuple[int, int]]
) -> None:
    channels = [transcript(sentence(text, 1000, end), channel_id=index) for index, text in enumerate(texts)]
    assert [(cue.begin_time, cue.end_time) for cue in captions(*channels)] == times


def test_a_quick_reply_leaves_time_to_read_the_question() -> None:
    channels = transcript(sentence("Yes?", 0, 100)), transcript(sentence("No.", 150, 400), channel_id=1)
    assert timed_lines(*channels) == [(0, 300, ["Yes?"]), (300, 1300, ["No."])]


def test_a_caption_delayed_for_long_is_visible() -> None:
    long = transcript(sentence("I will now explain everything. " * 4, 0, 6000), channel_id=0)
    short = [transcript(sentence("Oh.", 2000 + 300 * index, 2200 + 300 * index), channel_id=index) for index in (1, 2)]
    assert min(cue.end_time - cue.begin_time for cue in captions(long, *short)) >= MIN_CUE_MS


@pytest.mark.parametrize("channels", [3, 4])
def test_no_caption_is_too_short_if_many_channels_overlap(channels: int) -> None:
    talk = [
        transcript(
            *[sentence("word " * 14, 3000 * turn + 100 * index, 3000 * turn + 3000) for turn in range(6)],
            channel_id=index,
        )
        for index in range(channels)
    ]
    found = captions(*talk)
    assert min(cue.end_time - cue.begin_time for cue in found) >= MIN_CUE_MS
    assert found[-1].begin_time <= 18_000 + 1000


def test_spaces_come_from_the_sentence_if_its_words_have_none() -> None:
    words = [
        {"begin_time": index * 500, "end_time": index * 500 + 500, "text": text}
        for index, text in enumerate(("How", "are", "you"))
    ]
    talk = transcript(sentence("How are you", 0, 1500, words=words))
    assert timed_lines(talk) == [(0, 1500, ["How are you"])]


def test_words_that_do_not_spell_the_sentence_are_ignored() -> None:
    words = [{"begin_time": 0, "end_time": 1500, "text": "twenty", "punctuation": ""}]
    assert timed_lines(transcript(sentence("20", 0, 1500, words=words))) == [(0, 1500, ["20"])]


def test_markup_in_the_text_is_escaped_in_vtt() -> None:
    talk = transcript(sentence("if a<b && b>c --> stop", 0, 2000, speaker_id="<i>&"))
    assert "".join(vtt(captions(talk, speakers=True))) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\n<v Speaker &lt;i&gt;&amp;>if a&lt;b &amp;&amp; b&gt;c --&gt; stop\n"
    )


def test_an_arrow_in_the_text_is_replaced_in_srt() -> None:
    assert "".join(srt(captions(transcript(sentence("a --> b", 0, 2000))))).count("-->") == 1


def test_line_ends_in_the_text_become_spaces() -> None:
    assert timed_lines(transcript(sentence("one\n\ntwo\r\nthree\u2028four", 0, 2000))) == [
        (0, 2000, ["one two three four"])
    ]


def test_control_characters_are_removed() -> None:
    words = spoken((0, 1000, "on\0e"), (1000, 2000, " t\x1b\x9fwo"), speaker_id="\x07A")
    assert captions(transcript(words), speakers=True) == [Cue(0, 2000, ["one two"], "Speaker A", 0)]
    assert timed_lines(transcript(sentence("one\x85two\x0bthree", 0, 2000))) == [(0, 2000, ["one two three"])]


@pytest.mark.parametrize("text", ["\0", "\u200b", "\u200b \ufeff", "\x1b\u0301"])
def test_text_without_width_makes_no_caption(text: str) -> None:
    assert captions(transcript(sentence(text, 0, 1000))) == []


def test_text_after_a_joiner_is_visible() -> None:
    assert timed_lines(transcript(sentence("\u200d<", 0, 1000))) == [(0, 1000, ["\u200d<"])]


def test_hours_beyond_two_digits_are_written_out() -> None:
    late = Cue(360_000_000, 360_001_000, ["Late."], None, 0)
    assert next(srt([late])).splitlines()[1] == "100:00:00,000 --> 100:00:01,000"


def test_captions_are_generated_one_by_one() -> None:
    talk = transcript(*[sentence("Good.", index * 2000, index * 2000 + 1000) for index in range(3)])
    pieces = srt(cues([talk], CaptionOptions()))
    assert next(pieces) == "1\n00:00:00,000 --> 00:00:01,000\nGood.\n\n"


@pytest.mark.slow
@pytest.mark.parametrize("per_sentence", [20, 150_000])
def test_150_000_words_are_captioned(per_sentence: int) -> None:
    texts = ["Hello ", "world, ", "这", "里", "是 "]
    words = [(time_ms, time_ms + 240, texts[time_ms % 5]) for time_ms in range(0, 241 * per_sentence, 241)]
    talk = transcript(*[spoken(*words)] * (150_000 // per_sentence))
    assert sum(len(piece) for piece in srt(cues([talk], CaptionOptions()))) > 150_000


def test_captions_contain_all_words_of_the_samples() -> None:
    found = of_sample("paraformer_female2_seed", max_chars_per_line=10, max_lines=1)
    assert [line for cue in found for line in cue.lines] == ["Hello", "word,", "这里是阿", "里巴巴语音", "实验室。"]
    assert parsed("paraformer_female2_seed")["transcripts"][0]["text"].replace(" ", "") == "".join(
        line for cue in found for line in cue.lines
    )
