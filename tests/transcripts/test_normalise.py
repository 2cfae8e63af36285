import gzip
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.transcripts import schemas
from app.transcripts.normalise import Document, UnreadableResult, empty_document, normalise, write_document
from app.transcripts.seekable_gzip import GzipWriter, Written
from tests.transcripts.documents import parsed, plausible_transcripts, sample, sentence, spoken, transcript

URL = "https://client.example/录音.wav"
ID = UUID("01980000-0000-7000-8000-000000000001")


def normalised(document: object, family: str = "fun-asr") -> Document:
    return normalise(orjson.dumps(document), file_url=URL, family=family)


def one_sentence(**fields: Any) -> dict[str, Any]:
    return {"transcripts": [transcript({**sentence("Hi.", 0, 1000), **fields})]}


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
    ("speaker", "expected"),
    [
        (0, 0),
        ("0", 0),
        (1.0, 1),
        (0.5, "0.5"),
        (1e30, "1e+30"),
        ("spk0", 0),
        ("spk12", 12),
        ("Anna", "Anna"),
        ("spk", "spk"),
        (None, None),
    ],
)
def test_speaker_ids_become_numbers_if_possible(speaker: object, expected: object) -> None:
    assert normalised(one_sentence(speaker_id=speaker)).transcripts[0]["sentences"][0]["speaker_id"] == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((-5, 0), (12.9, 12), (-0.5, 0), (0, 0), (43_200_000, 43_200_000)),
        *(("760", 760), ("760.0", 760), ("-1", 0), (760.0, 760)),
    ],
)
def test_times_become_whole_and_not_negative(value: object, expected: int) -> None:
    document = normalised(one_sentence(end_time=value, words=[{"text": "Hi.", "begin_time": value, "end_time": value}]))
    drawn = document.transcripts[0]["sentences"][0]
    assert drawn["end_time"] == drawn["words"][0]["begin_time"] == expected
    assert type(drawn["end_time"]) is int


@pytest.mark.parametrize(
    ("escaped", "expected"),
    [
        (rb"a\ud83db", "a\ufffdb"),
        (rb"\uD83D", "\ufffd"),
        (rb"\ude00\ud83d", "\ufffd\ufffd"),
        (rb"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (rb"\ud83d\u0041", "\ufffdA"),
        (rb"\\ud83d", "\\ud83d"),
        (rb"\\\ud83d", "\\\ufffd"),
        (rb"\ud83d\ude00", "\U0001f600"),
    ],
)
def test_a_lone_surrogate_becomes_a_replacement_character(escaped: bytes, expected: str) -> None:
    raw = b'{"transcripts": [{"sentences": [{"begin_time": 0, "end_time": 9, "text": "%b"}]}]}' % escaped
    document = normalise(raw, file_url=URL, family="fun-asr")
    assert document.text == document.transcripts[0]["sentences"][0]["text"] == expected


ODD_TIMES = ["", "soon", "7 60", "٣", "1e3", "00:00:01.200", "12s", "9" * 20, True, None, [], {}, 1e300, 10**18]


@pytest.mark.parametrize("value", ODD_TIMES, ids=repr)
def test_time_that_is_no_number_counts_as_missing(value: object) -> None:
    words = [
        {"begin_time": 2000, "end_time": value, "text": "a", "punctuation": ""},
        {"begin_time": value, "end_time": 2500, "text": "b", "punctuation": ""},
    ]
    sentences = [sentence("Hi.", 0, 1000), {**sentence("ab", 0, 3000), "begin_time": value, "words": words}]
    first, second = normalised({"transcripts": [transcript(*sentences)]}).transcripts[0]["sentences"]
    assert second["words"] == [
        {"begin_time": 2000, "text": "a", "punctuation": ""},
        {"end_time": 2500, "text": "b", "punctuation": ""},
    ]
    assert (first["end_time"], second["begin_time"], second["end_time"]) == (1000, 1000, 3000)


def test_end_before_the_begin_becomes_the_begin() -> None:
    word = {"begin_time": 800, "end_time": 700, "text": "Hi", "punctuation": "."}
    drawn = normalised(one_sentence(begin_time=600, end_time=500, words=[word])).transcripts[0]["sentences"][0]
    assert (drawn["begin_time"], drawn["end_time"]) == (600, 600)
    assert drawn["words"] == [{**word, "end_time": 800}]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        *(("text", 12, "12"), ("text", 1.5, "1.5"), ("text", True, "a。"), ("text", None, "a。"), ("text", [], "a。")),
        *(("speaker_id", {}, None), ("speaker_id", True, None), ("speaker_id", [0], None)),
        *(("sentence_id", "3", 3), ("sentence_id", "x", None), ("sentence_id", 2.0, 2), ("event", "BGM", None)),
        *(("event", ["BGM", None], None), ("emotion", {"a": 1}, {"a": 1})),
    ],
    ids=repr,
)
def test_odd_value_of_a_sentence_counts_as_missing(key: str, value: object, expected: object) -> None:
    words: list[Any] = [None, {"begin_time": 0, "end_time": 9, "text": "a", "punctuation": "。"}, 7, "b", []]
    odd = {**sentence("Hi.", 0, 1000, words=words), key: value}
    drawn = normalised({"transcripts": [{"sentences": [odd]}]}).transcripts[0]["sentences"][0]
    assert drawn[key] == expected
    assert drawn["words"] == [words[1]]


