"""The Fun-ASR models. Source: founding document. Hints: its languages and those of the API page of 2026."""

from collections.abc import Mapping

from app.catalogue import parameters as p
from app.catalogue.defaults import (
    ALL_ACCESS,
    ANNOUNCED_NOTE,
    FORMATS,
    MAX_DURATION_S,
    MAX_FILE_BYTES,
    MAX_FILES_PER_TASK,
    QUERY_RPS,
    cny,
    codes,
    replaced_by,
)
from app.catalogue.links import FUN_ASR_LINKS
from app.catalogue.model import Deprecation, Family, Feature, FeatureAvailability, Model, Parameter, SampleRates
from app.catalogue.scenarios import recommended_for

_CHINESE = (
    "Chinese: Mandarin, Cantonese, Wu, Minnan, Hakka, Gan, Xiang, Jin; Mandarin accents of Zhongyuan, Southwest, Jilu, "
    "Jianghuai, Lanyin, Jiaoliao, Northeast, Beijing, Hong Kong and Taiwan, among them Henan, Shaanxi, Hubei, Sichuan, "
    "Chongqing, Yunnan, Guizhou, Guangdong, Guangxi, Hebei, Tianjin, Shandong, Anhui, Nanjing, Jiangsu, Hangzhou, "
    "Gansu and Ningxia."
)
_CHINESE_ZH = (
    "中文（普通话、粤语、吴语、闽南语、客家话、赣语、湘语、晋语；并支持中原、西南、冀鲁、江淮、兰银、胶辽、东北、北京、港台等，"
    "包括河南、陕西、湖北、四川、重庆、云南、贵州、广东、广西、河北、天津、山东、安徽、南京、江苏、杭州、甘肃、宁夏等地区官话口音）"
)
_MULTILINGUAL = codes("zh en ja ko vi id th ms tl ar hi bg hr cs da nl et fi el hu ga lv lt mt pl pt ro sk sl sv")
_HINTS = codes(
    "zh en ja ko vi th id ms tl hi ar fr de es pt ru it nl sv da fi no el pl cs hu ro bg hr sk et ga lv lt mt sl"
)
_HINTS_NOTE = "Only the first is honoured; without it the language is detected."
_ALL_HINTS = p.language_hints(_HINTS, default=None, note=_HINTS_NOTE)
_ZH_EN_HINTS = p.language_hints(("zh", "en"), default=None, note=_HINTS_NOTE)

_FEATURES: Mapping[Feature, FeatureAvailability] = {
    "emotion": "no",
    "timestamps": "always",
    "punctuation": "always",
    "hot_words": "optional",
    "itn": "always",
    "singing": "no",
    "noise_rejection": "always",
    "sensitive_words": "optional",
    "diarization": "optional",
    "filler_removal": "optional",
    "vad": "always",
}
_FILLER_NOTE = (
    "disfluency_removal_enabled follows the founding document; DashScope's API page of 2026 does not list it."
)
_LANGUAGES_NOTE = "The founding document names Chinese, English and Japanese; pages of 2026 list 30 languages."
_MTL_DEPRECATION = f"{ANNOUNCED_NOTE} DashScope's model list of 2026-09-22 still has the model."
_MTL_NOTE = "Pages of 2026 limit submits in Singapore to 100 a minute; the founding document says 10 a second."


def _model(
    model_id: str,
    languages: tuple[str, ...],
    dialects: str,
    dialects_zh: str,
    *,
    alias_of: str | None = None,
    hints: Parameter = _ALL_HINTS,
    singing: FeatureAvailability = "no",
    deprecation: Deprecation | None = None,
    notes: tuple[str, ...] = (),
) -> Model:
    return Model(
        id=model_id,
        family=Family.FUN_ASR,
        alias_of=alias_of,
        regions=cny(beijing="0.00022", singapore="0.00026"),
        languages=languages,
        dialects=dialects,
        dialects_zh=dialects_zh,
        sample_rates=SampleRates(),
        formats=FORMATS,
        max_file_bytes=MAX_FILE_BYTES,
        max_duration_s=MAX_DURATION_S,
        max_files_per_task=MAX_FILES_PER_TASK,
        submit_rps=10.0,
        query_rps=QUERY_RPS,
        features={**_FEATURES, "singing": singing},
        parameters=(
            hints,
            p.CHANNEL_ID,
            p.DIARIZATION_ENABLED,
            p.SPEAKER_COUNT,
            p.VOCABULARY_ID,
            p.SPECIAL_WORD_FILTER,
            p.DISFLUENCY_REMOVAL_ENABLED,
        ),
        access=ALL_ACCESS,
        links=FUN_ASR_LINKS,
        deprecation=deprecation,
        scenarios=recommended_for(model_id),
        notes=(*notes, _FILLER_NOTE),
        on_by_default=("sensitive_words",),
    )


FUN_ASR = (
    _model(
        "fun-asr",
        ("zh", "en", "ja"),
        _CHINESE,
        _CHINESE_ZH,
        alias_of="fun-asr-2025-11-07",
        singing="always",
        notes=(_LANGUAGES_NOTE,),
    ),
    _model(
        "fun-asr-2025-11-07",
        ("zh", "en", "ja"),
        _CHINESE,
        _CHINESE_ZH,
        singing="always",
        deprecation=replaced_by("fun-asr"),
        notes=(_LANGUAGES_NOTE,),
    ),
    _model(
        "fun-asr-2025-08-25",
        ("zh", "en"),
        "Chinese: Mandarin.",
        "中文（普通话）",
        hints=_ZH_EN_HINTS,
        deprecation=replaced_by("fun-asr"),
    ),
    _model(
        "fun-asr-mtl",
        _MULTILINGUAL,
        "Chinese: Mandarin, Cantonese.",
        "中文（普通话、粤语）",
        alias_of="fun-asr-mtl-2025-08-25",
        deprecation=replaced_by("fun-asr", note=_MTL_DEPRECATION),
        notes=(_MTL_NOTE,),
    ),
    _model(
        "fun-asr-mtl-2025-08-25",
        _MULTILINGUAL,
        "Chinese: Mandarin, Cantonese.",
        "中文（普通话、粤语）",
        deprecation=replaced_by("fun-asr"),
        notes=(_MTL_NOTE,),
    ),
)
