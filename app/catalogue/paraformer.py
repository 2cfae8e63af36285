"""The Paraformer models, in Beijing only. Source: founding document. Hints of paraformer-v2: its API page."""

from collections.abc import Mapping

from app.catalogue import parameters as p
from app.catalogue.defaults import (
    ALL_ACCESS,
    FORMATS,
    MAX_DURATION_S,
    MAX_FILE_BYTES,
    MAX_FILES_PER_TASK,
    QUERY_RPS,
    cny,
    replaced_by,
)
from app.catalogue.links import PARAFORMER_LINKS
from app.catalogue.model import Deprecation, Family, Feature, FeatureAvailability, Model, Parameter, SampleRates
from app.catalogue.scenarios import recommended_for

_MTL_DIALECTS = (
    "Mandarin, Cantonese, Wu, Minnan, and the dialects of the Northeast, Gansu, Guizhou, Henan, Hubei, Hunan, Ningxia, "
    "Shanxi, Shaanxi, Shandong, Sichuan, Tianjin"
)
_MTL_DIALECTS_ZH = (
    "普通话、粤语、吴语、闽南语、东北话、甘肃话、贵州话、河南话、湖北话、"
    "湖南话、宁夏话、山西话、陕西话、山东话、四川话、天津话"
)
_HINTS = p.language_hints(
    ("zh", "en", "ja", "yue", "ko", "de", "fr", "ru"),
    default=("zh", "en"),
    note="Several may be given for mixed speech.",
)
_ANY_RATE = SampleRates()
_8_KHZ = SampleRates(minimum_hz=8_000, maximum_hz=8_000)
_FROM_16_KHZ = SampleRates(minimum_hz=16_000)
_FEATURES: Mapping[Feature, FeatureAvailability] = {
    "emotion": "no",
    "timestamps": "optional",
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
_TIMESTAMPS_NOTE = (
    "Timestamps are always there: the founding document says that they are off by default and can be enabled, but "
    "its sample has them without an option, and no page names a parameter that switches them."
)
_RATE_NOTE = "Pages of 2026 also name a limit of {} concurrent tasks."
_SUCCESSOR_NOTE = "The successor is read from a table with merged cells."


def _model(
    model_id: str,
    languages: tuple[str, ...],
    dialects: str,
    dialects_zh: str,
    *,
    sample_rates: SampleRates,
    submit_rps: float,
    own: tuple[Parameter, ...],
    deprecation: Deprecation | None = None,
    notes: tuple[str, ...] = (),
) -> Model:
    return Model(
        id=model_id,
        family=Family.PARAFORMER,
        alias_of=None,
        regions=cny(beijing="0.00008"),
        languages=languages,
        dialects=dialects,
        dialects_zh=dialects_zh,
        sample_rates=sample_rates,
        formats=FORMATS,
        max_file_bytes=MAX_FILE_BYTES,
        max_duration_s=MAX_DURATION_S,
        max_files_per_task=MAX_FILES_PER_TASK,
        submit_rps=submit_rps,
        query_rps=QUERY_RPS,
        features=_FEATURES,
        parameters=(
            *own,
            p.CHANNEL_ID,
            p.DIARIZATION_ENABLED,
            p.SPEAKER_COUNT,
            p.SPECIAL_WORD_FILTER,
            p.DISFLUENCY_REMOVAL_ENABLED,
            p.TIMESTAMP_ALIGNMENT_ENABLED,
        ),
        access=ALL_ACCESS,
        links=PARAFORMER_LINKS,
        deprecation=deprecation,
        scenarios=recommended_for(model_id),
        notes=(_TIMESTAMPS_NOTE, *notes),
        on_by_default=("timestamps", "sensitive_words"),
    )


PARAFORMER = (
    _model(
        "paraformer-v2",
        ("zh", "yue", "en", "ja", "ko", "de", "fr", "ru"),
        f"Chinese: {_MTL_DIALECTS}, Jiangxi, Yunnan and Shanghai.",
        f"中文（{_MTL_DIALECTS_ZH}、江西话、云南话、上海话）",
        sample_rates=_ANY_RATE,
        submit_rps=20.0,
        own=(_HINTS, p.VOCABULARY_ID),
    ),
    _model(
        "paraformer-8k-v2",
        ("zh",),
        "Chinese: Mandarin.",
        "中文普通话",
        sample_rates=_8_KHZ,
        submit_rps=20.0,
        own=(p.VOCABULARY_ID,),
        notes=("Hot words: Chinese words only.", _RATE_NOTE.format(100)),
    ),
    _model(
        "paraformer-v1",
        ("zh", "en"),
        "Chinese: Mandarin.",
        "中文普通话",
        sample_rates=_ANY_RATE,
        submit_rps=10.0,
        own=(p.PHRASE_ID,),
        deprecation=replaced_by("paraformer-v2"),
        notes=(_SUCCESSOR_NOTE,),
    ),
    _model(
        "paraformer-8k-v1",
        ("zh",),
        "Chinese: Mandarin.",
        "中文普通话",
        sample_rates=_8_KHZ,
        submit_rps=10.0,
        own=(p.PHRASE_ID,),
        deprecation=replaced_by("paraformer-8k-v2"),
        notes=(_SUCCESSOR_NOTE, _RATE_NOTE.format(500)),
    ),
    _model(
        "paraformer-mtl-v1",
        ("zh", "en", "ja", "ko", "es", "id", "fr", "de", "it", "ms"),
        f"Chinese: {_MTL_DIALECTS}.",
        f"中文（{_MTL_DIALECTS_ZH}）",
        sample_rates=_FROM_16_KHZ,
        submit_rps=10.0,
        own=(p.PHRASE_ID,),
        deprecation=replaced_by("paraformer-v2"),
        notes=(_SUCCESSOR_NOTE,),
    ),
)
