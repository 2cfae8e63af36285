"""Results of twelve hours of speech in Chinese and English: 150,000 random words, the same in each run."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from bench.synthetic_speech import WORDS as ENGLISH_WORDS
from bench.synthetic_speech import cumulative_zipf

WORDS = 150_000
_CHARACTERS = (
    "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会"
    "可主发年动同工也能下过子说产种面而方后多定行学法所民得经"
)
_SECOND = ["", "", *"语音识别今天会议问题项目客户时间需要"]
_PAUSES_MS = (0, 0, 0, 40, 120, 300)


@dataclass(frozen=True, slots=True)
class Language:
    """Words with the cumulative weights of their frequencies, and the marks and the space that Fun-ASR sends."""

    words: Sequence[str]
    weights: Sequence[float]
    comma: str
    stop: str
    space: str


_CHINESE_WORDS = [first + second for first in _CHARACTERS for second in _SECOND]
CHINESE = Language(_CHINESE_WORDS, range(1, len(_CHINESE_WORDS) + 1), "，", "。", "")
ENGLISH = Language(ENGLISH_WORDS, cumulative_zipf(len(ENGLISH_WORDS)), ",", ".", " ")


def recording(words: int = WORDS, language: Language = CHINESE) -> bytes:
    """The result file of DashScope with one channel: 14 MB for 150,000 words."""
    drawn = random.Random(1)  # noqa: S311 - not a secret
    sentences: list[dict[str, Any]] = []
    time_ms, said = 0, 0
    while said < words:
        spoken = _words(drawn, language, time_ms, min(drawn.randint(8, 45), words - said))
        said += len(spoken)
        time_ms = spoken[-1]["end_time"]
        sentences.append(
            {
                "begin_time": spoken[0]["begin_time"],
                "end_time": time_ms,
                "text": "".join(word["text"] + word["punctuation"] for word in spoken).strip(),
                "sentence_id": len(sentences) + 1,
                "speaker_id": drawn.randint(0, 3),
                "words": spoken,
            }
        )
        time_ms += drawn.choice((200, 500, 1500))
    transcript = {
        "channel_id": 0,
        "content_duration_in_milliseconds": time_ms,
        "text": language.space.join(sentence["text"] for sentence in sentences),
        "sentences": sentences,
    }
    properties = {
        "audio_format": "pcm_s16le",
        "channels": [0],
        "original_sampling_rate": 16000,
        "original_duration_in_milliseconds": time_ms,
    }
    return orjson.dumps(
        {"file_url": "https://example.com/day.wav", "properties": properties, "transcripts": [transcript]}
    )


def _words(drawn: random.Random, language: Language, time_ms: int, count: int) -> list[dict[str, Any]]:
    words = []
    for number in range(count):
        begin = time_ms + drawn.choice(_PAUSES_MS)
        time_ms = begin + drawn.randint(80, 450)
        mark = language.stop if number == count - 1 else language.comma if drawn.random() < 0.12 else ""
        word = drawn.choices(language.words, cum_weights=language.weights)[0]
        words.append({"begin_time": begin, "end_time": time_ms, "text": language.space + word, "punctuation": mark})
    return words
