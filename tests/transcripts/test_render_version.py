"""The output of a render version never changes: a client with the old output would get a 304 for the new one."""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest

from app.transcripts.caption_options import CaptionOptions, CaptionProfile, SpeakerStyle, caption_options
from app.transcripts.captions import srt, text, ttml, vtt
from app.transcripts.normalise import normalise
from app.transcripts.responses import RENDER_VERSION
from tests.transcripts.documents import cues

# Words as the model families send them: in Chinese, with a space before or after, of several scripts, and odd ones.
WORDS = {
    "chinese": ["的", "我们", "今天", "语音识别", "阿里巴巴", "第二", "中华人民共和国成立了"],
    "space before": [" a", " World", " considerable", " don't", " e.g.", " Mr.", " U.S.", " Straße", " привет"],
    "space after": ["a ", "Hello ", "well-known ", "twenty ", "so "],
    "mixed": ["我们", " iPhone", "手机", " API ", "3", "点", "5G", "网络"],
    "scripts": ["これ", "テスト", "ーゃ", " 안녕하세요", "สวัสดี", "ครับ", " مرحبا", " नमस्ते", "ខ្ញុំ", "མི་"],
    "odd": [
        "<b>",
        "-->",
        "{\\an8}",
        "12:30:15.5",
        "\xa0",
        "\u3000",
        "e\u0301",
        "👍🏽",
        "🇨🇳",
        "“",
        "”",
        "「",
        "",
        "w" * 90,
    ],
}
MARKS = ["", "", "", "", "，", "。", "？", ", ", ". ", "：", "……", "。”", "，“"]
PAUSES_MS = [0, 0, 0, 40, 300, 799, 800, 2500, -200]

# Of the corpus below, rendered in each form. After an intended change of the output raise RENDER_VERSION, and write
# the new version and its digest here.
DIGEST = (5, "ded5758b24dbb3427d8daf346e0609c3e96a5d6763225dea143f94821f641384")


@pytest.mark.slow
def test_the_output_of_a_render_version_stays_the_same() -> None:
    digest = hashlib.sha256()
    drawn = random.Random(1)
    for number in range(200):
        transcripts = _document(drawn)
        for options in _options(drawn, number):
            found = list(cues(transcripts, options))
            for form in (srt(found), vtt(found), ttml(found), text(found, blank_lines=True)):
                digest.update("".join(form).encode())
    assert (RENDER_VERSION, digest.hexdigest()) == DIGEST


def _options(drawn: random.Random, number: int) -> Iterator[CaptionOptions]:
    """The defaults, a profile, a speaker style, and lines of any length."""
    profile = [None, *CaptionProfile][number % 4]
    yield caption_options(profile)
    yield replace(caption_options(profile), speakers=True, speaker_style=drawn.choice(list(SpeakerStyle)))
    limits = caption_options(
        None, max_chars_per_line=drawn.choice([4, 9, 19, 20, 31, 80]), max_lines=drawn.randint(1, 3)
    )
    yield replace(limits, speakers=drawn.random() < 0.5, channel_id=drawn.choice([None, 0]), audio_end_ms=60_000)


def _document(drawn: random.Random) -> Sequence[dict[str, Any]]:
    kinds = drawn.choice([["chinese"], ["space before"], ["space after"], ["mixed"], ["chinese", "odd"], list(WORDS)])
    channels = [_channel(drawn, kinds, channel_id) for channel_id in range(drawn.choice([1, 1, 2, 3]))]
    family = drawn.choice(["fun-asr", "sensevoice"])
    return normalise(orjson.dumps({"transcripts": channels}), file_url="u", family=family).transcripts


def _channel(drawn: random.Random, kinds: list[str], channel_id: int) -> dict[str, Any]:
    sentences: list[dict[str, Any]] = []
    time_ms = drawn.choice([0, 700, 36_000_000])
    for _ in range(drawn.randint(0, 8)):
        sentences.append(_sentence(drawn, kinds, time_ms))
        time_ms = sentences[-1]["end_time"] + drawn.choice([0, 100, 900, 4000])
    return {"channel_id": channel_id, "sentences": sentences}


def _sentence(drawn: random.Random, kinds: list[str], begin_ms: int) -> dict[str, Any]:
    """Its words are missing, lack times, overlap, or differ from the text in some sentences."""
    time_ms = begin_ms
    words: list[dict[str, Any]] = []
    for _ in range(drawn.choice([0, 1, 2, 5, 12, 30])):
        begin = max(0, time_ms + drawn.choice(PAUSES_MS))
        time_ms = begin + drawn.randint(0, 900)
        word = {"begin_time": begin, "end_time": time_ms, "text": drawn.choice(WORDS[drawn.choice(kinds)])}
        words.append({**word, "punctuation": drawn.choice(MARKS)})
    said = "".join(word["text"] + word["punctuation"] for word in words if drawn.random() > 0.01)
    if drawn.random() < 0.1 and words:
        del drawn.choice(words)[drawn.choice(["begin_time", "end_time", "punctuation"])]
    sentence: dict[str, Any] = {
        "begin_time": begin_ms,
        "end_time": max(begin_ms, time_ms),
        "text": drawn.choice([said.strip(), said]),
    }
    if drawn.random() < 0.85:
        sentence["words"] = words
    if drawn.random() < 0.7:
        sentence["speaker_id"] = drawn.choice([0, 1, "Anna"])
    return sentence
