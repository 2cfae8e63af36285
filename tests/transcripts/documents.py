"""Documents for the tests: the vendor's samples, and strategies for plausible and for hostile ones."""

from collections.abc import Iterator, Sequence
from itertools import product
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


@st.composite
def _plausible_sentence(draw: st.DrawFn, begin: int) -> dict[str, Any]:
    words: list[dict[str, Any]] = []
    time = begin
    pairs = st.tuples(st.sampled_from(_WORDS), st.sampled_from(_PACES))
    for (text, punctuation), (pause, duration) in draw(st.lists(pairs, min_size=1, max_size=40)):
        start = time + pause
        time = start + duration
        words.append({"begin_time": start, "end_time": time, "text": text, "punctuation": punctuation})
    whole = "".join(word["text"] + word["punctuation"] for word in words).strip()
    drawn = sentence(whole, words[0]["begin_time"], time)
    if draw(st.booleans()):
        drawn["words"] = words
    if draw(st.booleans()):
        drawn["speaker_id"] = draw(st.integers(0, 2))
    return drawn


@st.composite
def plausible_transcripts(draw: st.DrawFn, max_channels: int = 2) -> list[dict[str, Any]]:
    """One or more channels as upstream sends them: sentences in order, words within their sentence."""
    channels = []
    for channel_id in range(draw(st.integers(1, max_channels))):
        sentences, time = [], 0
        for _ in range(draw(st.integers(0, 5))):
            drawn = draw(_plausible_sentence(time + draw(st.integers(0, 4000))))
            sentences.append(drawn)
            time = drawn["end_time"]
        channels.append(transcript(*sentences, channel_id=channel_id))
    return channels


_TIME = st.one_of(st.integers(-10, 10), st.integers(-(10**6), 10**8))
_MARKED = st.text("ab 中。，(「」)\"'<>&-\n\r\t\u3000\u2028\u0301👍\ufe0f\u200d🇨カー", max_size=60)
_TEXT = st.one_of(_MARKED, st.text(max_size=60))
_HOSTILE_WORD: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"text": _TEXT}, optional={"punctuation": _TEXT, "begin_time": _TIME, "end_time": _TIME}
)


@st.composite
def _hostile_sentence(draw: st.DrawFn) -> dict[str, Any]:
    """Times in any order, texts of any characters, words that may or may not spell the sentence."""
    drawn = sentence(draw(_TEXT), draw(_TIME), draw(_TIME))
    words = draw(st.none() | st.lists(_HOSTILE_WORD, max_size=12))
    if words is not None:
        drawn["words"] = words
        if draw(st.booleans()):
            drawn["text"] = "".join(word["text"] + word.get("punctuation", "") for word in words)
    if draw(st.booleans()):
        drawn["speaker_id"] = draw(st.integers(0, 3) | st.text(max_size=5) | st.none())
    return drawn


def hostile_transcripts() -> st.SearchStrategy[list[dict[str, Any]]]:
    channel = st.lists(_hostile_sentence(), max_size=6)
    return st.lists(channel, max_size=3).map(
        lambda channels: [transcript(*drawn, channel_id=index) for index, drawn in enumerate(channels)]
    )
