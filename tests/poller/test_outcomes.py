"""The outcome of each file of a task, from upstream's response."""

from uuid import UUID

import pytest

from app.dashscope.failures import Failure, FailureKind
from app.dashscope.result_files import FetchFailed, FetchFailureKind
from app.dashscope.wire import FileOutcome, TaskSnapshot, TaskStatus
from app.poller.outcomes import (
    EXPIRED,
    MISSING,
    Failed,
    Fetch,
    Outcome,
    Resubmit,
    Silent,
    Wait,
    account_failures,
    after_fetch,
    after_reading,
    outcomes,
)
from app.queue.polling import TaskFile
from app.transcripts.normalise import UnreadableResult

JOB = UUID(int=1)
LONG_AGO = 3600.0


def file(index: int, url: str, *, attempts: int = 1, result_failures: int = 0) -> TaskFile:
    return TaskFile(JOB, index, UUID(int=2), url, url, attempts, result_failures)


def one(
    snapshot: TaskSnapshot, *, file_count: int = 1, age_s: float = LONG_AGO, ended_s: float = 0, attempts: int = 1
) -> Outcome:
    ((_, outcome),) = outcomes(
        snapshot, [file(0, "https://e/a.wav", attempts=attempts)], file_count=file_count, age_s=age_s, ended_s=ended_s
    )
    return outcome


def failed_snapshot(code: str) -> TaskSnapshot:
    return TaskSnapshot(TaskStatus.FAILED, items=(FileOutcome("https://e/a.wav", code=code, message=code),), code=code)


def test_items_are_assigned_by_url_and_never_by_position() -> None:
    files = [file(0, "https://e/a.wav"), file(1, "https://e/b.wav")]
    snapshot = TaskSnapshot(
        TaskStatus.SUCCEEDED,
        items=(FileOutcome("https://e/b.wav", "https://r/b"), FileOutcome("https://e/a.wav", "https://r/a")),
    )
    found = dict(outcomes(snapshot, files, file_count=2, age_s=1, ended_s=0))
    assert [found[one] for one in files] == [Fetch("https://r/a"), Fetch("https://r/b")]


def test_account_failure_of_a_result_opens_no_circuit_while_other_files_of_the_task_succeed() -> None:
    refused = Resubmit(Failure(FailureKind.ACCOUNT_BLOCKED, "account_unpaid", "Arrearage"))
    a, b = file(0, "https://e/a.wav"), file(1, "https://e/b.wav")
    assert account_failures([(a, refused), (b, refused)]) == {refused.failure}
    assert account_failures([(a, refused), (b, Fetch("https://r/b"))]) == set()
    assert account_failures([(file(0, "https://e/a.wav", attempts=3), refused)]) == {refused.failure}
    assert account_failures([(file(0, "https://e/a.wav", attempts=4), refused)]) == set()


def test_result_of_a_single_file_needs_no_url() -> None:
    assert one(TaskSnapshot(TaskStatus.SUCCEEDED, items=(FileOutcome(None, "https://r/a"),))) == Fetch("https://r/a")


def test_item_with_a_foreign_url_is_assigned_to_no_file_of_a_group() -> None:
    snapshot = TaskSnapshot(TaskStatus.SUCCEEDED, items=(FileOutcome("https://e/other.wav", "https://r/a"),))
    assert isinstance(one(snapshot, file_count=2), Wait)


def test_file_without_an_item_fails_after_a_while() -> None:
    snapshot = TaskSnapshot(TaskStatus.SUCCEEDED)
    assert isinstance(one(snapshot), Wait)
    outcome = one(snapshot, ended_s=31)
    assert isinstance(outcome, Failed)
    assert outcome.failure.code == "result_missing"


def test_items_decide_about_a_succeeded_task_whose_files_all_failed() -> None:
    snapshot = TaskSnapshot(TaskStatus.SUCCEEDED, items=(FileOutcome("https://e/a.wav", code="DECODE_ERROR"),))
    assert isinstance(one(snapshot), Failed)


def test_task_that_failed_without_results_fails_each_file_with_its_code() -> None:
    outcome = one(
        TaskSnapshot(TaskStatus.FAILED, code="FILE_403_FORBIDDEN", message="FILE_403_FORBIDDEN"), file_count=2
    )
    assert isinstance(outcome, Failed)
    assert (outcome.failure.code, outcome.failure.upstream_code) == ("file_unreachable", "FILE_403_FORBIDDEN")


def test_message_for_all_files_of_a_task_shows_each_file_its_own_url_only() -> None:
    files = [file(0, "https://a.example/p/mueller.wav?Signature=1"), file(1, "https://b.example/x.wav")]
    message = "cannot read https://a.example/p/mueller.wav?Signature=1, next"
    snapshot = TaskSnapshot(TaskStatus.FAILED, code="InvalidParameter", message=message)
    found = [outcome for _, outcome in outcomes(snapshot, files, file_count=2, age_s=1, ended_s=0)]
    assert [outcome.failure.message for outcome in found if isinstance(outcome, Failed)] == [
        "InvalidParameter: cannot read https://a.example/p/mueller.wav, next",
        "InvalidParameter: cannot read …, next",
    ]


