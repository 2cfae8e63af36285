"""Parses the directives in a file's URL, such as `?sandbox=fail:DECODE_ERROR,run:5`. docs/sandbox.md lists them."""

import math
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

NO_SPEECH = "SUCCESS_WITH_NO_VALID_FRAGMENT"
# 12 hours of speech have fewer. The sandbox holds a transcript in memory, 0.3 KB for each word.
MAX_WORDS = 200_000


class UnknownDirective(ValueError):
    """The directive is misspelt. It is refused, since a test with an ignored directive would test nothing."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """The directives of a file. None means the value of the configuration or of the recording."""

    refuse: bool = False
    deny: bool = False
    unqueryable: bool = False
    fail_code: str | None = None
    fail_once_code: str | None = None
    audio_s: float | None = None
    billed_s: float | None = None
    queue_s: float | None = None
    run_s: float | None = None
    words: int | None = None


def behaviour_of(file_url: str) -> Behaviour:
    """The directives of the URL. Raises UnknownDirective."""
    if "sandbox=" not in file_url:
        return Behaviour()
    query = parse_qsl(urlsplit(file_url).query, keep_blank_values=True)
    directives = ",".join(value for name, value in query if name == "sandbox").split(",")
    fields: dict[str, Any] = {}
    for directive in filter(None, directives):
        fields |= _parse_directive(directive)
    return Behaviour(**fields)


def _parse_directive(directive: str) -> dict[str, Any]:
    name, _, value = directive.partition(":")
    try:
        match name:
            case "refuse" | "deny" | "unqueryable":
                return {name: True}
            case "silent":
                return {"fail_code": NO_SPEECH}
            case "fail" | "fail_once" if value:
                return {f"{name}_code": value}
            case "queue" | "run" | "billed":
                return {f"{name}_s": _seconds(value)}
            case "seconds":
                return {"audio_s": _seconds(value)}
            case "words" if int(value) <= MAX_WORDS:
                return {"words": max(1, int(value))}
    except ValueError:
        pass
    raise UnknownDirective(f"unknown sandbox directive: {directive}")


def _seconds(value: str) -> float:
    seconds = float(value)
    if not 0 <= seconds < math.inf:
        raise ValueError(value)
    return seconds
