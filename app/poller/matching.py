"""Which task of the upstream's list is the one of a lost submit. Pure."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from uuid import UUID

from app.dashscope.wire import ListedTask, same_file

# Our clock against the upstream's.
CLOCK_SKEW = timedelta(seconds=120)
# `start_time` and `end_time` of the list carry no zone: Beijing time where it could be verified.
BEIJING = timezone(timedelta(hours=8))
# The list takes windows of up to 24 hours; the wide form below spends 8 of them on the zone.
LONGEST_WINDOW = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A submit whose answer was lost, and what it sent."""

    task_id: UUID
    model: str
    since: datetime
    until: datetime
    lost_s: float
    file_urls: tuple[str, ...]

    @property
    def file_count(self) -> int:
        return len(self.file_urls)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A task that no row of ours knows. `file_urls` is None until it has ended: before, upstream does not show them."""

    listed: ListedTask
    file_count: int | None
    file_urls: tuple[str, ...] | None


class Match(Enum):
    OURS = "ours"
    OTHER = "other"
    OPEN = "open"  # its files cannot be compared before it ends


def compare(attempt: Attempt, candidate: Candidate) -> Match:
    if not made_within(attempt, candidate.listed):
        return Match.OTHER
    if candidate.file_count is not None and candidate.file_count != attempt.file_count:
        return Match.OTHER
    if candidate.file_urls is None:
        return Match.OPEN
    return Match.OURS if same_files(attempt.file_urls, candidate.file_urls) else Match.OTHER


def made_within(attempt: Attempt, listed: ListedTask) -> bool:
    """Whether upstream made the task while the attempt was under way, as far as the list says when."""
    created_ms = listed.created_ms
    return created_ms is None or _epoch_ms(attempt.since) <= created_ms <= _epoch_ms(attempt.until, late=True)


def same_files(sent: Sequence[str], echoed: Collection[str]) -> bool:
    """Whether a task's files are exactly those that were sent, in whatever order."""
    exact = Counter(sent) & Counter(echoed)
    left = list((Counter(echoed) - exact).elements())
    for url in (Counter(sent) - exact).elements():
        found = next((other for other in left if same_file(url, other)), None)
        if found is None:
            return False
        left.remove(found)
    return not left


def together(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Those attempts, the oldest among them, that one window of the list can hold."""
    first = min(attempt.since for attempt in attempts)
    return [attempt for attempt in attempts if attempt.until - first <= LONGEST_WINDOW]


def windows(attempts: Sequence[Attempt]) -> tuple[dict[str, str], dict[str, str]]:
    """The window of all attempts as the list takes it: wide enough for a region that means UTC, and in Beijing time."""
    since = min(attempt.since for attempt in attempts) - CLOCK_SKEW
    end = _digits(max(attempt.until for attempt in attempts) + CLOCK_SKEW, BEIJING)
    return (
        {"start_time": _digits(since, UTC), "end_time": end},
        {"start_time": _digits(since, BEIJING), "end_time": end},
    )


def _digits(at: datetime, zone: timezone) -> str:
    return at.astimezone(zone).strftime("%Y%m%d%H%M%S")


def _epoch_ms(at: datetime, *, late: bool = False) -> int:
    return int((at + (CLOCK_SKEW if late else -CLOCK_SKEW)).timestamp() * 1000)
