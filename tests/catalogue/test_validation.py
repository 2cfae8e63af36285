"""Validation of jobs: regions, and every parameter of every model."""

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
AUDIO = {name for name in MODELS if name.startswith("qwen-audio")}

# A parameter, a value that is valid for all of its models, and these models.
ACCEPTED_BY: list[tuple[str, Any, set[str]]] = [
    ("language_hints", ["zh"], FUN | PARA_V2 | SENSE | AUDIO),
    ("channel_id", [0, 1], set(MODELS)),
    ("diarization_enabled", True, FUN | PARA | AUDIO),
    ("speaker_count", 2, FUN | PARA | AUDIO),
    ("vocabulary_id", "vocab-calls-6977ae49f65c4c3db054727c", FUN | PARA_V2 | PARA_8K_V2 | AUDIO),
    ("phrase_id", "phrase-1", PARA_V1),
    ("special_word_filter", {"system_reserved_filter": False}, FUN | PARA | AUDIO),
    ("disfluency_removal_enabled", True, FUN | PARA),
    ("timestamp_alignment_enabled", True, PARA),
    ("language", "zh", QWEN3),
    ("enable_itn", True, QWEN3),
    ("enable_words", True, QWEN3),
    ("corpus", {"text": "Quarterly report\nof the lab"}, QWEN3),
    ("text", "Quarterly report", QWEN3),
    ("vocabulary", {"word": 4, "阿里巴巴": 50}, AUDIO),
    ("context", [{"role": "user", "content": [{"type": "input_text", "text": "会议主题\n季度汇报"}]}] * 2, AUDIO),
    ("keep_dialect", True, {"qwen-audio-3.1-asr-flash-filetrans"}),
    ("audio_event_detection_enabled", True, set()),
]
CELLS = [(name, value, model, model in models) for name, value, models in ACCEPTED_BY for model in MODELS]


def faults_of(model: str, parameters: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(InvalidRequest) as caught:
        validate_parameters(MODELS[model], parameters)
    assert caught.value.code == "validation_failed"
    return [(fault.pointer, fault.detail) for fault in caught.value.faults]


@pytest.mark.parametrize(("name", "value", "model", "accepted"), CELLS)
def test_model_accepts_its_own_parameters_only(name: str, value: Any, model: str, accepted: bool) -> None:
    needed = {"diarization_enabled": True} if name == "speaker_count" and accepted else {}
    if accepted:
        assert validate_parameters(MODELS[model], {name: value, **needed}).keys() == {name, *needed}
    else:
        pointers = [pointer for pointer, _ in faults_of(model, {name: value})]
        assert pointers == [f"/parameters/{name}"]


def test_table_has_every_parameter_of_the_catalogue() -> None:
    defined = {parameter.name for model in MODELS.values() for parameter in model.parameters}
    assert defined == {name for name, _, models in ACCEPTED_BY if models}


def test_error_of_an_unsupported_parameter_names_the_models_that_support_it() -> None:
    [(_, detail)] = faults_of("fun-asr", {"phrase_id": "x"})
    assert detail == (
        "is not supported by fun-asr; leave it out or use one of paraformer-v1, paraformer-8k-v1, paraformer-mtl-v1"
    )


def test_error_of_a_language_names_the_models_that_support_it() -> None:
    [(_, detail)] = faults_of("paraformer-v2", {"language_hints": ["zh", "ca"]})
    assert detail == "needs one of zh, en, ja, yue, ko, de, fr, ru; got 'ca'; supported by sensevoice-v1"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("speaker_counts", "you may mean speaker_count"), ("temperature", "fun-asr accepts language_hints,")],
)
def test_error_of_an_unknown_parameter_suggests_a_name_or_lists_all(name: str, hint: str) -> None:
    [(pointer, detail)] = faults_of("fun-asr", {name: 1})
    assert pointer == f"/parameters/{name}"
    assert hint in detail


