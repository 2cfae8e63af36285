import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.transcripts import schemas
from app.transcripts.normalise import Document, UnreadableResult, empty_document, normalise, write_document
from app.transcripts.seekable_gzip import GzipWriter
from tests.transcripts.documents import parsed, plausible_transcripts, sample, sentence, spoken, transcript
from tests.transcripts.served_documents import ID, ODD_TIMES, URL, normalised, one_sentence, served, written


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("sensevoice_seed", "sensevoice_seed_cleaned_all"),
        ("sensevoice_synthetic_many_tags", "sensevoice_synthetic_many_tags_cleaned"),
    ],
)
def test_sensevoice_text_is_cleaned_like_the_vendors_sample(name: str, cleaned: str) -> None:
    document = normalise(sample(name), file_url=URL, family="sensevoice")
    expected = parsed(cleaned)
    assert document.transcripts == expected["transcripts"]
    assert document.properties == expected["properties"]
    assert document.text == expected["transcripts"][0]["text"]


@pytest.mark.parametrize("family", ["fun-asr", "paraformer", "qwen3-asr"])
def test_tags_of_other_families_are_text(family: str) -> None:
    tagged = normalised(one_sentence(text="<|Speech|> Hi.", emotion="happy"), family).transcripts[0]["sentences"][0]
    assert (tagged["text"], tagged["emotion"]) == ("<|Speech|> Hi.", "happy")


@pytest.mark.parametrize(
    "name",
    [
        *("funasr_female2_seed", "funasr_male2_seed", "paraformer_female2_seed", "paraformer_male2_seed"),
        *("funasr_diarized_synthetic", "funasr_two_channels_synthetic", "qwen_audio3_synthetic"),
    ],
)
def test_all_documented_keys_are_preserved(name: str) -> None:
    document = normalise(sample(name), file_url=URL, family="fun-asr")
    expected = parsed(name)
    assert document.transcripts == expected["transcripts"]
    assert document.properties == expected["properties"]
    assert document.audio_duration_ms == expected["properties"]["original_duration_in_milliseconds"]


def test_file_url_is_the_clients_and_not_the_upstreams() -> None:
    assert normalise(sample("qwen_audio3_synthetic"), file_url=URL, family="fun-asr").file_url == URL


def test_two_channels_are_joined_by_a_newline() -> None:
    document = normalise(sample("funasr_two_channels_synthetic"), file_url=URL, family="fun-asr")
    assert document.text == "\n".join(["Hello World，这里是阿里巴巴语音实验室。"] * 2)
    assert document.channels == 2


def test_qwens_audio_info_becomes_properties() -> None:
    document = normalise(sample("qwen3_filetrans_words_docs_shape"), file_url=URL, family="qwen3-asr")
    assert document.properties == {"audio_format": "mp3", "channels": [0], "original_sampling_rate": 16000}
    assert (document.audio_duration_ms, written(document).end_time) == (None, 1440)
    assert document.transcripts == parsed("qwen3_filetrans_words_docs_shape")["transcripts"]


def test_properties_win_over_audio_info() -> None:
    both = {"properties": {"audio_format": "pcm"}, "audio_info": {"format": "wav"}, "transcripts": []}
    assert normalised(both, "qwen3-asr").properties == {"audio_format": "pcm", "channels": []}


def test_a_result_without_transcripts_has_an_empty_text() -> None:
    document = normalise(sample("empty_transcripts_synthetic"), file_url=URL, family="fun-asr")
    assert (document.text, document.transcripts, document.channels) == ("", [], 0)
    assert document.audio_duration_ms == 3834


def test_a_silent_file_is_an_empty_transcript() -> None:
    assert empty_document(URL) == Document(URL, properties={}, channel_transcripts=[], text="", audio_duration_ms=None)
    assert written(empty_document(URL)).end_time is None


def test_missing_texts_are_built_from_sentences_or_words() -> None:
    words = [
        {"begin_time": 0, "end_time": 9, "text": "Hello", "punctuation": ""},
        {"text": " World", "punctuation": "。"},
    ]
    sentences = [
        {"begin_time": 0, "end_time": 9, "words": words},
        sentence("你好。", 9, 20),
        {"begin_time": 20, "end_time": 30},
    ]
    document = normalised({"transcripts": [{"channel_id": 0, "sentences": sentences}]})
    assert [item["text"] for item in document.transcripts[0]["sentences"]] == ["Hello World。", "你好。", ""]
    assert document.text == "Hello World。你好。"


