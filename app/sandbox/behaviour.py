"""What a file is asked to do by its own URL: `?sandbox=fail:DECODE_ERROR,run:5`. See the package's docstring."""

import math
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

NO_SPEECH = "SUCCESS_WITH_NO_VALID_FRAGMENT"


class UnknownDirective(ValueError):
    """A misspelt wish is refused: a test that silently tests nothing is worse than one that fails."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """None: as the configuration or the file's name has it."""

    refuse: bool = False
    fail_code: str | None = None
    fail_once_code: str | None = None
    audio_s: float | None = None
    queue_s: float | None = None
    run_s: float | None = None
    words: int | None = None


def behaviour_of(file_url: str) -> Behaviour:
    """Raises UnknownDirective."""
    if "sandbox=" not in file_url:
        return Behaviour()
    query = parse_qsl(urlsplit(file_url).query, keep_blank_values=True)
    directives = ",".join(value for name, value in query if name == "sandbox").split(",")
    wishes: dict[str, Any] = {}
    for directive in filter(None, directives):
        wishes |= _wish(directive)
    return Behaviour(**wishes)


def _wish(directive: str) -> dict[str, Any]:
    name, _, value = directive.partition(":")
    try:
        match name:
            case "refuse":
                return {"refuse": True}
            case "silent":
                return {"fail_code": NO_SPEECH}
            case "fail" | "fail_once" if value:
                return {f"{name}_code": value}
            case "queue" | "run":
                return {f"{name}_s": _span(value)}
            case "seconds":
                return {"audio_s": _span(value)}
            case "words":
                return {"words": max(1, int(value))}
    except ValueError:
        pass
    raise UnknownDirective(f"unknown sandbox directive: {directive}")


def _span(value: str) -> float:
    seconds = float(value)
    if not 0 <= seconds < math.inf:
        raise ValueError(value)
    return seconds
