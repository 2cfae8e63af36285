"""The outcome of each file of an ended task, from upstream's response. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from app.dashscope.failures import Failure, FailureKind, classify_file, hide_other_urls
from app.dashscope.result_files import FetchFailed, FetchFailureKind
from app.dashscope.wire import FileOutcome, TaskSnapshot, TaskStatus
from app.poller.assignment import assign
from app.queue.polling import TaskFile
from app.transcripts.normalise import UnreadableResult

# A file that failed because of upstream's engine is submitted once more. Failed files are not billed.
MAX_ATTEMPTS = 2
# A file whose results have had the code of an account this often says nothing about the account any more.
MAX_ACCOUNT_FAILURES = 3
# A result that exists but cannot be used is fetched this often, and for at least this long after the task's end.
MAX_RESULT_FAILURES = 6
MIN_RESULT_WAIT_S = 30
# Some of upstream's servers may not know a task id in its first seconds.
UNKNOWN_GRACE_S = 10


@dataclass(frozen=True, slots=True)
class Fetch:
    """The file succeeded upstream. `url` is the link of its result."""

    url: str


@dataclass(frozen=True, slots=True)
class Inline:
    """The file succeeded upstream, and the response has its result document."""

    document: bytes


@dataclass(frozen=True, slots=True)
class Silent:
    """The file has no speech, which gives a transcript without text. `item` is upstream's item for the file."""

    item: FileOutcome


@dataclass(frozen=True, slots=True)
class Failed:
    failure: Failure


@dataclass(frozen=True, slots=True)
class Resubmit:
    """The file is queued again, for another task."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Wait:
    """The outcome is not known yet, and the task is polled again. `counted`: a result exists but could not be used."""

    reason: str
    counted: bool = False


Outcome = Fetch | Inline | Silent | Failed | Resubmit | Wait

EXPIRED = Failure(
    FailureKind.TRANSIENT,
    "result_expired",
    "DashScope no longer knows the task. It keeps results for 24 hours.",
    "UNKNOWN",
)
CANCELED = Failure(FailureKind.TRANSIENT, "canceled_upstream", "The task was canceled at DashScope.", "CANCELED")
MISSING = Failure(
    FailureKind.TRANSIENT,
    "result_missing",
    "DashScope ended the task without a result that certainly belongs to this file.",
)


def outcomes(
    snapshot: TaskSnapshot,
    files: Sequence[TaskFile],
    *,
    file_count: int,
    finished_urls: Sequence[str] = (),
    age_s: float,
    ended_s: float,
) -> Iterator[tuple[TaskFile, Outcome]]:
    """The outcome of each open file of an ended task that was submitted with `file_count` files.

    `finished_urls` are the URLs of its other files, as far as they are known. `age_s` is the time since the submit,
    `ended_s` the time since the end was first seen.
    """
    items = _items_of(snapshot, files, finished_urls, file_count)
    for file, item in zip(files, items, strict=True):
        match snapshot.status:
            case TaskStatus.UNKNOWN if age_s < UNKNOWN_GRACE_S:
                yield file, Wait("the task id is not known yet")
            case TaskStatus.UNKNOWN:
                yield file, Failed(EXPIRED)
            case TaskStatus.CANCELED:
                yield file, Failed(CANCELED)
            case _:
                yield file, _outcome(item, file, ended_s)


def account_failures(found: Sequence[tuple[TaskFile, Outcome]]) -> set[Failure]:
    """The failures of an ended task that open a circuit.

    None of them do if other files of the task ended well, because the account is then accepted.
    """
    if any(isinstance(outcome, Fetch | Inline | Silent) for _, outcome in found):
        return set()
    return {
        outcome.failure
        for file, outcome in found
        if isinstance(outcome, Resubmit) and outcome.failure.concerns_account and file.attempts <= MAX_ACCOUNT_FAILURES
    }


def after_fetch(error: FetchFailed, file: TaskFile, *, ended_s: float) -> Failed | Wait:
    """The outcome of a file whose result could not be fetched."""
    match error.kind:
        case FetchFailureKind.UNAVAILABLE:
            return Wait(error.detail)
        case FetchFailureKind.EXPIRED:
            return _give_up_or_wait(file, ended_s, Failure(FailureKind.TRANSIENT, "result_expired", error.detail))
        case FetchFailureKind.FORBIDDEN:
            return Failed(Failure(FailureKind.PERMANENT, "result_host_refused", error.detail))
        case FetchFailureKind.TOO_LARGE:
            return Failed(Failure(FailureKind.PERMANENT, "result_too_large", error.detail))


def after_reading(error: UnreadableResult, file: TaskFile, *, ended_s: float) -> Failed | Wait:
    """The outcome of a file whose result was fetched but is not a result document."""
    message = f"DashScope's result cannot be read: {error}. Its bytes are kept as the raw form of the transcript."
    if error.is_final:
        return Failed(Failure(FailureKind.PERMANENT, "result_unreadable", message))
    return _give_up_or_wait(file, ended_s, Failure(FailureKind.TRANSIENT, "result_unreadable", message))


def after_other_name(file: TaskFile, *, ended_s: float) -> Failed | Wait:
    """The outcome of a file whose result was fetched but names another file."""
    return _give_up_or_wait(file, ended_s, MISSING)


def _give_up_or_wait(file: TaskFile, ended_s: float, failure: Failure) -> Failed | Wait:
    if file.result_failures + 1 >= MAX_RESULT_FAILURES and ended_s >= MIN_RESULT_WAIT_S:
        return Failed(failure)
    return Wait(failure.message, counted=True)


def _items_of(
    snapshot: TaskSnapshot, files: Sequence[TaskFile], finished_urls: Sequence[str], file_count: int
) -> list[FileOutcome | None]:
    """The item of each file. Without items, the code of the task applies to every file."""
    urls = [*(file.sent_as for file in files), *finished_urls]
    if not snapshot.items and snapshot.code:
        is_unknown = snapshot.code == snapshot.unknown_status
        found: list[FileOutcome | None] = [
            FileOutcome(url, code=snapshot.code, message=snapshot.message, is_unknown_status=is_unknown) for url in urls
        ]
    else:
        found = assign(urls, snapshot.items, complete=len(urls) == file_count)
    if file_count > 1:
        # The other files may belong to other clients, and a message may quote their URLs.
        found = [
            item and replace(item, message=hide_other_urls(item.message, url))
            for item, url in zip(found, urls, strict=True)
        ]
    return found[: len(files)]


def _outcome(item: FileOutcome | None, file: TaskFile, ended_s: float) -> Outcome:
    if item is None or not item.ended:
        return Failed(MISSING) if ended_s >= MIN_RESULT_WAIT_S else Wait("the file has no certain result yet")
    if item.transcription_url:
        return Fetch(item.transcription_url)
    if item.document is not None:
        return Inline(item.document)
    return _without_document(item, file)


def _without_document(item: FileOutcome, file: TaskFile) -> Silent | Failed | Resubmit:
    failure = classify_file(item.code, item.message)
    match failure.kind:
        case FailureKind.NO_SPEECH:
            return Silent(item)
        case FailureKind.FILE_RETRYABLE if file.attempts < MAX_ATTEMPTS and not item.is_unknown_status:
            return Resubmit(failure)
        case _ if failure.concerns_account:
            return Resubmit(failure)
        case _:
            return Failed(failure)
