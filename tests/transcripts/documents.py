"""Documents for the tests: the vendor's samples, and strategies for plausible and for hostile ones."""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice, product
from pathlib import Path
from typing import Any

import msgspec
import orjson
from hypothesis import strategies as st

from app.transcripts import captions
from app.transcripts.sentences import Sentence

SAMPLES = Path(__file__).parents[1] / "data" / "dashscope"
# Result documents of shapes that users reported.
FIELD = Path(__file__).parents[1] / "data" / "field"

# Words and their punctuation in Fun-ASR's spacing (a space before), Paraformer's (a space after), and Chinese.
_WORDS = [
    *product(["这", "里", "是", "我们", "今天", "语音", "实验室", "阿里巴巴"], ["", "", "", "，", "。", "？"]),
    *product(
        [" a", " is", " World", " café", " faculty", " considerable", " 안녕하세요", " 저는"], ["", "", "", "，", "。"]
    ),
    *product(["a ", "Hello ", "classmates ", "recognition "], [""]),
    *product(["so", "world", "transcripts"], [", ", ". ", "? "]),
]
_PACES = [*product([0, 0, 0, 40, 300, 1200], [60, 120, 240, 500, 900])]


def sample(name: str) -> bytes:
    return (SAMPLES / f"result_{name}.json").read_bytes()


def parsed(name: str) -> dict[str, Any]:
    document: dict[str, Any] = orjson.loads(sample(name))
    return document


def transcript(*sentences: dict[str, Any], channel_id: int = 0) -> dict[str, Any]:
    return {"channel_id": channel_id, "text": "".join(item["text"] for item in sentences), "sentences": [*sentences]}


def sentence(text: str, begin_time: int, end_time: int, **others: Any) -> dict[str, Any]:
    return {"begin_time": begin_time, "end_time": end_time, "text": text, **others}


def spoken(*words: tuple[int, int, str], **others: Any) -> dict[str, Any]:
    """A sentence of words given as begin, end and text."""
    timed = [{"begin_time": begin, "end_time": end, "text": text, "punctuation": ""} for begin, end, text in words]
    whole = "".join(text for _, _, text in words).strip()
    return sentence(whole, words[0][0], words[-1][1], words=timed, **others)


def as_read(said: dict[str, Any]) -> Sentence:
    """A sentence in the form in which captions read it from a stored document."""
    return msgspec.convert(said, Sentence)


def cues(transcripts: Sequence[dict[str, Any]], options: captions.CaptionOptions) -> Iterator[captions.Cue]:
    """The captions of a normalised document as they are once it is stored."""
    stored = [{**each, "sentences": [as_read(said) for said in each["sentences"]]} for each in transcripts]
    return captions.cues(stored, options)


# One draw of bytes decides all numbers of a sentence. A draw for each of them takes several times as long.
_MAX_WORDS = 40
_WORD_INDEXES = st.binary(min_size=1, max_size=_MAX_WORDS)
_PLAUSIBLE_SHAPE = st.binary(min_size=2 + _MAX_WORDS, max_size=2 + _MAX_WORDS)
_PAUSE = st.integers(0, 4000)
_SENTENCES = st.integers(0, 5)


def _plausible_sentence(draw: st.DrawFn, begin: int) -> dict[str, Any]:
    words: list[dict[str, Any]] = []
    time = begin
    timed, speaks, *paces = draw(_PLAUSIBLE_SHAPE)
    for index, pace in zip(draw(_WORD_INDEXES), paces, strict=False):
        text, punctuation = _WORDS[index % len(_WORDS)]
        pause, duration = _PACES[pace % len(_PACES)]
        start = time + pause
        time = start + duration
        words.append({"begin_time": start, "end_time": time, "text": text, "punctuation": punctuation})
    whole = "".join(word["text"] + word["punctuation"] for word in words).strip()
    drawn = sentence(whole, words[0]["begin_time"], time)
    if timed % 2:
        drawn["words"] = words
    if speaks % 2:
        drawn["speaker_id"] = speaks // 2 % 3
    return drawn


