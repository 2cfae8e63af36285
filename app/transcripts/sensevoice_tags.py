"""SenseVoice's inline tags, taken out of the text exactly as the vendor's published cleaner does it.

Source: `parse_sensevoice_result` of the founding document. The order of the steps matters and is kept.
"""

import re

EMOTIONS = ("NEUTRAL", "HAPPY", "ANGRY", "SAD")
EVENTS = ("Speech", "Applause", "BGM", "Laughter")

# SPECIAL_TOKEN_1 stands where no emotion was recognised: removed, never reported.
_TAGS = (*EVENTS, *EMOTIONS, "SPECIAL_TOKEN_1")
_LITERALS = tuple(form for tag in _TAGS for form in (f"<|{tag}|> ", f"<|/{tag}|>", f"<|{tag}|>"))
_BLANKS = re.compile(r"\s{2,}")
_EMOTION = re.compile(rf"<\|({'|'.join(EMOTIONS)})\|>")
_EVENT = re.compile(rf"<\|({'|'.join(EVENTS)})\|>")


def clean(text: str) -> str:
    """The text without tags, runs of white space collapsed to one blank, trimmed (also where there was no tag)."""
    for literal in _LITERALS:
        text = text.replace(literal, "")
    return _BLANKS.sub(" ", text).strip()


def emotions(text: str) -> list[str]:
    """The emotions tagged in the uncleaned text, each once, sorted."""
    return sorted(set(_EMOTION.findall(text)))


def events(text: str) -> list[str]:
    """The events that begin in the uncleaned text, each once, sorted. A closing tag alone is no event."""
    return sorted(set(_EVENT.findall(text)))