@pytest.mark.parametrize(
    ("model", "parameters", "pointer", "detail"),
    [
        ("fun-asr", {"language_hints": "zh"}, "/parameters/language_hints", "an array of strings, got a string"),
        ("fun-asr", {"language_hints": []}, "/parameters/language_hints", "elements, got 0"),
        ("fun-asr", {"language_hints": ["zh", "xx"]}, "/parameters/language_hints/1", "got 'xx'"),
        ("fun-asr", {"language_hints": ["zh", "zh"]}, "/parameters/language_hints/1", "occurs twice"),
        ("fun-asr", {"language_hints": ["zh", 5]}, "/parameters/language_hints/1", "got a number"),
        ("fun-asr-2025-08-25", {"language_hints": ["ja"]}, "/parameters/language_hints/0", "one of zh, en;"),
        ("paraformer-v2", {"language_hints": ["es"]}, "/parameters/language_hints/0", "yue"),
        ("sensevoice-v1", {"language_hints": ["zh", "en"]}, "/parameters/language_hints", "exactly 1 element,"),
        ("fun-asr", {"channel_id": 0}, "/parameters/channel_id", "an array of integers, got a number"),
        ("fun-asr", {"channel_id": []}, "/parameters/channel_id", "1 to 64 elements"),
        ("fun-asr", {"channel_id": [0, -1]}, "/parameters/channel_id/1", "an integer from 0 to 63"),
        ("fun-asr", {"channel_id": [64]}, "/parameters/channel_id/0", "an integer from 0 to 63"),
        ("fun-asr", {"channel_id": [0, 0]}, "/parameters/channel_id/1", "occurs twice"),
        ("fun-asr", {"channel_id": [True]}, "/parameters/channel_id/0", "an integer from 0 to 63, got true"),
        ("fun-asr", {"channel_id": [1.0]}, "/parameters/channel_id/0", "got a number"),
        ("fun-asr", {"diarization_enabled": 1}, "/parameters/diarization_enabled", "true or false"),
        ("fun-asr", {"diarization_enabled": "true"}, "/parameters/diarization_enabled", "true or false"),
        ("fun-asr", {"diarization_enabled": None}, "/parameters/diarization_enabled", "null; leave the field out"),
        ("fun-asr", {"speaker_count": 2}, "/parameters/speaker_count", "requires diarization_enabled"),
        ("fun-asr", {"vocabulary_id": ""}, "/parameters/vocabulary_id", "not blank"),
        ("fun-asr", {"vocabulary_id": "a\x00b"}, "/parameters/vocabulary_id", "without control characters"),
        ("fun-asr", {"vocabulary_id": "a\ud800"}, "/parameters/vocabulary_id", "lone surrogates"),
        ("fun-asr", {"vocabulary_id": "v" * 129}, "/parameters/vocabulary_id", "at most 128 characters"),
        ("paraformer-v1", {"phrase_id": ["p"]}, "/parameters/phrase_id", "a string that is not blank"),
        ("qwen3-asr-flash-filetrans", {"language": "auto"}, "/parameters/language", "one of zh, yue,"),
        ("qwen3-asr-flash-filetrans", {"corpus": "x"}, "/parameters/corpus", "an object, got a string"),
        ("qwen3-asr-flash-filetrans", {"corpus": {}}, "/parameters/corpus/text", "is required"),
        ("qwen3-asr-flash-filetrans", {"corpus": {"text": "x"}, "text": "x"}, "/parameters/text", "one of the two"),
        ("fun-asr", {"a/b~c": 1}, "/parameters/a~1b~0c", "is not known to any model"),
        ("fun-asr", {"\ud800": 1}, "/parameters/?", "is not known to any model"),
    ],
)
def test_fault_of_a_value_has_a_pointer_and_the_valid_values(
    model: str, parameters: dict[str, Any], pointer: str, detail: str
) -> None:
    [(found_pointer, found_detail)] = faults_of(model, parameters)
    assert found_pointer == pointer
    assert detail in found_detail


@pytest.mark.parametrize(
    ("value", "pointer", "detail"),
    [
        (1, "", "an object, got a number"),
        ("no json", "", "this string is not JSON"),
        ("[" * 20_000, "", "this string is not JSON"),
        ("9" * 5_000, "", "this string is not JSON"),
        ("[]", "", "in its JSON, the value needs an object"),
        ('{"filter_with_empty": {}}', "", "/filter_with_empty/word_list is required"),
        ({"filter_with_signed": {}}, "/filter_with_signed/word_list", "is required"),
        ({"filter_with_signed": {"word_list": ["a", 1]}}, "/filter_with_signed/word_list/1", "a string"),
        ({"filter_with_empty": {"word_list": [""]}}, "/filter_with_empty/word_list/0", "not blank"),
        ({"filter_with_empty": {"word_list": "um"}}, "/filter_with_empty/word_list", "an array of strings"),
        ({"system_reserved_filter": "true"}, "/system_reserved_filter", "true or false"),
        ({"system": True}, "/system", "use filter_with_signed, filter_with_empty"),
    ],
)
def test_fault_of_a_word_filter_has_a_pointer_and_the_valid_values(value: Any, pointer: str, detail: str) -> None:
    [(found_pointer, found_detail)] = faults_of("fun-asr", {"special_word_filter": value})
    assert found_pointer == "/parameters/special_word_filter" + pointer
    assert detail in found_detail


@pytest.mark.parametrize(("count", "valid"), [(1, False), (2, True), (100, True), (101, False)])
def test_speaker_count_must_be_2_to_100(count: int, valid: bool) -> None:
    parameters = {"diarization_enabled": True, "speaker_count": count}
    if valid:
        assert validate_parameters(MODELS["fun-asr"], parameters) == parameters
    else:
        assert faults_of("fun-asr", parameters) == [("/parameters/speaker_count", "needs an integer from 2 to 100")]


