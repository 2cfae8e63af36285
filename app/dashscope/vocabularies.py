"""Parses DashScope's responses on hot-word lists. Pure. Source: protocol, section 6.1.

Any bytes give a value or raise MalformedResponse.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from app.catalogue.hot_words import HotWord
from app.dashscope.clock import BEIJING, CLOCK_SKEW
from app.dashscope.failures import Failure
from app.dashscope.wire import MalformedResponse, parse_object

MAX_ID_CHARS = 128
PAGE_SIZE = 100
# DashScope's largest page is not documented. It has at least as many rows as the default one, so a page with fewer is
# the last one.
MIN_FULL_PAGE = 10
# Accounts have ten lists, unless DashScope has raised their limit.
MAX_PAGES = 10
NOT_FOUND = "vocabulary_not_found"
UNREADABLE_ROWS = "the account's hot-word lists have rows without an id"
REPEATED_PAGES = "the account's hot-word lists repeat a page in place of others"
REFUSED_PAGE = "a page of the account's hot-word lists is refused"
TOO_MANY_PAGES = "the account's hot-word lists have no end"
_LIMIT_CODE = "Throttling.AllocationQuota"


@dataclass(frozen=True, slots=True)
class ListedVocabulary:
    """A row of the account's lists, without its words. `created` has no zone, and is None if it cannot be read."""

    id: str
    created: datetime | None = None

    def made_within(self, since: datetime, until: datetime) -> bool:
        """Whether the list may have been made in this time. True if the row has no time."""
        if self.created is None:
            return True
        # The zone is not documented. It is that of Beijing where that could be verified.
        readings = (self.created.replace(tzinfo=zone) for zone in (BEIJING, UTC))
        return any(since - CLOCK_SKEW <= at <= until + CLOCK_SKEW for at in readings)


@dataclass(frozen=True, slots=True)
class VocabularyPage:
    """One page of the account's lists. `unreadable` is the number of rows without an id. They may be of any list."""

    lists: Sequence[ListedVocabulary]
    unreadable: int = 0

    @property
    def is_last(self) -> bool:
        return len(self.lists) + self.unreadable < MIN_FULL_PAGE


@dataclass(frozen=True, slots=True)
class VocabularyReading:
    """One reading of the account's lists. `gap` says why there may be others, and is None if all were read.

    A list that is made or deleted meanwhile, or a replica that is behind, leaves no gap.
    """

    lists: Collection[ListedVocabulary]
    gap: str | None = None


@dataclass(frozen=True, slots=True)
class UpstreamVocabulary:
    """A list as DashScope has it. `status` is `OK` if jobs can use it."""

    status: str
    target_model: str
    words: Sequence[HotWord]

    def equals(self, target_model: str, words: Sequence[HotWord]) -> bool:
        """Compares without the order, and without what DashScope may change: `lang`, blanks and the form of accents."""
        own, other = (sorted((word.normalized_text, word.weight) for word in each) for each in (self.words, words))
        return self.target_model == target_model and own == other


def is_limit(failure: Failure) -> bool:
    """True if the account has as many lists as DashScope allows."""
    return failure.status == 400 and failure.upstream_code == _LIMIT_CODE


def parse_created(body: bytes) -> str:
    vocabulary_id = _output(body).get("vocabulary_id")
    if not _is_id(vocabulary_id):
        raise MalformedResponse("the response has no vocabulary_id")
    return str(vocabulary_id)


def parse_list(body: bytes) -> VocabularyPage:
    rows = _output(body).get("vocabulary_list")
    if not isinstance(rows, list):
        raise MalformedResponse("the response has no vocabulary_list")
    lists = [
        ListedVocabulary(row["vocabulary_id"], _created(row))
        for row in rows
        if isinstance(row, dict) and _is_id(row.get("vocabulary_id"))
    ]
    return VocabularyPage(lists, len(rows) - len(lists))


def parse_vocabulary(body: bytes) -> UpstreamVocabulary:
    output = _output(body)
    rows = output.get("vocabulary")
    if not isinstance(rows, list) or not rows:
        raise MalformedResponse("the response has no vocabulary")
    status, target_model = _text(output.get("status")), _text(output.get("target_model"))
    if not (status and target_model):
        raise MalformedResponse("the response has no status or no target_model")
    return UpstreamVocabulary(status, target_model, [_word(row) for row in rows])


def parse_changed(body: bytes) -> None:
    """Check the response to an update or a delete, whose output is empty."""
    _output(body)


def _output(body: bytes) -> Mapping[str, Any]:
    output = parse_object(body).get("output")
    if not isinstance(output, dict):
        raise MalformedResponse("the response has no output")
    return output


def _word(row: object) -> HotWord:
    if not isinstance(row, dict):
        raise MalformedResponse("the response has a word that is no object")
    text, weight = _text(row.get("text")), row.get("weight")
    if not text or type(weight) is not int:
        raise MalformedResponse("the response has a word without text or weight")
    return HotWord(text, weight, _text(row.get("lang")) or None)


def _created(row: Mapping[str, Any]) -> datetime | None:
    try:
        return datetime.strptime(_text(row.get("gmt_create")), "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007 - it has no zone
    except ValueError:
        return None


def _text(value: object) -> str:
    return value if isinstance(value, str) and "\0" not in value else ""


def _is_id(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_ID_CHARS and value.isascii() and value.isprintable()