@pytest.mark.parametrize("empty", [{}, {"sentences": None}, {"sentences": []}])
def test_missing_sentences_are_none(empty: dict[str, Any]) -> None:
    document = normalised({"transcripts": [{"channel_id": 0, "text": "Hi.", **empty}]})
    assert document.transcripts == [{"channel_id": 0, "text": "Hi.", "sentences": []}]
    assert (document.audio_duration_ms, written(document).end_time) == (None, None)


def test_unknown_keys_are_preserved_and_none_are_added() -> None:
    given_ = {"channel_id": 0, "text": "Hi.", "mood": {"a": [1]}, "sentences": [sentence("Hi.", 0, 9, mood=None)]}
    assert normalised({"transcripts": [given_]}).transcripts == [given_]


@pytest.mark.parametrize("words", [None, {}])
def test_null_words_are_no_words(words: object) -> None:
    assert "words" not in normalised(one_sentence(words=words)).transcripts[0]["sentences"][0]


def test_too_many_channels_are_unreadable() -> None:
    def result(channels: int) -> bytes:
        return orjson.dumps({"transcripts": [{"channel_id": number, "sentences": []} for number in range(channels)]})

    assert normalise(result(64), file_url="https://example.com/a.wav", family="fun-asr").channels == 64
    with pytest.raises(UnreadableResult, match="65 channels"):
        normalise(result(65), file_url="https://example.com/a.wav", family="fun-asr")


def test_null_transcripts_are_none() -> None:
    assert normalised({"transcripts": None, "properties": {}}) == empty_document(URL)


def test_a_missing_begin_is_the_end_of_the_sentence_before_and_a_missing_end_its_begin() -> None:
    sentences = [
        {"text": "a"},
        sentence("b", 5, 900),
        {"text": "c", "begin_time": None},
        {"text": "d", "end_time": 950},
    ]
    channel = {"text": "abcd", "sentences": sentences}
    times = [
        (each["begin_time"], each["end_time"])
        for transcript_ in normalised({"transcripts": [channel, channel]}).transcripts
        for each in transcript_["sentences"]
    ]
    assert times == [(0, 0), (5, 900), (900, 900), (900, 950)] * 2


@pytest.mark.parametrize(
    ("raw", "is_final"),
    [
        *((b"", False), (b"<html><body>502 Bad Gateway</body></html>", False), (b"{}", False)),
        *((sample("funasr_female2_seed")[:-20], False), (b"[" * 100_000, False), (b'{"transcripts": }', False)),
        (b'{"transcripts": ' + b"[" * 5_000 + b"]" * 5_000 + b"}", False),
        (b'{"code": "InternalError", "message": "secret"}', False),
        *((b"NaN", True), (b"[]", True), (b"null", True), (b'"secret"', True)),
        *((b'{"transcripts": {}}', True), (b'{"transcripts": [1]}', True), (b'{"transcripts": "secret"}', True)),
        *((b'{"transcripts": [null, "secret"]}', True), (b'{"transcripts": false}', True)),
    ],
    ids=repr,
)
def test_what_is_no_document_is_unreadable_and_not_quoted(raw: bytes, is_final: bool) -> None:
    with pytest.raises(UnreadableResult) as caught:
        normalise(raw, file_url=URL, family="sensevoice")
    assert caught.value.is_final is is_final
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("transcripts", "sentences", "words", "text", "punctuation", "begin_time", "end_time"),
                    *("channel_id", "speaker_id", "properties", "audio_info", "odd"),
                ]
            ),
            children,
            max_size=4,
        )
    ),
    max_leaves=25,
)


@given(JSON, st.sampled_from(["fun-asr", "paraformer", "sensevoice", "qwen3-asr"]))
def test_any_json_is_either_served_or_unreadable(value: Any, family: str) -> None:
    raw = json.dumps({"transcripts": [value]} if family == "sensevoice" else value).encode()
    try:
        body = served(normalise(raw, file_url=URL, family=family))
    except UnreadableResult:
        return
    assert orjson.dumps(orjson.loads(body)) == body
    assert_documented(body)


SAMPLE_NAMES = [
    *("funasr_diarized_synthetic", "funasr_two_channels_synthetic", "paraformer_female2_seed", "qwen_audio3_synthetic"),
    *("sensevoice_synthetic_many_tags", "qwen3_filetrans_words_docs_shape"),
]
ODD_VALUES = JSON | st.sampled_from([*ODD_TIMES, -1, 0.5, 10**30, float("nan"), float("inf"), "NaN", "\ud800", "\x00"])


