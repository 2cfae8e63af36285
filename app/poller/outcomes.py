"""Which answer belongs to which file, and what a bad one means. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from app.dashscope.failures import Failure, FailureKind, classify_file
from app.dashscope.quoted_urls import hide_other_urls
from app.dashscope.result_files import FetchFailed, FetchFailureKind
from app.dashscope.wire import FileOutcome, TaskSnapshot, TaskStatus
from app.poller.assignment import assign
from app.queue.results import TaskFile

# A file that failed by the engine's fault is submitted once more; failed files are not billed.
MAX_ATTEMPTS = 2
# A result that is there but cannot be had is tried this often, and for at least this long after the task's end.
MAX_RESULT_FAILURES = 6
RESULT_PATIENCE_S = 30
# An id that is seconds old may be unknown to a back end that has not heard of it yet.
UNKNOWN_GRACE_S = 10


@dataclass(frozen=True, slots=True)
class Fetch:
    """The file succeeded upstream; its result is to be fetched."""

    url: str


@dataclass(frozen=True, slots=True)
class Silent:
    """There was no speech in the file: a transcript without text. `item` is what upstream said."""

    item: FileOutcome


@dataclass(frozen=True, slots=True)
class Failed:
    failure: Failure


@dataclass(frozen=True, slots=True)
class Resubmit:
    """The file goes out once more, in another task."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Wait:
    """Not known yet; the task is looked at again. `counted` when the result was there and could not be had."""

    reason: str
    counted: bool = False


Outcome = Fetch | Silent | Failed | Resubmit | Wait

EXPIRED = Failure(
    FailureKind.TRANSIENT,
    "result_expired",
    "DashScope no longer knows the task: it forgets results after 24 hours.",
    "UNKNOWN",
)
CANCELED = Failure(FailureKind.TRANSIENT, "canceled_upstream", "The task was cancelled at DashScope.", "CANCELED")
MISSING = Failure(
    FailureKind.TRANSIENT, "result_missing", "DashScope ended the task without a result that is certainly this file's."
)


def outcomes(
    view: TaskSnapshot,
    files: Sequence[TaskFile],
    *,
    file_count: int,
    settled_urls: Sequence[str] = (),
    age_s: float,
    ended_s: float,
) -> Iterator[tuple[TaskFile, Outcome]]:
    """The outcome of each of the open files of an ended task, which was made for `file_count` files.

    `settled_urls` are those of its other files, as far as known. `age_s` is the time since the submit, `ended_s` that
    since the end was first seen.
    """
    items = _items_of(view, files, settled_urls, file_count)
    for file, item in zip(files, items, strict=True):
        match view.status:
            case TaskStatus.UNKNOWN if age_s < UNKNOWN_GRACE_S:
                yield file, Wait("unknown, but only just submitted")
            case TaskStatus.UNKNOWN:
                yield file, Failed(EXPIRED)
            case TaskStatus.CANCELED:
                yield file, Failed(CANCELED)
            case _:
                yield file, _outcome(item, file, ended_s)


def after_fetch(last_error: FetchFailed, file: TaskFile, *, ended_s: float) -> Outcome:
    """What becomes of a file whose result could not be fetched."""
    match last_error.kind:
        case FetchFailureKind.UNAVAILABLE:
            return Wait(last_error.detail)
        case FetchFailureKind.EXPIRED:
            return _give_up_or_wait(file, ended_s, Failure(FailureKind.TRANSIENT, "result_expired", last_error.detail))
        case FetchFailureKind.FORBIDDEN:
            return Failed(Failure(FailureKind.PERMANENT, "result_host_refused", last_error.detail))
        case FetchFailureKind.TOO_LARGE:
            return Failed(Failure(FailureKind.PERMANENT, "result_too_large", last_error.detail))


def after_reading(detail: str, file: TaskFile, *, ended_s: float) -> Outcome:
    """What becomes of a file whose result was fetched and is no result document."""
    return _give_up_or_wait(file, ended_s, Failure(FailureKind.TRANSIENT, "result_unreadable", detail))


def after_other_name(file: TaskFile, *, ended_s: float) -> Outcome:
    """What becomes of a file whose result was fetched and names another file."""
    return _give_up_or_wait(file, ended_s, MISSING)


def _give_up_or_wait(file: TaskFile, ended_s: float, failure: Failure) -> Outcome:
    if file.result_failures + 1 >= MAX_RESULT_FAILURES and ended_s >= RESULT_PATIENCE_S:
        return Failed(failure)
    return Wait(failure.message, counted=True)


def _items_of(
    view: TaskSnapshot, files: Sequence[TaskFile], settled_urls: Sequence[str], file_count: int
) -> list[FileOutcome | None]:
    """The item of each file. Without items the code of the task is that of every file."""
    urls = [*(file.url for file in files), *settled_urls]
    if not view.items and view.code:
        found: list[FileOutcome | None] = [FileOutcome(url, code=view.code, message=view.message) for url in urls]
    else:
        found = assign(urls, view.items, complete=len(urls) == file_count)
    if file_count > 1:
        # The other files may be other clients', and a message may quote their URLs.
        found = [
            item and replace(item, message=hide_other_urls(item.message, url))
            for item, url in zip(found, urls, strict=True)
        ]
    return found[: len(files)]


def _outcome(item: FileOutcome | None, file: TaskFile, ended_s: float) -> Outcome:
    if item is None or not item.ended:
        return Failed(MISSING) if ended_s >= RESULT_PATIENCE_S else Wait("no certain result of the file yet")
    if item.transcription_url:
        return Fetch(item.transcription_url)
    failure = classify_file(item.code, item.message)
    match failure.kind:
        case FailureKind.NO_SPEECH:
            return Silent(item)
        case FailureKind.FILE_RETRYABLE if file.attempts < MAX_ATTEMPTS:
            return Resubmit(failure)
        case _ if failure.concerns_account:
            return Resubmit(failure)
        case _:
            return Failed(failure)
