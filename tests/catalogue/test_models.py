"""The catalogue has the facts of the founding document, and those of DashScope's pages for qwen3."""

import json
from datetime import date
from decimal import Decimal

import pytest

from app.catalogue import MODELS, SCENARIOS, Family, Model, describe, find_model
from app.catalogue.scenarios import BY_NAME
from app.errors import UnknownModel

EVERY_MODEL = list(MODELS.values())
FUN_ASR = ["fun-asr", "fun-asr-2025-11-07", "fun-asr-2025-08-25", "fun-asr-mtl", "fun-asr-mtl-2025-08-25"]
PARAFORMER = ["paraformer-v2", "paraformer-8k-v2", "paraformer-v1", "paraformer-8k-v1", "paraformer-mtl-v1"]
QWEN3 = ["qwen3-asr-flash-filetrans", "qwen3-asr-flash-filetrans-2025-11-17"]
AUDIO = ["qwen-audio-3.0-asr-flash-filetrans", "qwen-audio-3.1-asr-flash-filetrans"]

every_model = pytest.mark.parametrize("model", EVERY_MODEL, ids=lambda model: model.id)


def test_catalogue_has_the_models_of_the_founding_document_in_order_and_those_of_qwen() -> None:
    assert list(MODELS) == [*FUN_ASR, *PARAFORMER, "sensevoice-v1", *QWEN3, *AUDIO]


@pytest.mark.parametrize(
    ("ids", "family", "prices"),
    [
        (FUN_ASR, Family.FUN_ASR, {"beijing": "0.00022", "singapore": "0.00026"}),
        (PARAFORMER, Family.PARAFORMER, {"beijing": "0.00008"}),
        (["sensevoice-v1"], Family.SENSEVOICE, {"beijing": "0.0007"}),
        (QWEN3, Family.QWEN3_ASR, {"beijing": "0.00022", "singapore": "0.00026"}),
        (AUDIO[:1], Family.QWEN_AUDIO, {"beijing": "0.00022", "singapore": "0.00026"}),
    ],
)
def test_models_of_a_family_have_one_price_per_region(ids: list[str], family: Family, prices: dict[str, str]) -> None:
    for model in map(find_model, ids):
        assert model.family is family
        assert {name: str(price.price_per_second) for name, price in model.regions.items()} == {
            name: str(Decimal(price)) for name, price in prices.items()
        }
        assert {price.currency for price in model.regions.values()} == {"CNY"}
        assert {price.units for price in model.regions.values()} == {("seconds",)}


def test_qwen_audio_3_1_is_billed_by_token() -> None:
    regions = {each["region"]: each for each in describe(MODELS[AUDIO[1]])["regions"]}
    assert regions["beijing"] == {
        "region": "beijing",
        "units": ["input_tokens", "output_tokens"],
        "price_per_second": None,
        "price_per_million_input_tokens": "0.113",
        "price_per_million_output_tokens": "0.382",
        "currency": "USD",
    }
    assert regions["singapore"]["price_per_million_output_tokens"] == "0.47"


@every_model
def test_model_has_one_currency_because_a_job_may_change_its_region(model: Model) -> None:
    assert len({price.currency for price in model.regions.values()}) == 1


@every_model
def test_rates_are_those_of_the_documents(model: Model) -> None:
    expected = {"paraformer-v2": 20, "paraformer-8k-v2": 20} | dict.fromkeys(QWEN3, 100 / 60)
    assert model.submit_rps == expected.get(model.id, 10)
    assert model.query_rps == 20


@every_model
def test_three_models_limit_the_sample_rate(model: Model) -> None:
    expected = {
        "paraformer-8k-v2": (8000, 8000),
        "paraformer-8k-v1": (8000, 8000),
        "paraformer-mtl-v1": (16000, None),
    }
    rates = (model.sample_rates.minimum_hz, model.sample_rates.maximum_hz)
    assert rates == expected.get(model.id, (None, None))


@every_model
def test_limits_are_2_gb_12_hours_and_100_files(model: Model) -> None:
    assert model.max_file_bytes == 2 * 1024**3
    assert model.max_duration_s == (None if model.id == "sensevoice-v1" else 43_200)
    assert model.max_files_per_task == (1 if model.id in [*QWEN3, *AUDIO] else 100)
    assert len(model.formats) == len(set(model.formats)) == 17


@every_model
def test_only_qwen3_models_take_a_single_file_url(model: Model) -> None:
    assert model.input_style == ("file_url" if model.id in QWEN3 else "file_urls")