def leaves(value: Any) -> Iterator[tuple[Any, Any]]:
    """The holder and key of each value inside, except `transcripts` itself."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        if key != "transcripts":
            yield value, key
        if isinstance(value[key], dict | list):
            yield from leaves(value[key])


@given(st.sampled_from(SAMPLE_NAMES), st.data())
def test_document_with_odd_values_is_stored(name: str, data: st.DataObject) -> None:
    document = parsed(name)
    for _ in range(data.draw(st.integers(1, 3))):
        holder, key = data.draw(st.sampled_from(list(leaves(document))))
        holder[key] = data.draw(ODD_VALUES)
    raw = json.dumps(document).encode()
    family = name.partition("_")[0]
    readable = any(isinstance(each, dict) for each in document["transcripts"])
    try:
        body = served(normalise(raw, file_url=URL, family="sensevoice" if family == "sensevoice" else "fun-asr"))
    except UnreadableResult:
        assert not readable
        return
    assert_documented(body)


def assert_documented(body: bytes) -> None:
    """The body has the documented schema, and times that are whole, not negative and in order."""
    schemas.Transcript.model_validate_json(body, strict=True)
    for channel in orjson.loads(body)["transcripts"]:
        for spoken_ in channel["sentences"]:
            for timed in [spoken_, *spoken_.get("words", [])]:
                begin = timed.get("begin_time", 0)
                assert 0 <= begin <= timed.get("end_time", begin) <= 10**12


@given(plausible_transcripts())
def test_normalising_twice_changes_nothing(transcripts: list[dict[str, Any]]) -> None:
    once = normalised({"transcripts": transcripts})
    assert once.transcripts == transcripts
    assert served(normalised({"transcripts": once.transcripts})) == served(once)


def test_the_served_body_has_the_documented_keys_in_order() -> None:
    document = normalise(sample("funasr_female2_seed"), file_url=URL, family="fun-asr")
    body = orjson.loads(served(document))
    assert list(body) == [
        *("id", "job_id", "file_url", "model", "region", "created_at", "text", "properties", "transcripts"),
    ]
    assert body["id"] == body["job_id"] == str(ID)
    assert body["file_url"] == URL
    assert body["transcripts"] == document.transcripts


class RecordingSink:
    """Records the sentences of a document while it is written."""

    def __init__(self) -> None:
        self.sentences: list[tuple[int, Mapping[str, Any]]] = []

    def add(self, channel_id: int, sentence: Mapping[str, Any]) -> None:
        self.sentences.append((channel_id, sentence))

    def add_text(self, channel_id: int, text: str) -> None:
        raise AssertionError(f"Each channel has sentences, but {channel_id} has only {text!r}.")


def test_the_sink_receives_each_sentence_during_writing() -> None:
    document = normalise(sample("funasr_two_channels_synthetic"), file_url=URL, family="fun-asr")
    sink = RecordingSink()
    created_at = datetime(2026, 11, 23, tzinfo=UTC)
    write_document(
        document, GzipWriter(6), id=ID, job_id=ID, model="m", region="r", created_at=created_at, segments=sink
    )
    spoken_ = [(item["channel_id"], each) for item in document.transcripts for each in item["sentences"]]
    assert sink.sentences == spoken_


@pytest.mark.parametrize(
    "keys",
    [
        *([("sentences", "text", "channel_id")], [("text", "sentences", "mood")], [("sentences",)]),
        *([("text", "channel_id"), ("sentences", "text")], []),
    ],
    ids=repr,
)
def test_the_served_body_keeps_the_order_of_keys(keys: list[tuple[str, ...]]) -> None:
    values = {"sentences": [sentence("Hi.", 0, 1)] * 3, "text": "Hi.", "channel_id": 1, "mood": {"sentences": []}}
    document = normalised({"transcripts": [{key: values[key] for key in each} for each in keys]})
    body = served(document)
    expected = {**orjson.loads(body), "text": document.text, "transcripts": document.transcripts}
    assert body == orjson.dumps(expected)


def test_the_served_body_is_compact_utf8() -> None:
    body = served(normalise(sample("funasr_female2_seed"), file_url=URL, family="fun-asr"))
    assert "这里是阿里巴巴语音实验室".encode() in body
    assert b'": ' not in body


def test_instants_are_served_in_utc() -> None:
    beijing = datetime(2026, 11, 23, 16, 0, tzinfo=timezone(timedelta(hours=8)))
    assert orjson.loads(served(empty_document(URL), beijing))["created_at"] == "2026-11-23T08:00:00Z"


@pytest.mark.slow
def test_a_recording_of_twelve_hours_is_normalised_completely() -> None:
    words = [(time_ms, time_ms + 240, "这") for time_ms in range(0, 240 * 30, 240)]
    raw = orjson.dumps({"transcripts": [transcript(*[spoken(*words)] * 5_000)]})
    body = written(normalise(raw, file_url=URL, family="fun-asr"))
    assert sum(block.count for block in body.index.channels[0].blocks) == 5_000
