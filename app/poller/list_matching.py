"""Matches lost submits with tasks of upstream's task list. Pure."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from functools import cached_property
from uuid import UUID

from app.dashscope.clock import BEIJING, CLOCK_SKEW
from app.dashscope.file_urls import file_key
from app.dashscope.wire import FileOutcome, ListedTask
from app.poller.assignment import assign

# The list accepts windows of up to 24 hours. The wide window of `list_windows` adds 8 hours for the zone.
MAX_WINDOW = timedelta(hours=12)
# Pages of the list for each second of a window. Upstream accepts 20 submits of a model in a second, which fill a fifth
# of a page; the rest is for smaller pages, and for a list that also has the tasks of other models.
MAX_PAGES_PER_S = 10


@dataclass(frozen=True)
class LostSubmit:
    """A submit without a response, and the files that the submit sent.

    `absent_s` is the time since an earlier reading of the whole list, if all readings since then lacked the task.
    """

    task_id: UUID
    model: str
    since: datetime
    until: datetime
    lost_s: float
    file_urls: tuple[str, ...]
    absent_s: float | None = None

    @property
    def file_count(self) -> int:
        return len(self.file_urls)

    @cached_property
    def names(self) -> frozenset[str]:
        return _names(self.file_urls)


@dataclass(frozen=True)
class Candidate:
    """An upstream task that no row has.

    `file_count` is None if upstream does not show it, and 0 for a task that has ended without a file to be billed.
    `file_urls` are the files that upstream shows, each once. They are None until the task has ended.
    `is_settled` is False while a later response may show more of them.
    """

    listed: ListedTask
    file_count: int | None
    file_urls: tuple[str, ...] | None
    is_settled: bool = True

    @cached_property
    def names(self) -> frozenset[str]:
        return _names(self.file_urls or ())


class Comparison(Enum):
    OURS = "ours"
    OTHER = "other"
    OPEN = "open"  # the files cannot be compared before the task ends
    PART = "part"  # all files that are shown are ours, and others may be missing


def compare(submit: LostSubmit, candidate: Candidate) -> Comparison:
    if not made_within(submit, candidate.listed):
        return Comparison.OTHER
    return _compare_files(submit.file_urls, submit.names, candidate)


def _compare_files(sent: Sequence[str], names: frozenset[str], candidate: Candidate) -> Comparison:
    if candidate.file_count not in {None, len(sent)}:
        return Comparison.OTHER
    shown = candidate.file_urls
    if shown is None:
        return Comparison.OPEN
    # The names are a quick test, because each of many submits is compared with each of many tasks.
    if len(shown) > len(sent) or not candidate.names <= names or not _are_of(shown, sent):
        return Comparison.OTHER
    return Comparison.OURS if len(shown) == len(sent) else Comparison.PART


def made_within(submit: LostSubmit, listed: ListedTask) -> bool:
    """Whether upstream may have created the task during the submit. True if the list has no creation time."""
    created_ms = listed.created_ms
    return created_ms is None or _epoch_ms(submit.since) <= created_ms <= _epoch_ms(submit.until, late=True)


def _are_of(shown: Collection[str], sent: Sequence[str]) -> bool:
    """Whether each URL of a response, in any spelling, is that of another one of the files that were sent."""
    items = [FileOutcome(url, transcription_url=str(number)) for number, url in enumerate(shown)]
    return sum(item is not None for item in assign(sent, items, complete=False)) == len(shown)


class Rivals:
    """Unresolved submits, of which one upstream task may belong to several.

    Their URLs differ in spelling only, or upstream does not show all files of the task.
    `submits` maps the id of a task row to the URLs that were sent.
    """

    def __init__(self, submits: Mapping[UUID, Sequence[str]]) -> None:
        self._urls = dict(submits)
        self._names = {task_id: _names(urls) for task_id, urls in submits.items()}
        self._alike: defaultdict[frozenset[str], list[UUID]] = defaultdict(list)
        for task_id, names in self._names.items():
            self._alike[names].append(task_id)

    def discard(self, task_id: UUID) -> None:
        """Remove a submit that is resolved."""
        if self._urls.pop(task_id, None) is not None:
            self._alike[self._names.pop(task_id)].remove(task_id)

    def leave_open(self, submit: LostSubmit, candidate: Candidate, candidates: Iterable[Candidate]) -> bool:
        """Whether the candidate, which matches the submit, may belong to another submit with other URLs.

        It does not if each such submit has a candidate with exactly its URLs.
        """
        is_part = compare(submit, candidate) is Comparison.PART
        matches = {Comparison.OURS, Comparison.PART} if is_part else {Comparison.OURS}
        others = {
            tuple(sorted(self._urls[task_id]))
            for task_id in (list(self._urls) if is_part else self._alike[submit.names])
            if task_id != submit.task_id
            and _compare_files(self._urls[task_id], self._names[task_id], candidate) in matches
        }
        others.discard(tuple(sorted(submit.file_urls)))
        if not others:
            return False
        seen = {tuple(sorted(each.file_urls or ())) for each in candidates}
        is_exact = is_part or tuple(sorted(candidate.file_urls or ())) == tuple(sorted(submit.file_urls))
        return not is_exact or not others <= seen


def _names(urls: Iterable[str]) -> frozenset[str]:
    """The names of the files, which all spellings of their URLs have in common, including those of uploads."""
    return frozenset(file_key(url).partition("?")[0].rpartition("/")[2] for url in urls)


def within_one_window(submits: Sequence[LostSubmit]) -> list[LostSubmit]:
    """The oldest submit, and the others that fit into one window of the list with it."""
    first = min(submit.since for submit in submits)
    return [submit for submit in submits if submit.until - first <= MAX_WINDOW]


def list_windows(submits: Sequence[LostSubmit]) -> tuple[dict[str, str], dict[str, str]]:
    """Two windows, as query parameters of the list, that contain all submits.

    They have no zone. The wide one is valid whether upstream means UTC or Beijing time, the narrow one only for Beijing
    time, which upstream means where that could be verified.
    """
    since = min(submit.since for submit in submits) - CLOCK_SKEW
    end = _digits(max(submit.until for submit in submits) + CLOCK_SKEW, BEIJING)
    return (
        {"start_time": _digits(since, UTC), "end_time": end},
        {"start_time": _digits(since, BEIJING), "end_time": end},
    )


def max_pages(submits: Sequence[LostSubmit]) -> int:
    """The most pages of the narrow window that are read. A list of more is not one of the account's own tasks."""
    since, until = min(submit.since for submit in submits), max(submit.until for submit in submits)
    return math.ceil((until - since + 2 * CLOCK_SKEW).total_seconds() * MAX_PAGES_PER_S)


def _digits(at: datetime, zone: timezone) -> str:
    return at.astimezone(zone).strftime("%Y%m%d%H%M%S")


def _epoch_ms(at: datetime, *, late: bool = False) -> int:
    return int((at + (CLOCK_SKEW if late else -CLOCK_SKEW)).timestamp() * 1000)
