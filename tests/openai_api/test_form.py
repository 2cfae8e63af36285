"""The fields of OpenAI's clients, and the job that they ask for."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from app.errors import InvalidRequest, UnknownModel
from app.openai_api.form import TranscriptionRequest, continue_form, fingerprint, parse_fields, read_until_file
from app.uploads.form import Field, FileEnd, FileStart, FormEvent

QWEN = "qwen3-asr-flash-filetrans"


def parsed(**fields: str | list[str]) -> TranscriptionRequest:
    return parse_fields(
        {name: [value] if isinstance(value, str) else value for name, value in fields.items()}, has_file=True
    )


def test_form_with_a_model_alone_has_the_defaults() -> None:
    request = parsed(model="whisper-1")
    assert (request.model, dict(request.parameters), request.response_format) == ("fun-asr", {}, "json")
    assert (request.granularities, request.stream, request.source) == (frozenset({"segment"}), False, "file")


@pytest.mark.parametrize(
    ("name", "model"),
    [
        *((alias, "fun-asr") for alias in ("whisper-1", "gpt-transcribe", "gpt-4o-transcribe", "")),
        ("gpt-4o-mini-transcribe-2025-12-15", "fun-asr"),
        ("paraformer-v2", "paraformer-v2"),
        ("fun-asr-2025-11-07", "fun-asr-2025-11-07"),
    ],
)
def test_names_of_openai_are_the_default_model(name: str, model: str) -> None:
    assert parsed(model=name).model == model


def test_unknown_model_is_refused() -> None:
    with pytest.raises(UnknownModel, match="no model 'gpt-5'"):
        parsed(model="gpt-5")


@pytest.mark.parametrize(
    ("model", "fields", "parameters"),
    [
        ("fun-asr", {"language": "en"}, {"language_hints": ["en"]}),
        ("fun-asr", {"language": "zh-CN"}, {"language_hints": ["zh"]}),
        ("fun-asr", {"language": " EN_us "}, {"language_hints": ["en"]}),
        ("fun-asr", {"languages[]": ["ja", "ko", "ja"]}, {"language_hints": ["ja", "ko"]}),
        ("fun-asr", {"language": ""}, {}),
        ("fun-asr", {"language": "auto"}, {}),
        ("fun-asr", {"language": "tlh"}, {}),
        ("fun-asr", {"prompt": "Names: Ada."}, {}),
        ("sensevoice-v1", {"language": "yue", "languages[]": ["en"]}, {"language_hints": ["yue"]}),
        ("sensevoice-v1", {"language": "auto"}, {}),
        (QWEN, {"language": "de", "prompt": "Names:\nAda."}, {"language": "de", "corpus": {"text": "Names:\nAda."}}),
        (QWEN, {"timestamp_granularities[]": ["word"]}, {"enable_words": True}),
        ("fun-asr", {"timestamp_granularities[]": ["word"]}, {}),
        ("fun-asr", {"response_format": "diarized_json"}, {"diarization_enabled": True}),
        ("gpt-4o-transcribe-diarize", {"chunking_strategy": "auto"}, {"diarization_enabled": True}),
        ("fun-asr", {"temperature": "0.2", "include[]": "logprobs", "keywords[]": ["a"], "colour": "red"}, {}),
    ],
)
def test_fields_become_the_parameters_that_the_model_has(
    model: str, fields: dict[str, Any], parameters: dict[str, Any]
) -> None:
    assert dict(parsed(model=model, **fields).parameters) == parameters


@pytest.mark.parametrize("name", ["timestamp_granularities[]", "timestamp_granularities", "timestamp_granularities[0]"])
def test_arrays_are_read_under_all_their_names(name: str) -> None:
    assert parsed(**{name: ["word", "segment"]}).granularities == {"word", "segment"}


@pytest.mark.parametrize(
    ("value", "stream"), [("true", True), ("True", True), ("1", True), ("false", False), ("", False)]
)
def test_booleans_are_read_as_clients_write_them(value: str, *, stream: bool) -> None:
    assert parsed(stream=value).stream is stream


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"response_format": "xml"}, "/response_format"),
        ({"response_format": "diarized_json", "model": QWEN}, "/response_format"),
        ({"timestamp_granularities[]": "sentence"}, "/timestamp_granularities"),
        ({"stream": "perhaps"}, "/stream"),
        ({"url": "https://example.com/a.wav"}, "/url"),
        ({"file": "the contents"}, "/file"),
    ],
)
def test_wrong_values_are_refused_with_their_field(fields: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parsed(**fields)
    assert [fault.pointer for fault in refused.value.faults] == [pointer]


def test_form_needs_a_file_or_a_url() -> None:
    with pytest.raises(InvalidRequest, match="/file is missing"):
        parse_fields({"model": ["whisper-1"]}, has_file=False)
    assert parse_fields({"url": ["https://example.com/a.wav"]}, has_file=False).source == "url"


def test_fingerprint_is_that_of_the_fields_in_any_order_and_of_the_bytes() -> None:
    one = fingerprint({"model": ["whisper-1"], "language": ["en"]}, b"1")
    assert one == fingerprint({"language": ["en"], "model": ["whisper-1"]}, b"1")
    others = [
        ({"model": ["whisper-1"], "language": ["en"]}, b"2"),
        ({"model": ["whisper-1"], "language": ["de"]}, b"1"),
    ]
    assert one not in {fingerprint(*other) for other in others}
    assert fingerprint({"a": ["b", "c"]}, b"") != fingerprint({"a": ["c", "b"]}, b"")


async def events(*given: FormEvent) -> AsyncIterator[FormEvent]:
    for event in given:
        yield event


@pytest.mark.parametrize(
    ("name", "stored"), [("a.wav", "a.wav"), ("a.MPGA", "a.mp3"), ("a.oga", "a.ogg"), ("noext", "noext")]
)
async def test_form_is_whole_again_after_its_head_was_read(name: str, stored: str) -> None:
    form = events(
        Field("model", "x"), FileStart("file", name, 4), memoryview(b"RIFF"), FileEnd(), Field("language", "en")
    )
    fields, file = await read_until_file(form)
    assert file is not None
    whole: Sequence[FormEvent] = [event async for event in continue_form(fields, file, form)]
    expected = [
        Field("model", "x"),
        FileStart("file", stored, 4),
        memoryview(b"RIFF"),
        FileEnd(),
        Field("language", "en"),
    ]
    assert whole == expected


async def test_form_without_a_file_has_fields_alone() -> None:
    assert await read_until_file(events(Field("url", "u"), Field("model", "m"))) == (
        [Field("url", "u"), Field("model", "m")],
        None,
    )
