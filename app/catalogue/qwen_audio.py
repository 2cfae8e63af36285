"""The Qwen-Audio models for files. Source: the vendor's pages of 2026. The founding document does not list them.

Version 3.0 is billed by second, version 3.1 by token. Results have the form of Fun-ASR's.
"""

from collections.abc import Mapping
from decimal import Decimal

from app.catalogue import parameters as p
from app.catalogue.defaults import ALL_ACCESS, FORMATS, MAX_DURATION_S, MAX_FILE_BYTES, QUERY_RPS, cny, codes
from app.catalogue.links import QWEN_AUDIO_LINKS
from app.catalogue.model import (
    Family,
    Feature,
    FeatureAvailability,
    Model,
    Parameter,
    RegionalPrice,
    RegionName,
    SampleRates,
)

_LANGUAGES = codes("zh en ja ko vi th id ms tl hi ar fr de es pt ru it nl sv da fi no el pl cs hu ro bg hr sk")
_DIALECTS = (
    "Chinese: Mandarin and the dialects of Shanghai, Nanchang, Ningbo, Hakka, Hangzhou, Wenzhou, Hunan, Fujian, "
    "Cantonese and Suzhou."
)
_DIALECTS_ZH = "中文（普通话、上海话、南昌话、宁波话、客家话、杭州话、温州话、湖南话、福建话、粤语、苏州话）"
_HINTS = p.language_hints(
    _LANGUAGES, default=None, note="Only the first four are honoured; without it the language is detected."
)
_FEATURES: Mapping[Feature, FeatureAvailability] = {
    "emotion": "no",
    "timestamps": "always",
    "punctuation": "always",
    "hot_words": "optional",
    "itn": "always",
    "singing": "no",
    "noise_rejection": "no",
    "sensitive_words": "optional",
    "diarization": "optional",
    "filler_removal": "no",
    "vad": "always",
}
_ONE_FILE_NOTE = "DashScope's pages allow one URL per request. A job may have more files."
_FEATURES_NOTE = "Formats and limits are taken from the other families. Features without a page count as missing."
_YUAN_NOTE = "The price in Singapore is published as 0.000035 USD, which is the price of fun-asr there."
_TOKENS_NOTE = (
    "Billed by token. The cost is that of the tokens in upstream's usage; a file without them has no cost. "
    "The prices are published in US dollars."
)


def _usd_per_million(input_tokens: str, output_tokens: str) -> RegionalPrice:
    return RegionalPrice(
        price_per_million_input_tokens=Decimal(input_tokens),
        price_per_million_output_tokens=Decimal(output_tokens),
        currency="USD",
    )


def _model(
    model_id: str, regions: Mapping[RegionName, RegionalPrice], notes: tuple[str, ...], *own: Parameter
) -> Model:
    return Model(
        id=model_id,
        family=Family.QWEN_AUDIO,
        alias_of=None,
        regions=regions,
        languages=_LANGUAGES,
        dialects=_DIALECTS,
        dialects_zh=_DIALECTS_ZH,
        sample_rates=SampleRates(),
        formats=FORMATS,
        max_file_bytes=MAX_FILE_BYTES,
        max_duration_s=MAX_DURATION_S,
        max_files_per_task=1,
        submit_rps=10.0,
        query_rps=QUERY_RPS,
        features=_FEATURES,
        parameters=(
            _HINTS,
            p.CHANNEL_ID,
            p.DIARIZATION_ENABLED,
            p.SPEAKER_COUNT,
            p.VOCABULARY_ID,
            p.VOCABULARY,
            p.SPECIAL_WORD_FILTER,
            p.CONTEXT,
            *own,
        ),
        access=ALL_ACCESS,
        links=QWEN_AUDIO_LINKS,
        deprecation=None,
        scenarios=(),
        notes=(*notes, _ONE_FILE_NOTE, _FEATURES_NOTE),
    )


QWEN_AUDIO = (
    _model(
        "qwen-audio-3.0-asr-flash-filetrans",
        cny(beijing="0.00022", singapore="0.00026"),
        (_YUAN_NOTE,),
    ),
    _model(
        "qwen-audio-3.1-asr-flash-filetrans",
        {"beijing": _usd_per_million("0.113", "0.382"), "singapore": _usd_per_million("0.15", "0.47")},
        (_TOKENS_NOTE,),
        p.KEEP_DIALECT,
    ),
)