def test_message_about_silence_shows_each_file_its_own_url_only() -> None:
    files = [file(0, "https://e/a.wav"), file(1, "https://e/b.wav")]
    snapshot = TaskSnapshot(TaskStatus.FAILED, code="ASR_RESPONSE_HAVE_NO_WORDS", message="no words in https://e/a.wav")
    found = [outcome for _, outcome in outcomes(snapshot, files, file_count=2, age_s=1, ended_s=0)]
    messages = [outcome.item.message for outcome in found if isinstance(outcome, Silent)]
    assert messages == ["no words in https://e/a.wav", "no words in …"]


@pytest.mark.parametrize(
    ("item", "outcome"),
    [
        (FileOutcome("https://e/other.wav", "https://r/a"), Failed(MISSING)),
        (FileOutcome("https://e/a.wav", "https://r/a", ended=True), Fetch("https://r/a")),
        (FileOutcome("HTTPS://E:443/%61.wav", "https://r/a"), Fetch("https://r/a")),
        (FileOutcome("https://e/other.wav", code="FILE_404_NOT_FOUND"), Failed(MISSING)),
    ],
)
def test_result_of_a_single_file_must_not_name_another_file(item: FileOutcome, outcome: Outcome) -> None:
    assert one(TaskSnapshot(TaskStatus.SUCCEEDED, items=(item,)), ended_s=LONG_AGO) == outcome


def test_item_of_a_finished_file_is_not_assigned_to_an_open_one() -> None:
    items = (FileOutcome("https://e/a.wav", "https://r/a"), FileOutcome(None, "https://r/b"))
    snapshot, files = TaskSnapshot(TaskStatus.SUCCEEDED, items=items), [file(1, "https://e/b.wav")]
    with_finished = dict(outcomes(snapshot, files, file_count=2, finished_urls=["https://e/a.wav"], age_s=1, ended_s=0))
    assert with_finished[files[0]] == Fetch("https://r/b")
    without_finished = dict(outcomes(snapshot, files, file_count=2, age_s=1, ended_s=LONG_AGO))
    assert without_finished[files[0]] == Failed(MISSING)


@pytest.mark.parametrize("code", ["SUCCESS_WITH_NO_VALID_FRAGMENT", "ASR_RESPONSE_HAVE_NO_WORDS"])
def test_file_without_speech_gets_a_transcript_without_text(code: str) -> None:
    assert isinstance(one(failed_snapshot(code)), Silent)


def test_failure_of_the_engine_is_resubmitted_once() -> None:
    assert isinstance(one(failed_snapshot("InternalError.Timeout")), Resubmit)
    assert isinstance(one(failed_snapshot("InternalError.Timeout"), attempts=2), Failed)


def test_unknown_task_is_expired_except_in_its_first_seconds() -> None:
    assert isinstance(one(TaskSnapshot(TaskStatus.UNKNOWN), age_s=2), Wait)
    assert one(TaskSnapshot(TaskStatus.UNKNOWN)) == Failed(EXPIRED)


def test_unreachable_result_host_is_retried() -> None:
    outcome = after_fetch(
        FetchFailed(FetchFailureKind.UNAVAILABLE, "HTTP 503"), file(0, "u", result_failures=100), ended_s=LONG_AGO
    )
    assert outcome == Wait("HTTP 503")


def test_foreign_result_host_fails_the_file_at_once() -> None:
    outcome = after_fetch(FetchFailed(FetchFailureKind.FORBIDDEN, "no"), file(0, "u"), ended_s=0)
    assert isinstance(outcome, Failed)
    assert outcome.failure.code == "result_host_refused"


@pytest.mark.parametrize(("failures", "ended_s", "final"), [(0, LONG_AGO, False), (5, 1.0, False), (5, 31.0, True)])
def test_unreadable_result_is_retried_often_and_long_enough(failures: int, ended_s: float, final: bool) -> None:
    outcome = after_reading(UnreadableResult("no JSON"), file(0, "u", result_failures=failures), ended_s=ended_s)
    assert isinstance(outcome, Failed) is final
    if isinstance(outcome, Wait):
        assert outcome.counted
    else:
        assert (outcome.failure.code, outcome.failure.retryable) == ("result_unreadable", True)


def test_json_that_is_no_document_fails_the_file_at_once() -> None:
    outcome = after_reading(UnreadableResult("no object", is_final=True), file(0, "u"), ended_s=0)
    assert isinstance(outcome, Failed)
    assert (outcome.failure.code, outcome.failure.retryable) == ("result_unreadable", False)
