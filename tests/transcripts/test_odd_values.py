"""Values of a wrong kind in result documents: they count as missing, and the rest of the document is kept."""

from typing import Any

import orjson
import pytest

from app.transcripts.normalise import normalise
from tests.transcripts.documents import sentence, transcript
from tests.transcripts.served_documents import ODD_TIMES, URL, normalised, one_sentence, served, written


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
