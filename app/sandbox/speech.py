"""Invented speech: the same sentences and times for the same URL, independent of the model family."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

_LINES = {
    "zh": (
        "你好， 欢迎 致电 客服 中心。",
        "请问 有 什么 可以 帮 您？",
        "我 想 查询 一下 昨天 的 订单。",
        "好的， 请 稍等， 我 马上 为 您 处理。",
        "Hello World， 这里是 阿里巴巴 语音 实验室。",
        "我们 用 Python 写 了 一个 小 程序。",
        "会议 将 在 下午 三点 开始。",
        "谢谢 您 的 来电， 再见。",
    ),
    "en": (
        "Good morning， and welcome to the meeting。",
        "Could you repeat the last number， please？",
        "The order was shipped on Tuesday。",
        "Thank you for calling， goodbye。",
    ),
}
_MARKS = "，。？"
_MS_PER_WORD = 300
_PAUSE = 2
"""Silence before each sentence, in words."""


@dataclass(frozen=True, slots=True)
class Word:
    begin_time: int
    end_time: int
    text: str
    mark: str
    """Full-width punctuation after the word, or an empty string."""

    @property
    def is_latin(self) -> bool:
        return self.text.isascii()


@dataclass(frozen=True, slots=True)
class Sentence:
    words: tuple[Word, ...]

    @property
    def begin_time(self) -> int:
        return self.words[0].begin_time

    @property
    def end_time(self) -> int:
        return self.words[-1].end_time


def default_duration_ms(url: str) -> int:
    """3 to 30 seconds, always the same for the same URL."""
    return 3_000 + _seed(url) % 27_000


def duration_of_words_ms(words: int) -> int:
    return words * _MS_PER_WORD


def speech(seed_text: str, duration_ms: int, *, language: str = "zh", words: int | None = None) -> list[Sentence]:
    """Sentences that fill `duration_ms` without exceeding it. With `words`, they have exactly that many words."""
    wanted = words or max(3, duration_ms // _MS_PER_WORD)
    lines = list(_lines(_seed(seed_text), language, wanted))
    units = sum(len(line) + _PAUSE for line in lines) + 1
    sentences = []
    unit = 0
    for line in lines:
        unit += _PAUSE
        sentences.append(Sentence(tuple(_timed(line, unit, duration_ms, units))))
        unit += len(line)
    return sentences


def _lines(seed: int, language: str, wanted: int) -> Iterator[list[str]]:
    pool = [line.split() for line in _LINES.get(language, _LINES["zh"])]
    while wanted > 0:
        line = pool[seed % len(pool)]
        if wanted < len(line):
            line = [*line[: wanted - 1], line[wanted - 1].rstrip(_MARKS) + "。"]
        yield line
        wanted -= len(line)
        seed += 1


def _timed(line: list[str], first_unit: int, duration_ms: int, units: int) -> Iterator[Word]:
    for unit, token in enumerate(line, first_unit):
        text = token.rstrip(_MARKS)
        yield Word(unit * duration_ms // units, (unit + 1) * duration_ms // units, text, token[len(text) :])


def _seed(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest())
