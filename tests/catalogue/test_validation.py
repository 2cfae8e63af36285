"""What a job may ask for: regions, and every parameter on every model."""

from collections.abc import Sequence
from typing import Any, Literal

import pytest

from app.catalogue import MODELS, RegionName, validate_job, validate_parameters
from app.errors import InvalidRequest, ModelNotInRegion, RegionNotServed, UnknownModel

BOTH: tuple[RegionName, ...] = ("beijing", "singapore")

FUN = {name for name in MODELS if name.startswith("fun-asr")}
PARA_V2, PARA_8K_V2 = {"paraformer-v2"}, {"paraformer-8k-v2"}
PARA_V1 = {"paraformer-v1", "paraformer-8k-v1", "paraformer-mtl-v1"}
PARA = PARA_V2 | PARA_8K_V2 | PARA_V1
SENSE = {"sensevoice-v1"}
QWEN3 = {name for name in MODELS if name.startswith("qwen3")}

# Parameter, a value that suits every model which takes the parameter, those models.
ACCEPTED_BY: list[tuple[str, Any, set[str]]] = [
    ("language_hints", ["zh"], FUN | PARA_V2 | SENSE),
    ("channel_id", [0, 1], set(MODELS)),
    ("diarization_enabled", True, FUN | PARA),
    ("speaker_count", 2, FUN | PARA),
    ("vocabulary_id", "vocab-calls-6977ae49f65c4c3db054727c", FUN | PARA_V2 | PARA_8K_V2),
    ("phrase_id", "phrase-1", PARA_V1),
    ("special_word_filter", {"system_reserved_filter": False}, FUN | PARA),
    ("disfluency_removal_enabled", True, FUN | PARA),
    ("timestamp_alignment_enabled", True, PARA),
    ("language", "zh", QWEN3),
    ("enable_itn", True, QWEN3),
    ("enable_words", True, QWEN3),
    ("corpus", {"text": "Quarterly report\nof the lab"}, QWEN3),
    ("text", "Quarterly report", QWEN3),
    ("vocabulary", {"word": 4}, set()),
    ("audio_event_detection_enabled", True, set()),
]
CELLS = [(name, value, model, model in models) for name, value, models in ACCEPTED_BY for model in MODELS]


def faults_of(model: str, parameters: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(InvalidRequest) as caught:
        validate_parameters(MODELS[model], parameters)
    assert caught.value.code == "validation_failed"
    return [(fault.pointer, fault.detail) for fault in caught.value.faults]


@pytest.mark.parametrize(("name", "value", "model", "accepted"), CELLS)
def test_a_model_accepts_exactly_its_own_parameters(name: str, value: Any, model: str, accepted: bool) -> None:
    needed = {"diarization_enabled": True} if name == "speaker_count" and accepted else {}
    if accepted:
        assert validate_parameters(MODELS[model], {name: value, **needed}).keys() == {name, *needed}
    else:
        pointers = [pointer for pointer, _ in faults_of(model, {name: value})]
        assert pointers == [f"/parameters/{name}"]


def test_every_parameter_of_the_catalogue_is_in_the_table() -> None:
    defined = {parameter.name for model in MODELS.values() for parameter in model.parameters}
    assert defined == {name for name, _, models in ACCEPTED_BY if models}


def test_an_unsupported_parameter_names_the_models_that_support_it() -> None:
    [(_, detail)] = faults_of("fun-asr", {"phrase_id": "x"})
    assert detail == (
        "is not supported by fun-asr; leave it out or use one of paraformer-v1, paraformer-8k-v1, paraformer-mtl-v1"
    )


def test_a_language_of_other_models_names_them() -> None:
    [(_, detail)] = faults_of("paraformer-v2", {"language_hints": ["zh", "ca"]})
    assert detail == "needs one of zh, en, ja, yue, ko, de, fr, ru; got 'ca'; supported by sensevoice-v1"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("speaker_counts", "did you mean speaker_count?"), ("temperature", "fun-asr accepts language_hints,")],
)
def test_an_unknown_parameter_gets_a_suggestion_or_the_list(name: str, hint: str) -> None:
    [(pointer, detail)] = faults_of("fun-asr", {name: 1})
    assert pointer == f"/parameters/{name}"
    assert hint in detail


