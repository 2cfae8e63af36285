"""What an answer means for each file of a task."""

from uuid import UUID

import pytest

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
    after_fetch,
    after_reading,
    outcomes,
)
from app.queue.polling import TaskFile

JOB = UUID(int=1)
LONG_AGO = 3600.0


def file(index: int, url: str, *, attempts: int = 1, result_failures: int = 0) -> TaskFile:
    return TaskFile(JOB, index, UUID(int=2), url, attempts, result_failures)


def one(
    view: TaskSnapshot, *, file_count: int = 1, age_s: float = LONG_AGO, ended_s: float = 0, attempts: int = 1
) -> Outcome:
    ((_, outcome),) = outcomes(
        view, [file(0, "https://e/a.wav", attempts=attempts)], file_count=file_count, age_s=age_s, ended_s=ended_s
    )
    return outcome


def failed_view(code: str) -> TaskSnapshot:
    return TaskSnapshot(TaskStatus.FAILED, items=(FileOutcome("https://e/a.wav", code=code, message=code),), code=code)


def test_files_are_told_apart_by_their_url_and_never_by_position() -> None:
    files = [file(0, "https://e/a.wav"), file(1, "https://e/b.wav")]
    view = TaskSnapshot(
        TaskStatus.SUCCEEDED,
        items=(FileOutcome("https://e/b.wav", "https://r/b"), FileOutcome("https://e/a.wav", "https://r/a")),
    )
    found = dict(outcomes(view, files, file_count=2, age_s=1, ended_s=0))
    assert [found[one] for one in files] == [Fetch("https://r/a"), Fetch("https://r/b")]


def test_the_result_of_a_single_file_needs_no_url_to_be_told_apart() -> None:
    assert one(TaskSnapshot(TaskStatus.SUCCEEDED, items=(FileOutcome(None, "https://r/a"),))) == Fetch("https://r/a")


def test_in_a_group_a_foreign_url_is_nobodys() -> None:
    view = TaskSnapshot(TaskStatus.SUCCEEDED, items=(FileOutcome("https://e/other.wav", "https://r/a"),))
    assert isinstance(one(view, file_count=2), Wait)


def test_a_file_that_the_answer_forgets_fails_after_a_while() -> None:
    view = TaskSnapshot(TaskStatus.SUCCEEDED)
    assert isinstance(one(view), Wait)
    outcome = one(view, ended_s=31)
    assert isinstance(outcome, Failed)
    assert outcome.failure.code == "result_missing"


def test_an_all_failed_task_that_calls_itself_succeeded_is_read_by_its_items() -> None:
    view = TaskSnapshot(TaskStatus.SUCCEEDED, items=(FileOutcome("https://e/a.wav", code="DECODE_ERROR"),))
    assert isinstance(one(view), Failed)


def test_a_task_that_failed_without_results_fails_each_file_with_its_code() -> None:
    outcome = one(
        TaskSnapshot(TaskStatus.FAILED, code="FILE_403_FORBIDDEN", message="FILE_403_FORBIDDEN"), file_count=2
    )
    assert isinstance(outcome, Failed)
    assert (outcome.failure.code, outcome.failure.upstream_code) == ("file_unreachable", "FILE_403_FORBIDDEN")


def test_a_message_for_all_files_of_a_task_names_each_its_own_url_only() -> None:
    files = [file(0, "https://a.example/p/mueller.wav?Signature=1"), file(1, "https://b.example/x.wav")]
    message = "cannot read https://a.example/p/mueller.wav?Signature=1, next"
    view = TaskSnapshot(TaskStatus.FAILED, code="InvalidParameter", message=message)
    found = [outcome for _, outcome in outcomes(view, files, file_count=2, age_s=1, ended_s=0)]
    assert [outcome.failure.message for outcome in found if isinstance(outcome, Failed)] == [
        "InvalidParameter: cannot read https://a.example/p/mueller.wav, next",
        "InvalidParameter: cannot read …, next",
    ]