@st.composite
def plausible_transcripts(draw: st.DrawFn, max_channels: int = 2) -> list[dict[str, Any]]:
    """One or more channels as upstream sends them: sentences in order, words within their sentence."""
    channels = []
    for channel_id in range(draw(st.integers(1, max_channels))):
        sentences, time = [], 0
        for _ in range(draw(_SENTENCES)):
            drawn = _plausible_sentence(draw, time + draw(_PAUSE))
            sentences.append(drawn)
            time = drawn["end_time"]
        channels.append(transcript(*sentences, channel_id=channel_id))
    return channels


_TIME = st.one_of(st.integers(-10, 10), st.integers(-(10**6), 10**8))
_MARKS = "ab 中。，(「」)\"'<>&-\n\r\t\u3000\u2028\u0301👍\ufe0f\u200d🇨カー"
_TEXT = st.one_of(st.text(_MARKS, max_size=60), st.text(max_size=60))
_SPEAKER = st.integers(0, 3) | st.text(max_size=5) | st.none()
_MAX_HOSTILE_WORDS = 12
_WORD_BYTES = 7
_HOSTILE_SHAPE_BYTES = 2 + _MAX_HOSTILE_WORDS * _WORD_BYTES
_HOSTILE_SHAPE = st.binary(min_size=_HOSTILE_SHAPE_BYTES, max_size=_HOSTILE_SHAPE_BYTES)
# Lengths of the words' texts. Most are short, as those that Hypothesis draws.
_LENGTHS = (0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 5, 5, 6, 6, 7, 8, 9, 10, 12, 20, 40)


@st.composite
def _hostile_sentence(draw: st.DrawFn) -> dict[str, Any]:
    """Times in any order, texts of any characters, words that may or may not spell the sentence."""
    drawn = sentence(draw(_TEXT), draw(_TIME), draw(_TIME))
    form, count, *shape = draw(_HOSTILE_SHAPE)
    if form & 1:
        words = _hostile_words(draw, shape[: count % (_MAX_HOSTILE_WORDS + 1) * _WORD_BYTES], marked=bool(form & 2))
        drawn["words"] = words
        if form & 4:
            drawn["text"] = "".join(word["text"] + word.get("punctuation", "") for word in words)
    if form & 8:
        drawn["speaker_id"] = draw(_SPEAKER)
    return drawn


def _hostile_words(draw: st.DrawFn, shape: list[int], *, marked: bool) -> list[dict[str, Any]]:
    """Words with or without punctuation and times. Their texts are pieces of one drawn text."""
    forms = [shape[at : at + _WORD_BYTES] for at in range(0, len(shape), _WORD_BYTES)]
    lengths = [[_LENGTHS[each % len(_LENGTHS)] for each in form[1:3]] for form in forms]
    left = iter(draw(_text_of(sum(map(sum, lengths)), marked=marked)))
    words = []
    for (form, _, _, *times), (text, punctuation) in zip(forms, lengths, strict=True):
        word: dict[str, Any] = {"text": "".join(islice(left, text))}
        if form & 1:
            word["punctuation"] = "".join(islice(left, punctuation))
        if form & 2:
            word["begin_time"] = _hostile_time(*times[:2])
        if form & 4:
            word["end_time"] = _hostile_time(*times[2:])
        words.append(word)
    return words


@cache
def _text_of(length: int, *, marked: bool) -> st.SearchStrategy[str]:
    return st.text(_MARKS if marked else st.characters(codec="utf-8"), min_size=length, max_size=length)


def _hostile_time(high: int, low: int) -> int:
    """Between -10 and 10, where times are equal or nearly so, or anywhere between -10**6 and 10**8."""
    return low % 21 - 10 if high % 2 else (high * 256 + low) * 1541 - 10**6


def hostile_transcripts() -> st.SearchStrategy[list[dict[str, Any]]]:
    channel = st.lists(_hostile_sentence(), max_size=6)
    return st.lists(channel, max_size=3).map(
        lambda channels: [transcript(*drawn, channel_id=index) for index, drawn in enumerate(channels)]
    )
