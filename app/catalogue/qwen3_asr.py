"""The Qwen3-ASR models for files. Source: the vendor's pages of 2026. The founding document does not list them.

A task has one file. The request has `input.file_url`, the response `output.result` and `usage.seconds`.
"""

from collections.abc import Mapping

from app.catalogue import parameters as p
from app.catalogue.defaults import (
    ALL_ACCESS,
    FORMATS,
    MAX_DURATION_S,
    MAX_FILE_BYTES,
    QUERY_RPS,
    cny,
    codes,
    replaced_by,
)
from app.catalogue.links import QWEN3_ASR_LINKS
from app.catalogue.model import Deprecation, Family, Feature, FeatureAvailability, Model, SampleRates
from app.catalogue.scenarios import recommended_for

_LANGUAGES = codes("zh yue en ja de ko ru fr pt ar it es hi id th tr uk vi cs da fil fi is ms no pl sv")
_FEATURES: Mapping[Feature, FeatureAvailability] = {
    "emotion": "always",
    "timestamps": "always",
    "punctuation": "always",
    "hot_words": "no",
    "itn": "optional",
    "singing": "always",
    "noise_rejection": "always",
    "sensitive_words": "no",
    "diarization": "no",
    "filler_removal": "no",
    "vad": "always",
}
_NOTES = (
    "Sentences always carry times; words come only with enable_words.",
    "Formats and sample rates are taken from the other families.",
    "DashScope's pages disagree whether context is called text or corpus. In a field test, neither had an effect.",
)
# One in each sentence.
EMOTIONS = ("surprised", "neutral", "happy", "sad", "disgusted", "angry", "fearful")
_SUBMITS_PER_MINUTE = 100


def _model(model_id: str, *, alias_of: str | None = None, deprecation: Deprecation | None = None) -> Model:
    return Model(
        id=model_id,
        family=Family.QWEN3_ASR,
        alias_of=alias_of,
        regions=cny(beijing="0.00022", singapore="0.00026"),
        languages=_LANGUAGES,
        dialects="Chinese: Mandarin and several dialects, among them Cantonese and Sichuanese.",
        dialects_zh=None,
        sample_rates=SampleRates(),
        formats=FORMATS,
        max_file_bytes=MAX_FILE_BYTES,
        max_duration_s=MAX_DURATION_S,
        max_files_per_task=1,
        submit_rps=_SUBMITS_PER_MINUTE / 60,
        query_rps=QUERY_RPS,
        features=_FEATURES,
        parameters=(p.language(_LANGUAGES), p.CHANNEL_ID, p.ENABLE_ITN, p.ENABLE_WORDS, p.CORPUS, p.TEXT),
        access=ALL_ACCESS,
        links=QWEN3_ASR_LINKS,
        deprecation=deprecation,
        scenarios=recommended_for(model_id),
        notes=_NOTES,
        input_style="file_url",
        emotions=EMOTIONS,
    )


QWEN3_ASR = (
    _model("qwen3-asr-flash-filetrans", alias_of="qwen3-asr-flash-filetrans-2025-11-17"),
    _model("qwen3-asr-flash-filetrans-2025-11-17", deprecation=replaced_by("qwen3-asr-flash-filetrans")),
)
