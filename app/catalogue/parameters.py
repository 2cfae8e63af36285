"""The parameters of all models. Source of names, types and ranges: the vendor's API pages.

Where the pages disagree on the models that accept a parameter, the feature table of the founding document decides
(protocol, section 2.3).
"""

import json
from typing import Any

from app.catalogue.links import SENSITIVE_WORDS
from app.catalogue.model import Parameter
from app.catalogue.schema import ValueSchema

# DashScope documents no maximum. The gateway reads results of up to this many channels.
_MAX_TRACKS = 64
# DashScope's limit is 10,000 tokens, which only DashScope can count. This limit is certainly higher.
_MAX_CONTEXT_CHARS = 100_000
_ID = ValueSchema("string", max_length=128)
_CONTEXT = ValueSchema("string", max_length=_MAX_CONTEXT_CHARS, multiline=True)
_CONTEXT_TEXT = ValueSchema(
    "object",
    fields={
        "type": ValueSchema("string", values=("input_text", "text")),
        "text": ValueSchema("string", max_length=400, multiline=True),
    },
    required=("type", "text"),
)
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
    "Audio tracks to recognise, counted from 0. Each track is recognised and billed separately. The "
    "file must have the tracks.",
    default=(0,),
)
DIARIZATION_ENABLED = Parameter(
    "diarization_enabled",
    ValueSchema("boolean"),
    "Separate speakers: adds speaker_id to sentences. Mono audio only, up to about 2 hours.",
    default=False,
)
SPEAKER_COUNT = Parameter(
    "speaker_count",
    ValueSchema("integer", minimum=2, maximum=100),
    "Expected number of speakers. The result may have another number. Requires diarization_enabled.",
)
VOCABULARY_ID = Parameter(
    "vocabulary_id",
    _ID,
    "Hot words: a vocabulary of the same account with exactly this model as its target_model. DashScope silently "
    "ignores other vocabularies.",
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
    "Sensitive words, as an object or as a string of JSON. Words of filter_with_signed {word_list} become "
    "asterisks, words of filter_with_empty {word_list} are removed, and system_reserved_filter (true) also applies "
    f"the platform's list. Without this parameter only the platform's list applies: {SENSITIVE_WORDS}",
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
VOCABULARY = Parameter(
    "vocabulary",
    ValueSchema(
        "object",
        values_of=ValueSchema("integer", minimum=1, maximum=5, besides=(50,)),
        max_items=2000,
    ),
    "Hot words with their weights, {word: weight}: 1 to 5, or 50 for at most 50 of the words. Also works together with "
    "vocabulary_id.",
)
CONTEXT = Parameter(
    "context",
    ValueSchema(
        "array",
        items=ValueSchema(
            "object",
            fields={
                "role": ValueSchema("string", values=("user", "assistant")),
                "content": ValueSchema("array", items=_CONTEXT_TEXT, min_items=1, max_items=20, unique=False),
            },
            required=("role", "content"),
        ),
        min_items=1,
        max_items=100,
        unique=False,
    ),
    "What was said or written before, which biases recognition: messages {role, content: [{type: input_text, text}]} "
    "with up to 400 characters each, of which the last five are honoured. Sent upstream as input.context.",
)
KEEP_DIALECT = Parameter(
    "keep_dialect",
    ValueSchema("boolean"),
    "Keep the words of a Chinese dialect in the text instead of writing them in Mandarin.",
    default=False,
)
CORPUS = Parameter(
    "corpus",
    ValueSchema("object", fields={"text": _CONTEXT}, required=("text",)),
    "Context that biases recognition, {text}, up to 10,000 tokens.",
)
TEXT = Parameter("text", _CONTEXT, "The same as corpus.text. Use only one of the two.")


def language_hints(codes: tuple[str, ...], *, default: tuple[str, ...] | None, note: str) -> Parameter:
    return Parameter("language_hints", _codes(codes), f"Languages of the audio. {note}", default=default)


def single_language_hint(codes: tuple[str, ...]) -> Parameter:
    return Parameter(
        "language_hints",
        _codes(("auto", *codes), max_items=1),
        "Language of the audio. Exactly one; auto detects the language.",
        default=("auto",),
    )


def language(codes: tuple[str, ...]) -> Parameter:
    return Parameter(
        "language",
        ValueSchema("string", values=codes),
        "Language of the audio. Omit it if the language is unknown or mixed: it is then detected.",
    )


def canonical(parameter: Parameter, value: Any) -> Any:
    """The stored and sent form of a valid value. Values with the same meaning become equal."""
    if parameter.json_text:
        parsed = json.loads(value) if isinstance(value, str) else value
        return json.dumps(parsed, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    if parameter.schema.type == "array" and not parameter.schema.ordered:
        return sorted(value)
    return value


def _codes(codes: tuple[str, ...], max_items: int | None = None) -> ValueSchema:
    code = ValueSchema("string", values=codes)
    return ValueSchema("array", items=code, min_items=1, max_items=max_items or len(codes))
