"""Removes SenseVoice's inline tags from a text exactly as the vendor's published function does.

Source: `parse_sensevoice_result` in the vendor's documentation. The order of its steps matters.
"""

import re

from app.catalogue.sensevoice import EMOTIONS, EVENTS

# SPECIAL_TOKEN_1 means that no emotion was recognised. It is removed and never reported.
_TAGS = (*EVENTS, *EMOTIONS, "SPECIAL_TOKEN_1")
_LITERALS = tuple(form for tag in _TAGS for form in (f"<|{tag}|> ", f"<|/{tag}|>", f"<|{tag}|>"))
# Tags that the published function does not know, such as `<|en|>`, `<|EMO_UNKNOWN|>` or `<|withitn|>`.
_OTHER_TAG = re.compile(r"<\|/?[^\s<>|]{1,40}\|>")
_BLANKS = re.compile(r"\s{2,}")
_EMOTION = re.compile(rf"<\|({'|'.join(EMOTIONS)})\|>")
_EVENT = re.compile(rf"<\|({'|'.join(EVENTS)})\|>")


def clean(text: str) -> str:
    """The text without tags, with runs of white space collapsed to one space, trimmed (also if it has no tag)."""
    for literal in _LITERALS:
        text = text.replace(literal, "")
    return _BLANKS.sub(" ", text).strip()


def strip_other_tags(cleaned: str) -> str:
    """A cleaned text without the tags that are left in it: none of them was spoken."""
    return _BLANKS.sub(" ", _OTHER_TAG.sub("", cleaned)).strip() if "<|" in cleaned else cleaned


def emotions(text: str) -> list[str]:
    """The emotions that are tagged in the uncleaned text, each once, sorted."""
    return sorted(set(_EMOTION.findall(text)))


def events(text: str) -> list[str]:
    """The events that begin in the uncleaned text, each once, sorted. A closing tag alone is no event."""
    return sorted(set(_EVENT.findall(text)))
