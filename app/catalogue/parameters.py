"""The parameters of all models, each defined once. Names, types and ranges: the upstream's API pages; where they
disagree about who accepts what, the founding document's feature table decides (protocol notes, section 2.3).
"""

import json
from typing import Any

from app.catalogue.model import Parameter
from app.catalogue.schema import ValueSchema

# The upstream names no upper bound for tracks; sixteen covers every recorder in its field.
_MAX_TRACKS = 16
# The upstream counts 10,000 tokens, which only it can count; this is certainly more.
_MAX_CONTEXT_CHARS = 100_000
_ID = ValueSchema("string", max_length=128)
_CONTEXT = ValueSchema("string", max_length=_MAX_CONTEXT_CHARS, multiline=True)
_WORDS = ValueSchema(
    "object",
    fields={"word_list": ValueSchema("array", items=ValueSchema("string", max_length=200), max_items=10_000)},
    required=("word_list",),
)

CHANNEL_ID = Parameter(
    "channel_id",
    ValueSchema(
        "array",
        items=ValueSchema("integer", minimum=0, maximum=_MAX_TRACKS - 1),
        min_items=1,
        max_items=_MAX_TRACKS,
        ordered=False,
    ),
    "Audio tracks to recognise, counted from 0. Each is recognised and billed by itself; ask only for tracks that "
    "the file has.",
    default=(0,),
)
DIARIZATION_ENABLED = Parameter(
    "diarization_enabled",
    ValueSchema("boolean"),
    "Tell speakers apart: adds speaker_id to sentences. Mono audio only, up to about 2 hours.",
    default=False,
)
SPEAKER_COUNT = Parameter(
    "speaker_count",
    ValueSchema("integer", minimum=2, maximum=100),
    "Expected number of speakers, a hint and no guarantee. Only together with diarization_enabled.",
)
VOCABULARY_ID = Parameter(
    "vocabulary_id",
    _ID,
    "Hot words: a vocabulary of the same account whose target_model is exactly this model; the upstream silently "
    "ignores any other.",
)
PHRASE_ID = Parameter(
    "phrase_id",
    _ID,
    "Hot words of the v1 models: the id of a phrase list, sent upstream as an asr_phrase resource.",
)
SPECIAL_WORD_FILTER = Parameter(
    "special_word_filter",
    ValueSchema(
        "object",
        fields={
            "filter_with_signed": _WORDS,
            "filter_with_empty": _WORDS,
            "system_reserved_filter": ValueSchema("boolean"),
        },
    ),
    "Sensitive words, as an object or as a string that holds it: filter_with_signed {word_list} is replaced by "
    "asterisks, filter_with_empty {word_list} is removed, system_reserved_filter (true) applies the platform's "
    "list as well. Without it only the platform's list applies.",
    json_text=True,
)
DISFLUENCY_REMOVAL_ENABLED = Parameter(
    "disfluency_removal_enabled",
    ValueSchema("boolean"),
    "Leave filler words out of the text.",
    default=False,
)
TIMESTAMP_ALIGNMENT_ENABLED = Parameter(
    "timestamp_alignment_enabled",
    ValueSchema("boolean"),
    "Calibrate the timestamps.",
    default=False,
)
ENABLE_ITN = Parameter(
    "enable_itn",
    ValueSchema("boolean"),
    "Write numbers, dates and amounts in figures. Chinese and English only.",
    default=False,
)
ENABLE_WORDS = Parameter(
    "enable_words",
    ValueSchema("boolean"),
    "List words with their times, and cut sentences at punctuation as well as at pauses. Chinese, English, Japanese, "
    "Korean, German, French, Spanish, Italian, Portuguese and Russian only.",
    default=False,
)
CORPUS = Parameter(
    "corpus",
    ValueSchema("object", fields={"text": _CONTEXT}, required=("text",)),
    "Context that biases recognition, {text}, up to 10,000 tokens.",
)
TEXT = Parameter("text", _CONTEXT, "The same as corpus.text; give one of the two.")


def language_hints(codes: tuple[str, ...], *, default: tuple[str, ...] | None, note: str) -> Parameter:
    return Parameter("language_hints", _codes(codes), f"Languages of the audio. {note}", default=default)


def single_language_hint(codes: tuple[str, ...], *, default: tuple[str, ...], note: str) -> Parameter:
    return Parameter("language_hints", _codes(codes, at_most=1), f"Language of the audio. {note}", default=default)


def language(codes: tuple[str, ...]) -> Parameter:
    return Parameter(
        "language",
        ValueSchema("string", values=codes),
        "Language of the audio. Leave it out when unknown or mixed: it is then detected.",
    )


def canonical(parameter: Parameter, value: Any) -> Any:
    """The form in which a valid value is stored and sent: values that mean the same become equal."""
    if parameter.json_text:
        parsed = json.loads(value) if isinstance(value, str) else value
        return json.dumps(parsed, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    if parameter.shape.type == "array" and not parameter.shape.ordered:
        return sorted(value)
    return value


def _codes(codes: tuple[str, ...], at_most: int | None = None) -> ValueSchema:
    return ValueSchema("array", items=ValueSchema("string", values=codes), min_items=1, max_items=at_most or len(codes))
