"""The limits of hot-word lists, for all models."""

from dataclasses import replace

import pytest

from app.catalogue import MODELS
from app.catalogue.hot_words import HotWord, languages, max_words, takes_vocabularies, vocabulary_faults, word_faults

# Models of this family are known by their names only.
SUPER = replace(MODELS["fun-asr"], id="qwen-audio-3.1-asr-flash-filetrans", alias_of=None)


def words(count: int, weight: int = 4) -> list[HotWord]:
    return [HotWord(f"word {number}", weight) for number in range(count)]


def test_models_with_lists_are_those_that_take_a_vocabulary_id() -> None:
    assert {model.id for model in MODELS.values() if takes_vocabularies(model)} >= {
        "fun-asr",
        "fun-asr-mtl",
        "paraformer-v2",
        "paraformer-8k-v2",
    }
    for model in ("sensevoice-v1", "paraformer-v1", "qwen3-asr-flash-filetrans"):
        assert [fault.pointer for fault in vocabulary_faults(MODELS[model], "a", words(1))] == ["/target_model"]


@pytest.mark.parametrize(
    ("model", "most"),
    [
        (MODELS["fun-asr"], 2000),
        (MODELS["fun-asr-mtl"], 2000),
        (MODELS["fun-asr-2025-11-07"], 500),
        (MODELS["paraformer-v2"], 500),
        (SUPER, 2000),
    ],
    ids=lambda value: getattr(value, "id", None),
)
def test_number_of_entries_is_limited_by_the_model(model: object, most: int) -> None:
    assert max_words(model) == most  # type: ignore[arg-type]
    assert not word_faults(model, words(most))  # type: ignore[arg-type]
    assert word_faults(model, words(most + 1))[0].pointer == "/vocabulary"  # type: ignore[arg-type]


def test_fifty_words_of_some_models_may_have_the_highest_weight() -> None:
    assert not word_faults(SUPER, words(50, weight=50))
    assert [fault.pointer for fault in word_faults(SUPER, words(51, weight=50))] == ["/vocabulary"]
    assert [fault.pointer for fault in word_faults(SUPER, words(1, weight=6))] == ["/vocabulary/0/weight"]
    assert [fault.pointer for fault in word_faults(MODELS["fun-asr"], words(1, weight=50))] == ["/vocabulary/0/weight"]


def test_language_is_one_of_the_hints_of_the_model() -> None:
    assert "fr" in languages(MODELS["fun-asr"])
    assert "fr" in languages(MODELS["paraformer-v2"])
    assert languages(MODELS["paraformer-8k-v2"]) == ("zh",)
    fault = word_faults(MODELS["fun-asr"], [HotWord("x", 4, "EN")])[0]
    assert fault.detail.endswith("you may mean en")


@pytest.mark.parametrize("text", ["a" * 500, "a b c d e f g", " a  b ", "字" * 15, "Ünïcödé 15 chr", "𠮷" * 15])
def test_texts_at_the_limits_are_accepted(text: str) -> None:
    assert not word_faults(MODELS["fun-asr"], [HotWord(text, 4)])


@pytest.mark.parametrize("text", ["", "\u3000", "a b c d e f g h", "字" * 16, "é" + "a" * 15, "a\ud800", "a\nb"])
def test_texts_beyond_the_limits_are_refused(text: str) -> None:
    assert [fault.pointer for fault in word_faults(MODELS["fun-asr"], [HotWord(text, 4)])] == ["/vocabulary/0/text"]


def test_number_of_reported_faults_is_bounded() -> None:
    assert len(word_faults(MODELS["fun-asr"], [HotWord("", 0)] * 2000)) == 100
