"""The limits of hot-word lists, and their validation. Pure. Source: protocol, section 6.1."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from unicodedata import category, normalize

from app.catalogue.model import Family, Model
from app.catalogue.registry import MODELS
from app.errors import Fault, InvalidRequest, json_pointer
from app.urls import find_control_character

MAX_WORDS = 500
# The main versions of Fun-ASR, and Qwen-Audio-3.x.
MAX_WORDS_LARGE = 2000
MAX_SUPER_WORDS = 50
MAX_CHARS = 15
MAX_ASCII_WORDS = 7
# DashScope states no limit for pure ASCII. Seven words of any language are shorter.
MAX_ASCII_CHARS = 500
WEIGHTS = range(1, 6)
SUPER_WEIGHT = 50
# DashScope's limit of lists per account, over all models.
MAX_LISTS = 10
PREFIX_PATTERN = "[0-9a-z]{1,9}"

_MAX_FAULTS = 100
_SUPER_WORD_MODELS = "qwen-audio-3"
# Categories of blanks, and of characters such as a zero-width space.
_INVISIBLE = {"Cf", "Zl", "Zp", "Zs"}


@dataclass(frozen=True, slots=True)
class HotWord:
    """An entry of a list. `lang` is a language code of the target model."""

    text: str
    weight: int
    lang: str | None = None

    @property
    def normalized_text(self) -> str:
        """The same for texts that differ only in the blanks around them, or in how an accent is encoded."""
        return normalize("NFC", self.text.strip())

    def to_json(self) -> dict[str, str | int]:
        """As DashScope takes it."""
        word: dict[str, str | int] = {"text": self.text, "weight": self.weight}
        return word if self.lang is None else word | {"lang": self.lang}


def takes_vocabularies(model: Model) -> bool:
    """True if jobs of the model take `vocabulary_id`. The v1 models have phrase lists instead."""
    return any(parameter.name == "vocabulary_id" for parameter in model.parameters)


def max_words(model: Model) -> int:
    """The most entries of one list. A stable name is a main version; a snapshot is not."""
    main_version = model.family is Family.FUN_ASR and model.alias_of is not None
    return MAX_WORDS_LARGE if main_version or has_super_words(model) else MAX_WORDS


def has_super_words(model: Model) -> bool:
    return model.id.startswith(_SUPER_WORD_MODELS)


def languages(model: Model) -> Sequence[str]:
    """The codes that `lang` takes: those of `language_hints`, if the model has it."""
    for parameter in model.parameters:
        if parameter.name in {"language_hints", "language"}:
            return (parameter.schema.items or parameter.schema).values
    return model.languages


def vocabulary_faults(model: Model, prefix: str, words: Sequence[HotWord]) -> Sequence[Fault]:
    """The faults of a new list, as pointers to `/target_model`, `/prefix` and into `/vocabulary`."""
    if not takes_vocabularies(model):
        models = ", ".join(each.id for each in MODELS.values() if takes_vocabularies(each))
        return [Fault("/target_model", f"is {model.id}, which takes no hot-word lists; use one of {models}")]
    faults = word_faults(model, words)
    if re.fullmatch(PREFIX_PATTERN, prefix) is None:
        return [Fault("/prefix", "needs 1 to 9 digits and lower-case letters"), *faults]
    return faults


def word_faults(model: Model, words: Sequence[HotWord]) -> Sequence[Fault]:
    """The faults of the entries of a list, as pointers into `/vocabulary`; at most 100."""
    return list(islice(_list_faults(model, words), _MAX_FAULTS))


def refuse(faults: Sequence[Fault]) -> None:
    """Raises InvalidRequest if there is a fault."""
    if faults:
        raise InvalidRequest.of(faults)


def _list_faults(model: Model, words: Sequence[HotWord]) -> Iterator[Fault]:
    limit = max_words(model)
    if not words:
        yield Fault("/vocabulary", "needs at least one entry")
    if len(words) > limit:
        yield Fault("/vocabulary", f"has {len(words):,} entries; {model.id} takes at most {limit:,}")
    super_words = sum(word.weight == SUPER_WEIGHT for word in words)
    if has_super_words(model) and super_words > MAX_SUPER_WORDS:
        yield Fault("/vocabulary", f"has {super_words} entries of weight {SUPER_WEIGHT}; at most {MAX_SUPER_WORDS}")
    first: dict[tuple[str, str | None], int] = {}
    for index, word in enumerate(words):
        pointer = json_pointer("/vocabulary", index)
        for field, detail in _entry_faults(model, word).items():
            yield Fault(f"{pointer}/{field}", detail)
        if (earlier := first.setdefault((word.normalized_text, word.lang), index)) != index:
            yield Fault(f"{pointer}/text", f"repeats /vocabulary/{earlier}; leave one of them out")


def _entry_faults(model: Model, word: HotWord) -> Mapping[str, str]:
    """The faults of an entry by field."""
    faults = {}
    if detail := _text_fault(word.text):
        faults["text"] = detail
    if word.weight not in WEIGHTS and not (has_super_words(model) and word.weight == SUPER_WEIGHT):
        faults["weight"] = f"is {word.weight}; needs an integer from {WEIGHTS[0]} to {WEIGHTS[-1]}" + (
            f", or {SUPER_WEIGHT}" if has_super_words(model) else f" for {model.id}"
        )
    codes = languages(model)
    if word.lang is not None and word.lang not in codes:
        close = get_close_matches(word.lang[:20].lower(), codes, n=1)
        hint = f"you may mean {close[0]}" if close else f"it knows {', '.join(codes)}"
        faults["lang"] = f"is no language code of {model.id}; {hint}"
    return faults


def _text_fault(text: str) -> str | None:
    if control := find_control_character(text):
        return f"holds the control character {control}; remove it"
    if all(category(character) in _INVISIBLE for character in text):
        return "must not be blank"
    if not text.isascii():
        return (
            None if len(text) <= MAX_CHARS else f"has {len(text)} characters; at most {MAX_CHARS} if not all are ASCII"
        )
    words = len(text.split())
    if words > MAX_ASCII_WORDS:
        return f"has {words} words; at most {MAX_ASCII_WORDS} separated by blanks"
    return None if len(text) <= MAX_ASCII_CHARS else f"has {len(text):,} characters; at most {MAX_ASCII_CHARS}"