@pytest.mark.parametrize(
    ("model", "parameters", "pointer", "detail"),
    [
        ("fun-asr", {"language_hints": "zh"}, "/parameters/language_hints", "an array of strings, got a string"),
        ("fun-asr", {"language_hints": []}, "/parameters/language_hints", "elements, got 0"),
        ("fun-asr", {"language_hints": ["zh", "xx"]}, "/parameters/language_hints/1", "got 'xx'"),
        ("fun-asr", {"language_hints": ["zh", "zh"]}, "/parameters/language_hints/1", "only once"),
        ("fun-asr", {"language_hints": ["zh", 5]}, "/parameters/language_hints/1", "got a number"),
        ("fun-asr-2025-08-25", {"language_hints": ["ja"]}, "/parameters/language_hints/0", "one of zh, en;"),
        ("paraformer-v2", {"language_hints": ["es"]}, "/parameters/language_hints/0", "yue"),
        ("sensevoice-v1", {"language_hints": ["zh", "en"]}, "/parameters/language_hints", "exactly 1 element,"),
        ("fun-asr", {"channel_id": 0}, "/parameters/channel_id", "an array of integers, got a number"),
        ("fun-asr", {"channel_id": []}, "/parameters/channel_id", "1 to 16 elements"),
        ("fun-asr", {"channel_id": [0, -1]}, "/parameters/channel_id/1", "an integer from 0 to 15"),
        ("fun-asr", {"channel_id": [16]}, "/parameters/channel_id/0", "an integer from 0 to 15"),
        ("fun-asr", {"channel_id": [0, 0]}, "/parameters/channel_id/1", "only once"),
        ("fun-asr", {"channel_id": [True]}, "/parameters/channel_id/0", "an integer from 0 to 15, got true"),
        ("fun-asr", {"channel_id": [1.0]}, "/parameters/channel_id/0", "got a number"),
        ("fun-asr", {"diarization_enabled": 1}, "/parameters/diarization_enabled", "true or false"),
        ("fun-asr", {"diarization_enabled": "true"}, "/parameters/diarization_enabled", "true or false"),
        ("fun-asr", {"diarization_enabled": None}, "/parameters/diarization_enabled", "null: leave it out"),
        ("fun-asr", {"speaker_count": 2}, "/parameters/speaker_count", "needs diarization_enabled"),
        ("fun-asr", {"vocabulary_id": ""}, "/parameters/vocabulary_id", "not blank"),
        ("fun-asr", {"vocabulary_id": "a\x00b"}, "/parameters/vocabulary_id", "without control characters"),
        ("fun-asr", {"vocabulary_id": "a\ud800"}, "/parameters/vocabulary_id", "lone surrogates"),
        ("fun-asr", {"vocabulary_id": "v" * 129}, "/parameters/vocabulary_id", "at most 128 characters"),
        ("paraformer-v1", {"phrase_id": ["p"]}, "/parameters/phrase_id", "a string that is not blank"),
        ("qwen3-asr-flash-filetrans", {"language": "auto"}, "/parameters/language", "one of zh, yue,"),
        ("qwen3-asr-flash-filetrans", {"corpus": "x"}, "/parameters/corpus", "an object, got a string"),
        ("qwen3-asr-flash-filetrans", {"corpus": {}}, "/parameters/corpus/text", "needs to be present"),
        ("qwen3-asr-flash-filetrans", {"corpus": {"text": "x"}, "text": "x"}, "/parameters/text", "one of the two"),
        ("fun-asr", {"a/b~c": 1}, "/parameters/a~1b~0c", "is not known to any model"),
        ("fun-asr", {"\ud800": 1}, "/parameters/?", "is not known to any model"),
    ],
)
def test_a_wrong_value_is_pointed_at(model: str, parameters: dict[str, Any], pointer: str, detail: str) -> None:
    [(found_pointer, found_detail)] = faults_of(model, parameters)
    assert found_pointer == pointer
    assert detail in found_detail


@pytest.mark.parametrize(
    ("value", "pointer", "detail"),
    [
        (1, "", "an object, got a number"),
        ("no json", "", "this string is no JSON"),
        ("[" * 20_000, "", "this string is no JSON"),
        ("9" * 5_000, "", "this string is no JSON"),
        ("[]", "", "in its JSON text, the whole: needs an object"),
        ('{"filter_with_empty": {}}', "", "/filter_with_empty/word_list: needs to be present"),
        ({"filter_with_signed": {}}, "/filter_with_signed/word_list", "needs to be present"),
        ({"filter_with_signed": {"word_list": ["a", 1]}}, "/filter_with_signed/word_list/1", "a string"),
        ({"filter_with_empty": {"word_list": [""]}}, "/filter_with_empty/word_list/0", "not blank"),
        ({"filter_with_empty": {"word_list": "um"}}, "/filter_with_empty/word_list", "an array of strings"),
        ({"system_reserved_filter": "true"}, "/system_reserved_filter", "true or false"),
        ({"system": True}, "/system", "known are filter_with_signed, filter_with_empty"),
    ],
)
def test_a_wrong_word_filter_is_pointed_at(value: Any, pointer: str, detail: str) -> None:
    [(found_pointer, found_detail)] = faults_of("fun-asr", {"special_word_filter": value})
    assert found_pointer == "/parameters/special_word_filter" + pointer
    assert detail in found_detail