def test_error_lists_all_faults() -> None:
    faults = faults_of("sensevoice-v1", {"channel_id": ["0"], "speaker_count": 2, "nonsense": 1})
    assert [pointer for pointer, _ in faults] == [
        "/parameters/channel_id/0",
        "/parameters/speaker_count",
        "/parameters/nonsense",
    ]


def test_number_of_listed_faults_is_limited() -> None:
    assert len(faults_of("fun-asr", {f"unknown_{index}": 1 for index in range(100_000)})) == 100


def test_sample_of_the_founding_document_is_accepted() -> None:
    job = validate_job(model="fun-asr", region="auto", parameters={"language_hints": ["zh", "en"]}, served=BOTH)
    assert (job.model.id, job.region, job.parameters) == (
        "fun-asr",
        "beijing",
        {"language_hints": ["zh", "en"]},
    )


def test_job_with_invalid_parameters_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="/parameters/speaker_count requires diarization_enabled"):
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
def test_region_auto_selects_the_first_served_region_that_offers_the_model(
    model: str, region: Literal["auto"] | RegionName, served: Sequence[RegionName], chosen: RegionName
) -> None:
    assert validate_job(model=model, region=region, parameters={}, served=served).region == chosen


@pytest.mark.parametrize("served", [["beijing"], ["singapore"], []])
def test_model_is_refused_in_a_region_that_does_not_offer_it(served: list[RegionName]) -> None:
    with pytest.raises(ModelNotInRegion, match="use beijing") as caught:
        validate_job(model="sensevoice-v1", region="singapore", parameters={}, served=served)
    assert [fault.pointer for fault in caught.value.faults] == ["/region"]


@pytest.mark.parametrize(
    ("model", "region", "served", "sentence"),
    [
        ("fun-asr", "beijing", ["singapore"], "it serves singapore; .* DASHSCOPE_BEIJING_API_KEY"),
        ("paraformer-v2", "auto", ["singapore"], "offered in beijing, .* DASHSCOPE_BEIJING_API_KEY"),
        ("fun-asr", "auto", [], "no region; .* DASHSCOPE_BEIJING_API_KEY or DASHSCOPE_SINGAPORE_API_KEY"),
    ],
)
def test_error_of_a_region_without_a_key_names_the_variable(
    model: str, region: Literal["auto"] | RegionName, served: Sequence[RegionName], sentence: str
) -> None:
    with pytest.raises(RegionNotServed, match=sentence) as caught:
        validate_job(model=model, region=region, parameters={}, served=served)
    assert [fault.pointer for fault in caught.value.faults] == ["/region"]


def test_unknown_model_is_refused_before_other_faults() -> None:
    with pytest.raises(UnknownModel):
        validate_job(model="nova", region="beijing", parameters={"x": 1}, served=[])


AUDIO_3 = "qwen-audio-3.1-asr-flash-filetrans"


@pytest.mark.parametrize(
    ("parameters", "pointer", "detail"),
    [
        ({"vocabulary": {"a": 6}}, "/parameters/vocabulary/a", "an integer from 1 to 5 or 50"),
        ({"vocabulary": {"a": True}}, "/parameters/vocabulary/a", "an integer from 1 to 5 or 50, got true"),
        ({"vocabulary": {" ": 4}}, "/parameters/vocabulary/ ", "a name that is not blank"),
        ({"vocabulary": {"a\u0007": 4}}, "/parameters/vocabulary/a\u0007", "no control characters"),
        ({"vocabulary": dict.fromkeys(map(str, range(2001)), 1)}, "/parameters/vocabulary", "at most 2,000 names"),
        ({"vocabulary": dict.fromkeys(map(str, range(51)), 50)}, "/parameters/vocabulary", "51 words the weight 50"),
        ({"vocabulary": ["a"]}, "/parameters/vocabulary", "an object, got an array"),
        ({"context": [{"role": "system", "content": []}]}, "/parameters/context/0/role", "user, assistant"),
        ({"context": [{"role": "user"}]}, "/parameters/context/0/content", "is required"),
        (
            {"context": [{"role": "user", "content": [{"type": "text", "text": "x" * 401}]}]},
            "/parameters/context/0/content/0/text",
            "at most 400 characters",
        ),
    ],
)
def test_hot_words_and_context_of_qwen_audio_are_checked(parameters: dict[str, Any], pointer: str, detail: str) -> None:
    faults = dict(faults_of(AUDIO_3, parameters))
    assert detail in faults[pointer]


def test_weight_50_is_allowed_for_50_words() -> None:
    assert validate_parameters(MODELS[AUDIO_3], {"vocabulary": dict.fromkeys(map(str, range(50)), 50)})
