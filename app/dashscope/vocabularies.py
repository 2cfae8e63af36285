"""Parses DashScope's responses on hot-word lists. Pure. Source: protocol, section 6.1.

Any bytes give a value or raise MalformedResponse.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.catalogue.hot_words import HotWord
from app.dashscope.failures import Failure
from app.dashscope.wire import MalformedResponse, parse_object

MAX_ID_CHARS = 128
PAGE_SIZE = 100
# Accounts have ten lists, unless DashScope has raised their limit.
MAX_PAGES = 10
NOT_FOUND = "vocabulary_not_found"
_LIMIT_CODE = "Throttling.AllocationQuota"


@dataclass(frozen=True, slots=True)
class ListedVocabulary:
    """A row of the account's lists, without its words."""

    id: str
    status: str


@dataclass(frozen=True, slots=True)
class UpstreamVocabulary:
    """A list as DashScope has it. `status` is `OK` if jobs can use it."""

    status: str
    target_model: str
    words: Sequence[HotWord]

    def equals(self, target_model: str, words: Sequence[HotWord]) -> bool:
        """Compares without the order and without `lang`, for which DashScope may fill in a value."""
        own, other = (sorted((word.text, word.weight) for word in each) for each in (self.words, words))
        return self.target_model == target_model and own == other


def is_limit(failure: Failure) -> bool:
    """True if the account has as many lists as DashScope allows."""
    return failure.status == 400 and failure.upstream_code == _LIMIT_CODE


def parse_created(body: bytes) -> str:
    vocabulary_id = _output(body).get("vocabulary_id")
    if not _is_id(vocabulary_id):
        raise MalformedResponse("the response has no vocabulary_id")
    return str(vocabulary_id)


def parse_list(body: bytes) -> Sequence[ListedVocabulary]:
    rows = _output(body).get("vocabulary_list")
    if not isinstance(rows, list):
        raise MalformedResponse("the response has no vocabulary_list")
    return [
        ListedVocabulary(row["vocabulary_id"], _text(row.get("status")))
        for row in rows
        if isinstance(row, dict) and _is_id(row.get("vocabulary_id"))
    ]


def parse_vocabulary(body: bytes) -> UpstreamVocabulary:
    output = _output(body)
    rows = output.get("vocabulary")
    if not isinstance(rows, list):
        raise MalformedResponse("the response has no vocabulary")
    words = [_word(row) for row in rows if isinstance(row, dict)]
    return UpstreamVocabulary(_text(output.get("status")), _text(output.get("target_model")), words)


def parse_changed(body: bytes) -> None:
    """Check the response to an update or a delete, whose output is empty."""
    _output(body)


def _output(body: bytes) -> Mapping[str, Any]:
    output = parse_object(body).get("output")
    if not isinstance(output, dict):
        raise MalformedResponse("the response has no output")
    return output


def _word(row: Mapping[str, Any]) -> HotWord:
    weight = row.get("weight")
    return HotWord(_text(row.get("text")), weight if type(weight) is int else 0, _text(row.get("lang")) or None)


def _text(value: object) -> str:
    return value if isinstance(value, str) and "\0" not in value else ""


def _is_id(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_ID_CHARS and value.isascii() and value.isprintable()
