"""Synthetic Chinese and English speech with the word frequencies of natural language and planted phrases."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import orjson

COMMON = (
    "的一是了我不人在他有这个上们来到时大地为子中你说生国年着就那和要她出也得里后自以会家可下而过天去能对小多然于心学"
)
_OTHERS = [chr(code) for code in range(0x4E00, 0x5E00) if chr(code) not in COMMON]
CHARACTERS = COMMON + "".join(_OTHERS[:3500])
# Characters that occur only in planted phrases.
RARE = [chr(code) for code in range(0x9000, 0x9400)]
_COMMON_WORDS = [
    "the",
    "of",
    "and",
    "to",
    "a",
    "in",
    "is",
    "it",
    "you",
    "that",
    "he",
    "was",
    "for",
    "on",
    "are",
    "with",
]


def _made_up_words(count: int) -> list[str]:
    letters = random.Random(1).choices("etaoinshrdlucmfwypvbgk", k=6 * count)  # noqa: S311 - not a secret
    return ["".join(letters[at : at + 6]) for at in range(0, len(letters), 6)]


WORDS = _COMMON_WORDS + _made_up_words(4000)


def cumulative_zipf(count: int) -> list[float]:
    """Cumulative weights: the n-th item is 1/n times as frequent as the first."""
    return [*accumulate(1 / (place + 1) for place in range(count))]


@dataclass(frozen=True)
class Speech:
    """The sentences of a transcript, each one second long."""

    sentences: Sequence[str]

    @cached_property
    def text(self) -> str:
        return "\n".join(self.sentences)

    def document(self, file_url: str) -> bytes:
        """The result of Fun-ASR, with a word for every two characters."""
        timed = [_timed(number * 1000, text) for number, text in enumerate(self.sentences)]
        channel = {"channel_id": 0, "text": "".join(self.sentences), "sentences": timed}
        properties = {"original_duration_in_milliseconds": 1000 * len(timed)}
        return orjson.dumps({"file_url": file_url, "properties": properties, "transcripts": [channel]})


class Speaker:
    """Generates the same speech in each run."""

    def __init__(self, seed: int = 7) -> None:
        self._random = random.Random(seed)  # noqa: S311 - not a secret
        self._characters = cumulative_zipf(len(CHARACTERS))
        self._words = cumulative_zipf(len(WORDS))

    def speech(self, characters: int, planted: Sequence[str] = ()) -> Speech:
        sentences: list[str] = []
        length = 0
        while length < characters:
            sentences.append(self._sentence())
            length += len(sentences[-1])
        for phrase in planted:
            place = self._random.randrange(len(sentences))
            sentences[place] = self._with(sentences[place], phrase)
        return Speech(sentences)

    def _sentence(self) -> str:
        if self._random.random() < 0.2:
            return " ".join(self.words(self._random.randint(4, 12))) + "."
        clauses = [self.characters(self._random.randint(3, 12)) for _ in range(self._random.randint(1, 3))]
        return "，".join(clauses) + self._random.choice("。。。？")

    def characters(self, count: int) -> str:
        return "".join(self._random.choices(CHARACTERS, cum_weights=self._characters, k=count))

    def words(self, count: int) -> list[str]:
        return self._random.choices(WORDS, cum_weights=self._words, k=count)

    def _with(self, sentence: str, phrase: str) -> str:
        if not phrase.isascii():
            place = self._random.randrange(len(sentence))
            return sentence[:place] + phrase + sentence[place:]
        words = sentence.split(" ")
        words.insert(self._random.randrange(len(words) + 1), phrase)
        return " ".join(words)


def _timed(begin: int, text: str) -> dict[str, Any]:
    pieces = [text[at : at + 2] for at in range(0, len(text), 2)]
    word_ms = 900 // len(pieces)
    words = [
        {
            "begin_time": begin + at * word_ms,
            "end_time": begin + (at + 1) * word_ms,
            "text": piece,
            "punctuation": "",
        }
        for at, piece in enumerate(pieces)
    ]
    return {
        "begin_time": begin,
        "end_time": begin + 900,
        "text": text,
        "sentence_id": begin // 1000 + 1,
        "words": words,
    }
