"""Result documents: recorded ones byte for byte, invented ones in the format of their family."""

import hashlib
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.sandbox.documents import fun_asr_words, paraformer_words
from app.sandbox.speech import Word, speech
from tests.sandbox.conftest import Upstream

URL = "https://example.com/a.wav"
SAMPLES = "https://dashscope.oss-cn-beijing.aliyuncs.com/samples/audio"
QWEN3 = "qwen3-asr-flash-filetrans"


def digest(document: dict[str, Any]) -> str:
    text = json.dumps(document, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sentences_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [sentence for transcript in document["transcripts"] for sentence in transcript["sentences"]]


async def qwen3_result(upstream: Upstream, url: str, **parameters: Any) -> dict[str, Any]:
    submitted = await upstream.post({"model": QWEN3, "input": {"file_url": url}, "parameters": parameters})
    response = await upstream.finished(submitted.json()["output"]["task_id"])
    document: dict[str, Any] = (await upstream.http.get(response["output"]["result"]["transcription_url"])).json()
    return document


@pytest.mark.parametrize(
    ("model", "path", "expected"),
    [
        ("fun-asr", "paraformer/hello_world_female2.wav", "ba79354137cf18b9"),
        ("fun-asr-mtl", "paraformer/hello_world_male2.wav", "9645e18eb512534c"),
        ("paraformer-v2", "paraformer/hello_world_female2.wav", "92eb392253505204"),
        ("paraformer-8k-v2", "paraformer/hello_world_male2.wav", "e8098401eb44fd3f"),
        ("sensevoice-v1", "sensevoice/rich_text_example_1.wav", "858df96536f5e7e6"),
    ],
)
async def test_sample_recordings_give_the_documented_results(
    upstream: Upstream, model: str, path: str, expected: str
) -> None:
    # Digests of the JSON in the founding document, which the recordings must equal.
    assert digest(await upstream.result(f"{SAMPLES}/{path}", model=model)) == expected


async def test_sample_recordings_are_billed_as_documented(upstream: Upstream) -> None:
    urls = [f"{SAMPLES}/paraformer/hello_world_{voice}2.wav" for voice in ("female", "male")]
    response = await upstream.finished(await upstream.submit(*urls, model="paraformer-v2"))
    assert response["usage"] == {"duration": 9}


async def test_same_url_gives_the_same_result(upstream: Upstream) -> None:
    first = await upstream.result(URL)
    assert await upstream.result(URL) == first
    other = await upstream.result("https://example.com/b.wav")
    assert other["transcripts"] != first["transcripts"]


@pytest.mark.parametrize("model", ["fun-asr", "paraformer-v2"])
async def test_text_consists_of_its_sentences_and_words(upstream: Upstream, model: str) -> None:
    document = await upstream.result(f"{URL}?sandbox=seconds:60", model=model)
    assert set(document) == {"file_url", "properties", "transcripts"}
    assert document["properties"]["original_duration_in_milliseconds"] == 60_000
    (transcript,) = document["transcripts"]
    assert transcript["text"] == "".join(sentence["text"] for sentence in transcript["sentences"])
    for number, sentence in enumerate(transcript["sentences"], 1):
        assert list(sentence) == ["begin_time", "end_time", "text", "sentence_id", "words"]
        assert sentence["sentence_id"] == number
        assert sentence["text"] == "".join(word["text"] + word["punctuation"] for word in sentence["words"])
        assert sentence["begin_time"] == sentence["words"][0]["begin_time"]
        assert sentence["end_time"] == sentence["words"][-1]["end_time"]


def words(line: str) -> list[Word]:
    tokens = line.split()
    texts = [token.rstrip("，。") for token in tokens]
    return [Word(0, 100, text, token[len(text) :]) for text, token in zip(texts, tokens, strict=True)]


def test_fun_asr_has_chinese_words_and_a_space_before_latin_words() -> None:
    shaped = fun_asr_words(words("Hello World， 这里是 阿里巴巴。"))
    assert [(word["text"], word["punctuation"]) for word in shaped] == [
        ("Hello", ""),
        (" World", "，"),
        ("这里是", ""),
        ("阿里巴巴", "。"),
    ]


def test_paraformer_has_chinese_characters_and_a_space_after_latin_words() -> None:
    shaped = paraformer_words(words("Hello world， 这里是。"))
    assert [(word["text"], word["punctuation"]) for word in shaped] == [
        ("Hello ", ""),
        ("world", ", "),
        ("这", ""),
        ("里", ""),
        ("是", "。"),
    ]


async def test_sensevoice_has_tags_and_no_words(upstream: Upstream) -> None:
    document = await upstream.result(f"{URL}?sandbox=seconds:30", model="sensevoice-v1")
    sentences = sentences_of(document)
    assert all(set(sentence) == {"begin_time", "end_time", "text"} for sentence in sentences)
    assert all(sentence["text"].startswith("<|Speech|> ") for sentence in sentences)
    assert sentences[0]["text"].endswith("<|/Speech|> <|NEUTRAL|>")
    assert document["transcripts"][0]["text"] == "".join(sentence["text"] for sentence in sentences)


async def test_qwen3_has_audio_info_and_words_on_request(upstream: Upstream) -> None:
    document = await qwen3_result(upstream, "https://example.com/a.mp3?sandbox=seconds:10")
    assert document["audio_info"] == {"format": "mp3", "sample_rate": 16000}
    assert set(document["transcripts"][0]) == {"channel_id", "text", "sentences"}
    shape = {"sentence_id", "begin_time", "end_time", "language", "emotion", "text"}
    assert all(set(sentence) == shape for sentence in sentences_of(document))
    assert sentences_of(document)[0]["sentence_id"] == 0

    document = await qwen3_result(upstream, URL, enable_words=True)
    assert all(set(sentence) == shape | {"words"} for sentence in sentences_of(document))


async def test_each_channel_has_a_transcript_and_is_billed(upstream: Upstream) -> None:
    task_id = await upstream.submit(f"{URL}?sandbox=seconds:10", channel_id=[0, 1])
    assert (await upstream.finished(task_id))["usage"] == {"duration": 20}
    document = await upstream.result(f"{URL}?sandbox=seconds:10", channel_id=[0, 1])
    assert document["properties"]["channels"] == [0, 1]
    assert [transcript["channel_id"] for transcript in document["transcripts"]] == [0, 1]


async def test_recording_is_repeated_on_each_channel(upstream: Upstream) -> None:
    url = f"{SAMPLES}/paraformer/hello_world_male2.wav"
    document = await upstream.result(url, channel_id=[0, 1], diarization_enabled=True)
    first, second = document["transcripts"]
    assert second == first | {"channel_id": 1}
    assert {sentence["speaker_id"] for sentence in sentences_of(document)} == {0}


async def test_diarization_adds_speakers(upstream: Upstream) -> None:
    document = await upstream.result(f"{URL}?sandbox=seconds:60", diarization_enabled=True, speaker_count=3)
    assert {sentence["speaker_id"] for sentence in sentences_of(document)} == {0, 1, 2}


async def test_language_hint_selects_english(upstream: Upstream) -> None:
    document = await upstream.result(URL, language_hints=["en"])
    assert document["transcripts"][0]["text"].startswith(("Good", "Could", "The", "Thank"))


@pytest.mark.slow
async def test_result_can_have_150000_words(upstream: Upstream) -> None:
    document = await upstream.result(f"{URL}?sandbox=words:150000")
    assert sum(len(sentence["words"]) for sentence in sentences_of(document)) == 150_000
    assert document["properties"]["original_duration_in_milliseconds"] == 45_000_000


@given(
    url=st.text(),
    duration_ms=st.integers(0, 3_600_000),
    wanted=st.none() | st.integers(1, 500),
)
def test_speech_is_in_order_and_inside_the_audio(url: str, duration_ms: int, wanted: int | None) -> None:
    spoken = [word for sentence in speech(url, duration_ms, words=wanted) for word in sentence.words]
    times = list(itertools.chain.from_iterable((word.begin_time, word.end_time) for word in spoken))
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] <= duration_ms
    assert wanted is None or len(spoken) == wanted