def test_what_upstream_says_of_silence_names_no_other_url() -> None:
    files = [file(0, "https://e/a.wav"), file(1, "https://e/b.wav")]
    view = TaskSnapshot(TaskStatus.FAILED, code="ASR_RESPONSE_HAVE_NO_WORDS", message="no words in https://e/a.wav")
    found = [outcome for _, outcome in outcomes(view, files, file_count=2, age_s=1, ended_s=0)]
    said = [outcome.item.message for outcome in found if isinstance(outcome, Silent)]
    assert said == ["no words in https://e/a.wav", "no words in …"]


@pytest.mark.parametrize(
    ("item", "outcome"),
    [
        (FileOutcome("https://e/other.wav", "https://r/a"), Failed(MISSING)),
        (FileOutcome("https://e/a.wav", "https://r/a", ended=True), Fetch("https://r/a")),
        (FileOutcome("HTTPS://E:443/%61.wav", "https://r/a"), Fetch("https://r/a")),
        (FileOutcome("https://e/other.wav", code="FILE_404_NOT_FOUND"), Failed(MISSING)),
    ],
)
def test_the_result_of_a_single_file_may_not_name_another_file(item: FileOutcome, outcome: Outcome) -> None:
    assert one(TaskSnapshot(TaskStatus.SUCCEEDED, items=(item,)), ended_s=LONG_AGO) == outcome


def test_items_of_files_that_are_settled_are_not_those_of_open_ones() -> None:
    items = (FileOutcome("https://e/a.wav", "https://r/a"), FileOutcome(None, "https://r/b"))
    view, files = TaskSnapshot(TaskStatus.SUCCEEDED, items=items), [file(1, "https://e/b.wav")]
    settled = dict(outcomes(view, files, file_count=2, finished_urls=["https://e/a.wav"], age_s=1, ended_s=0))
    assert settled[files[0]] == Fetch("https://r/b")
    canceled = dict(outcomes(view, files, file_count=2, age_s=1, ended_s=LONG_AGO))
    assert canceled[files[0]] == Failed(MISSING)


@pytest.mark.parametrize("code", ["SUCCESS_WITH_NO_VALID_FRAGMENT", "ASR_RESPONSE_HAVE_NO_WORDS"])
def test_silence_is_a_transcript_without_text(code: str) -> None:
    assert isinstance(one(failed_view(code)), Silent)


def test_the_engines_fault_is_worth_one_more_attempt_and_no_second() -> None:
    assert isinstance(one(failed_view("InternalError.Timeout")), Resubmit)
    assert isinstance(one(failed_view("InternalError.Timeout"), attempts=2), Failed)


def test_unknown_is_final_except_for_an_id_that_is_seconds_old() -> None:
    assert isinstance(one(TaskSnapshot(TaskStatus.UNKNOWN), age_s=2), Wait)
    assert one(TaskSnapshot(TaskStatus.UNKNOWN)) == Failed(EXPIRED)


def test_a_result_host_that_is_away_is_waited_for() -> None:
    outcome = after_fetch(
        FetchFailed(FetchFailureKind.UNAVAILABLE, "HTTP 503"), file(0, "u", result_failures=100), ended_s=LONG_AGO
    )
    assert outcome == Wait("HTTP 503")


def test_a_foreign_result_host_is_refused_at_once() -> None:
    outcome = after_fetch(FetchFailed(FetchFailureKind.FORBIDDEN, "no"), file(0, "u"), ended_s=0)
    assert isinstance(outcome, Failed)
    assert outcome.failure.code == "result_host_refused"


@pytest.mark.parametrize(("failures", "ended_s", "final"), [(0, LONG_AGO, False), (5, 1.0, False), (5, 31.0, True)])
def test_an_unreadable_result_is_tried_again_often_and_long_enough(failures: int, ended_s: float, final: bool) -> None:
    outcome = after_reading("no JSON", file(0, "u", result_failures=failures), ended_s=ended_s)
    assert isinstance(outcome, Failed) is final
    if isinstance(outcome, Wait):
        assert outcome.counted