@pytest.mark.parametrize(
    ("feature", "fun_asr", "paraformer", "sensevoice", "qwen3"),
    [
        ("emotion", "no", "no", "always", "always"),
        ("timestamps", "always", "optional", "always", "always"),
        ("punctuation", "always", "always", "always", "always"),
        ("hot_words", "optional", "optional", "no", "no"),
        ("itn", "always", "always", "always", "optional"),
        ("singing", "always", "no", "no", "always"),
        ("noise_rejection", "always", "always", "no", "always"),
        ("sensitive_words", "optional", "optional", "no", "no"),
        ("diarization", "optional", "optional", "no", "no"),
        ("filler_removal", "optional", "optional", "no", "no"),
        ("vad", "always", "always", "no", "always"),
    ],
)
def test_features_are_those_of_the_feature_table(
    feature: str, fun_asr: str, paraformer: str, sensevoice: str, qwen3: str
) -> None:
    of_model = {model.id: dict(describe(model)["features"])[feature] for model in EVERY_MODEL}
    assert of_model["fun-asr"] == fun_asr
    assert {of_model[model_id] for model_id in PARAFORMER} == {paraformer}
    assert of_model["sensevoice-v1"] == sensevoice
    assert {of_model[model_id] for model_id in QWEN3} == {qwen3}


def test_singing_is_recognised_by_fun_asr_and_its_newest_snapshot() -> None:
    assert [name for name in FUN_ASR if MODELS[name].features["singing"] != "no"] == FUN_ASR[:2]


@every_model
def test_all_models_describe_the_same_features(model: Model) -> None:
    assert model.features.keys() == MODELS["fun-asr"].features.keys()


@pytest.mark.parametrize(
    ("model_id", "languages"),
    [
        ("fun-asr", "zh en ja"),
        ("fun-asr-2025-11-07", "zh en ja"),
        ("fun-asr-2025-08-25", "zh en"),
        ("paraformer-v2", "zh yue en ja ko de fr ru"),
        ("paraformer-8k-v2", "zh"),
        ("paraformer-v1", "zh en"),
        ("paraformer-8k-v1", "zh"),
        ("paraformer-mtl-v1", "zh en ja ko es id fr de it ms"),
    ],
)
def test_languages_are_those_of_the_founding_document(model_id: str, languages: str) -> None:
    assert MODELS[model_id].languages == tuple(languages.split())


@every_model
def test_no_language_is_listed_twice(model: Model) -> None:
    assert len(set(model.languages)) == len(model.languages)


@pytest.mark.parametrize(
    ("model_id", "count"), [("fun-asr-mtl", 30), ("sensevoice-v1", 52), ("qwen3-asr-flash-filetrans", 27)]
)
def test_long_lists_of_languages_are_complete(model_id: str, count: int) -> None:
    assert len(MODELS[model_id].languages) == count


@every_model
def test_aliases_and_replacements_are_other_models_of_the_catalogue(model: Model) -> None:
    named = {model.alias_of, model.deprecation and model.deprecation.replacement} - {None}
    assert named <= MODELS.keys() - {model.id}


@every_model
def test_replacement_has_no_announced_retirement(model: Model) -> None:
    if model.deprecation:
        assert model.deprecation.retires_at == date(2026, 10, 10)
        assert MODELS[model.deprecation.replacement].deprecation is None


def test_announced_retirements_are_listed() -> None:
    assert [model.id for model in EVERY_MODEL if not model.deprecation] == [
        "fun-asr",
        "paraformer-v2",
        "paraformer-8k-v2",
        "qwen3-asr-flash-filetrans",
        *AUDIO,
    ]


def test_alias_equals_its_snapshot_except_for_the_name() -> None:
    own = {"id", "version", "alias_of", "deprecation", "scenarios", "notes"}
    for model in EVERY_MODEL:
        if model.alias_of:
            stable, snapshot = describe(model), describe(MODELS[model.alias_of])
            assert {k: v for k, v in stable.items() if k not in own} == {
                k: v for k, v in snapshot.items() if k not in own
            }


def test_scenarios_recommend_models_of_the_catalogue() -> None:
    assert len(SCENARIOS) == 5
    assert {model for row in SCENARIOS for model in row.models} == {"fun-asr", "fun-asr-mtl", "paraformer-v2"}
    assert len(MODELS["fun-asr"].scenarios) == 4
    assert len(MODELS["paraformer-v2"].scenarios) == 2