@pytest.mark.parametrize(("count", "right"), [(1, False), (2, True), (100, True), (101, False)])
def test_speaker_count_is_2_to_100(count: int, right: bool) -> None:
    parameters = {"diarization_enabled": True, "speaker_count": count}
    if right:
        assert validate_parameters(MODELS["fun-asr"], parameters) == parameters
    else:
        assert faults_of("fun-asr", parameters) == [("/parameters/speaker_count", "needs an integer from 2 to 100")]


def test_all_faults_are_told_at_once() -> None:
    faults = faults_of("sensevoice-v1", {"channel_id": ["0"], "speaker_count": 2, "nonsense": 1})
    assert [pointer for pointer, _ in faults] == [
        "/parameters/channel_id/0",
        "/parameters/speaker_count",
        "/parameters/nonsense",
    ]


def test_a_flood_of_faults_is_cut_short() -> None:
    assert len(faults_of("fun-asr", {f"unknown_{index}": 1 for index in range(100_000)})) == 100


def test_the_founding_documents_own_sample_is_accepted() -> None:
    job = validate_job(model="fun-asr", region="auto", parameters={"language_hints": ["zh", "en"]}, served=BOTH)
    assert (job.model.id, job.region, job.parameters) == (
        "fun-asr",
        "beijing",
        {"language_hints": ["zh", "en"]},
    )


def test_parameters_are_checked_by_a_job() -> None:
    with pytest.raises(InvalidRequest, match="/parameters/speaker_count needs diarization_enabled"):
        validate_job(model="fun-asr", region="auto", parameters={"speaker_count": 2}, served=BOTH)


@pytest.mark.parametrize(
    ("model", "region", "served", "chosen"),
    [
        ("fun-asr", "auto", ["beijing", "singapore"], "beijing"),
        ("fun-asr", "auto", ["singapore", "beijing"], "singapore"),
        ("fun-asr", "auto", ["singapore"], "singapore"),
        ("fun-asr", "beijing", ["singapore", "beijing"], "beijing"),
        ("paraformer-v2", "auto", ["singapore", "beijing"], "beijing"),
        ("qwen3-asr-flash-filetrans", "singapore", ["beijing", "singapore"], "singapore"),
    ],
)
def test_auto_takes_the_first_served_region_that_has_the_model(
    model: str, region: Literal["auto"] | RegionName, served: Sequence[RegionName], chosen: RegionName
) -> None:
    assert validate_job(model=model, region=region, parameters={}, served=served).region == chosen


@pytest.mark.parametrize("served", [["beijing"], ["singapore"], []])
def test_a_model_outside_its_regions_is_refused_whatever_is_served(served: list[RegionName]) -> None:
    with pytest.raises(ModelNotInRegion, match="it is in beijing") as caught:
        validate_job(model="sensevoice-v1", region="singapore", parameters={}, served=served)
    assert [fault.pointer for fault in caught.value.faults] == ["/region"]


@pytest.mark.parametrize(
    ("model", "region", "served", "sentence"),
    [
        ("fun-asr", "beijing", ["singapore"], "it serves singapore; DASHSCOPE_BEIJING_API_KEY would"),
        ("paraformer-v2", "auto", ["singapore"], "offered in beijing, .* DASHSCOPE_BEIJING_API_KEY would"),
        ("fun-asr", "auto", [], "no region; DASHSCOPE_BEIJING_API_KEY or DASHSCOPE_SINGAPORE_API_KEY would"),
    ],
)
def test_a_region_without_a_key_is_refused_with_the_missing_variable(
    model: str, region: Literal["auto"] | RegionName, served: Sequence[RegionName], sentence: str
) -> None:
    with pytest.raises(RegionNotServed, match=sentence) as caught:
        validate_job(model=model, region=region, parameters={}, served=served)
    assert [fault.pointer for fault in caught.value.faults] == ["/region"]


def test_an_unknown_model_is_refused_first() -> None:
    with pytest.raises(UnknownModel):
        validate_job(model="nova", region="beijing", parameters={"x": 1}, served=[])