@pytest.mark.parametrize("words", [1, "secret", True, {"a": 1}])
def test_words_that_are_no_list_are_no_words(words: object) -> None:
    assert "words" not in normalised(one_sentence(words=words)).transcripts[0]["sentences"][0]


def test_numbers_in_words_become_text() -> None:
    word = {"begin_time": 0, "end_time": 9, "text": 42, "punctuation": None, "odd": {"x": [1]}}
    drawn = normalised(one_sentence(words=[word])).transcripts[0]["sentences"][0]
    assert drawn["words"] == [{**word, "text": "42", "punctuation": ""}]


@pytest.mark.parametrize(
    ("value", "expected"), [("1", 1), (1.0, 1), (None, 0), ("left", 0), (True, 0), (-1, 0), ([], 0)]
)
def test_odd_channel_id_counts_as_missing(value: object, expected: int) -> None:
    document = normalised({"transcripts": [None, {**transcript(sentence("Hi.", 0, 9)), "channel_id": value}, None]})
    assert [channel.channel_id for channel in written(document).index.channels] == [expected]
    assert document.text == "Hi."


@pytest.mark.parametrize("sentences", [7, "secret", {"a": 1}, True, None, [None, 1, "x", []]])
def test_text_of_a_channel_stays_without_readable_sentences(sentences: object) -> None:
    document = normalised({"transcripts": [{"channel_id": 0, "text": "Hi.", "sentences": sentences}]})
    assert document.transcripts == [{"channel_id": 0, "text": "Hi.", "sentences": []}]


@pytest.mark.parametrize("properties", [[], None, "x", 5, True])
def test_properties_that_are_no_object_are_none(properties: object) -> None:
    document = normalised({"properties": properties, "audio_info": properties, "transcripts": []})
    assert document.properties == {}


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"nan", b"1e999", b"-" + b"9" * 400])
def test_number_that_json_does_not_have_is_null(number: bytes) -> None:
    raw = (
        b'{"odd": %b, "properties": {"odd": %b}, "transcripts": [{"text": "NaN\\" -Infinity", "odd": %b, "sentences": ['
        b'{"begin_time": 5, "end_time": %b, "text": "inf", "odd": [%b, 1.50]}]}]}'
    ) % ((number,) * 5)
    document = normalise(raw, file_url=URL, family="fun-asr")
    assert document.properties == {"odd": None}
    assert document.text == 'NaN" -Infinity'
    assert document.transcripts == [
        {
            "text": 'NaN" -Infinity',
            "odd": None,
            "sentences": [{"begin_time": 5, "end_time": 5, "text": "inf", "odd": [None, 1.5]}],
        }
    ]


@pytest.mark.parametrize(
    ("inside", "expected"), [(b"a\xffb", "a\ufffdb"), (b"a\nb\x00", "a\nb\x00"), (rb"a\x41\'", "a\\x41\\'")]
)
def test_text_that_is_no_valid_json_string_is_kept(inside: bytes, expected: str) -> None:
    raw = b'{"transcripts": [{"sentences": [{"begin_time": 0, "end_time": 9, "text": "%b", "%b": 1}]}]}' % (
        inside,
        inside,
    )
    document = normalise(raw, file_url=URL, family="fun-asr")
    assert document.text == expected
    assert document.transcripts[0]["sentences"][0][expected] == 1


@pytest.mark.parametrize("levels", [65, 300, 900])
def test_value_that_nests_too_deeply_is_null(levels: int) -> None:
    deep = b"[" * levels + b"]" * levels
    raw = (
        b'{"properties": {"odd": %b, "a": 1}, "transcripts": [{"text": "Hi.", "odd": %b, "sentences": [{"text": "Hi.",'
        b' "begin_time": 0, "end_time": 9, "odd": %b, "words": [{"text": "Hi", "punctuation": ".", "odd": %b}]}]}]}'
    ) % ((deep,) * 4)
    body = orjson.loads(served(normalise(raw, file_url=URL, family="fun-asr")))
    assert (body["text"], body["properties"]["a"]) == ("Hi.", 1)
    assert body["transcripts"][0]["sentences"][0]["text"] == "Hi."


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


def written(document: Document, created_at: datetime = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)) -> Written:
    return write_document(
        document, GzipWriter(6), id=ID, job_id=str(ID), model="fun-asr", region="beijing", created_at=created_at
    )


def served(document: Document, created_at: datetime = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)) -> bytes:
    return gzip.decompress(written(document, created_at).gzip)


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


def test_a_recording_of_twelve_hours_is_normalised_completely() -> None:
    words = [(time_ms, time_ms + 240, "这") for time_ms in range(0, 240 * 30, 240)]
    raw = orjson.dumps({"transcripts": [transcript(*[spoken(*words)] * 5_000)]})
    body = written(normalise(raw, file_url=URL, family="fun-asr"))
    assert sum(block.count for block in body.index.channels[0].blocks) == 5_000