@every_model
def test_description_is_plain_json(model: Model) -> None:
    description = describe(model)
    assert json.loads(json.dumps(description)) == description


def test_description_has_the_documented_fields() -> None:
    description = describe(MODELS["paraformer-8k-v1"])
    assert description["regions"] == [
        {
            "region": "beijing",
            "units": ["seconds"],
            "price_per_second": "0.00008",
            "price_per_million_input_tokens": None,
            "price_per_million_output_tokens": None,
            "currency": "CNY",
        }
    ]
    assert (description["version"], description["channels"], description["access"]) == (
        "stable",
        "any",
        ["rest", "python", "java", "android", "ios"],
    )
    assert description["sample_rates"] == {"minimum_hz": 8000, "maximum_hz": 8000}
    deprecation = description["deprecation"]
    assert (deprecation["retires_at"], deprecation["replacement"]) == ("2026-10-10", "paraformer-8k-v2")
    assert description["rate_limits"] == {"submit_rps": 10.0, "query_rps": 20.0}
    assert next(p for p in description["parameters"] if p["name"] == "speaker_count") == {
        "name": "speaker_count",
        "type": "integer",
        "items": None,
        "default": None,
        "minimum": 2,
        "maximum": 100,
        "values": None,
        "max_length": None,
        "max_items": None,
        "description": "Expected number of speakers. The result may have another number. Requires diarization_enabled.",
    }
    assert describe(MODELS["fun-asr"])["deprecation"] is None


def test_error_of_a_misspelt_model_suggests_a_model() -> None:
    with pytest.raises(UnknownModel) as caught:
        find_model("Paraformer-V3")
    assert caught.value.faults[0].pointer == "/model"
    assert "you may mean paraformer-v2" in caught.value.detail


@pytest.mark.parametrize("model_id", ["", "whisper-1", "\ud800\x00", "x" * 100_000])
def test_error_of_an_unknown_model_lists_the_models_and_stays_short(model_id: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        find_model(model_id)
    assert "it has fun-asr," in caught.value.detail
    assert len(caught.value.detail.encode()) < 500


@every_model
def test_snapshots_have_a_date_in_their_id(model: Model) -> None:
    assert (model.version == "snapshot") == ("-2025-" in model.id)


def test_sensevoice_has_no_sdk_for_phones() -> None:
    assert MODELS["sensevoice-v1"].access == ("rest", "python", "java")


def test_sensevoice_is_soon_offline_in_the_words_of_the_founding_document() -> None:
    deprecation = MODELS["sensevoice-v1"].deprecation
    assert deprecation is not None
    assert (deprecation.note_zh, deprecation.deprecated_at) == ("即将下线", date(2026, 1, 27))


@every_model
def test_optional_features_have_a_default(model: Model) -> None:
    description = describe(model)
    optional = {name for name, availability in model.features.items() if availability == "optional"}
    assert description["feature_defaults"].keys() == optional
    assert set(model.on_by_default) <= optional


def test_platform_list_of_sensitive_words_applies_by_default() -> None:
    assert describe(MODELS["fun-asr"])["feature_defaults"] == {
        "hot_words": "off",
        "sensitive_words": "on",
        "diarization": "off",
        "filler_removal": "off",
    }
    assert "20230716.words.txt" in describe(MODELS["fun-asr"])["links"]["sensitive_words"]


def test_emotions_and_events_are_those_of_the_documents() -> None:
    described = {model.id: describe(model) for model in EVERY_MODEL}
    assert described["sensevoice-v1"]["emotions"] == ["NEUTRAL", "HAPPY", "ANGRY", "SAD"]
    assert described["sensevoice-v1"]["events"] == ["Speech", "Applause", "BGM", "Laughter"]
    assert described[QWEN3[0]]["emotions"][0] == "surprised"
    for model in EVERY_MODEL:
        assert bool(model.emotions) == (model.features["emotion"] == "always")


@every_model
def test_links_are_pages_of_alibaba_cloud(model: Model) -> None:
    assert {"guide", "models", "api_key", "sdk", "deployment_modes", "compliance"} <= model.links.keys()
    hosts = {url.split("/")[2] for url in model.links.values()}
    assert hosts <= {"help.aliyun.com", "www.alibabacloud.com", "dashscope.oss-cn-beijing.aliyuncs.com"}


def test_scenarios_are_found_by_id_and_by_name_in_both_languages() -> None:
    assert [BY_NAME[name].id for name in ("far_field", "智能硬件远场语音交互", SCENARIOS[4].scenario)] == [
        "far_field"
    ] * 3
