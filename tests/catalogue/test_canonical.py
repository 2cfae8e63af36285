"""Parameters with the same meaning become equal, and any input is valid or refused."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalogue import MODELS, validate_parameters
from app.errors import InvalidRequest

NAMES = sorted({parameter.name for model in MODELS.values() for parameter in model.parameters})
# Characters that need care: escapes of JSON and JSON pointers, NUL, a lone surrogate, wide characters.
WORD = st.text('ab嗯é𠮷"\\/', min_size=1, max_size=8)
NASTY = st.text('ab/~"\\ \n\x00\x7f\ud800嗯', max_size=12)
WORDS = st.fixed_dictionaries({"word_list": st.lists(WORD, max_size=3, unique=True)})
FILTER = st.fixed_dictionaries(
    {}, optional={"filter_with_signed": WORDS, "filter_with_empty": WORDS, "system_reserved_filter": st.booleans()}
)
VALID = st.fixed_dictionaries(
    {},
    optional={
        "language_hints": st.lists(st.sampled_from(["zh", "en", "ja", "ru"]), min_size=1, unique=True),
        "channel_id": st.lists(st.integers(0, 15), min_size=1, unique=True),
        "diarization_enabled": st.booleans(),
        "vocabulary_id": WORD,
        "special_word_filter": FILTER | FILTER.map(lambda value: json.dumps(value, indent=1)),
        "timestamp_alignment_enabled": st.booleans(),
    },
)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | NASTY,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["word_list", "text", "filter_with_signed"]) | NASTY, inner, max_size=4)
    ),
    max_leaves=12,
)
MODEL = st.sampled_from(list(MODELS.values()))
PARAFORMER_V2 = MODELS["paraformer-v2"]


@given(parameters=VALID)
def test_canonical_parameters_are_complete_and_stable(parameters: dict[str, Any]) -> None:
    once = validate_parameters(PARAFORMER_V2, parameters)
    assert validate_parameters(PARAFORMER_V2, once) == once
    assert list(once) == sorted(parameters)


@given(model=MODEL, parameters=st.dictionaries(st.sampled_from(NAMES) | NASTY, JUNK, max_size=5))
def test_any_input_is_valid_or_raises_invalid_request(model: Any, parameters: dict[str, Any]) -> None:
    with contextlib.suppress(InvalidRequest):
        json.dumps(validate_parameters(model, parameters), allow_nan=False, ensure_ascii=False).encode()


@given(model=MODEL, parameters=st.dictionaries(NASTY, JUNK, min_size=1, max_size=5))
def test_error_can_always_be_encoded(model: Any, parameters: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        validate_parameters(model, parameters)
    texts = [caught.value.detail]
    texts += [text for fault in caught.value.faults for text in (fault.pointer, fault.detail)]
    assert "".join(texts).encode()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"channel_id": [1, 0]}, {"channel_id": [0, 1]}),
        (
            {"special_word_filter": '{ "system_reserved_filter": true,\n "filter_with_empty": {"word_list": ["嗯"]} }'},
            {"special_word_filter": {"filter_with_empty": {"word_list": ["嗯"]}, "system_reserved_filter": True}},
        ),
        (
            {"special_word_filter": '{"filter_with_empty": {"word_list": ["\\u55ef"]}}'},
            {"special_word_filter": {"filter_with_empty": {"word_list": ["嗯"]}}},
        ),
    ],
)
def test_parameters_with_the_same_meaning_become_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert validate_parameters(PARAFORMER_V2, one) == validate_parameters(PARAFORMER_V2, other)


def test_order_of_language_hints_is_preserved() -> None:
    hints = {"language_hints": ["zh", "en"]}
    assert validate_parameters(MODELS["fun-asr"], hints) == hints


def test_word_filter_becomes_the_string_that_dashscope_documents() -> None:
    given_filter = {"system_reserved_filter": True, "filter_with_signed": {"word_list": ["测试"]}}
    assert validate_parameters(PARAFORMER_V2, {"special_word_filter": given_filter}) == {
        "special_word_filter": '{"filter_with_signed":{"word_list":["测试"]},"system_reserved_filter":true}'
    }


def test_validation_does_not_change_its_input() -> None:
    parameters = {"channel_id": [1, 0]}
    validate_parameters(PARAFORMER_V2, parameters)
    assert parameters == {"channel_id": [1, 0]}
