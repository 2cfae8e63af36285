"""Every code of the protocol, sections 9.2 and 9.3, with what it means to the gateway."""

from pathlib import Path

import pytest

from app.dashscope.failures import Failure, FailureKind, classify_call, classify_file
from app.dashscope.wire import parse_error
from tests.dashscope.samples import FOLDER

LATER, SLOWER, RESUBMIT = FailureKind.TRANSIENT, FailureKind.THROTTLED, FailureKind.FILE_RETRYABLE
REFUSED, MODEL, GRANT = FailureKind.PERMANENT, FailureKind.MODEL_UNAVAILABLE, FailureKind.GRANT
ACCOUNT, SILENT = FailureKind.ACCOUNT_BLOCKED, FailureKind.NO_SPEECH

CALLS = [
    (400, "InvalidParameter", "input must contain file_urls", REFUSED, "upstream_refused"),
    (400, "InvalidParameter", "url error, please check url！", REFUSED, "model_unavailable"),
    (400, "InvalidParameter", "Model not exist.", MODEL, "model_unavailable"),
    (400, "InvalidParameter", "Required body invalid, please check the request body format.", REFUSED, None),
    (400, "InvalidParameter", "task can not be null", REFUSED, "upstream_refused"),
    (400, "InvalidParameter", "Request method 'GET' is not supported.", REFUSED, "upstream_refused"),
    (400, "InvalidParameter.DataInspection", "", REFUSED, "upstream_refused"),
    (400, "BadRequest.EmptyInput", "", REFUSED, "upstream_refused"),
    (400, "BadRequest.EmptyModel", "", REFUSED, "upstream_refused"),
    (400, "BadRequest.EmptyParameters", "", REFUSED, "upstream_refused"),
    (400, "400-BadRequest.EmptyParameters", "", REFUSED, "upstream_refused"),
    (400, "BadRequest.IllegalInput", "", REFUSED, "upstream_refused"),
    (400, "InvalidURL", "Required URL is missing or invalid", REFUSED, "file_url_refused"),
    (400, "InvalidURL.ConnectionRefused", "", REFUSED, "file_unreachable"),
    (400, "InvalidURL.Timeout", "", REFUSED, "file_unreachable"),
    (400, "InvalidFile.DownloadFailed", "The audio file cannot be downloaded.", REFUSED, "file_unreachable"),
    (400, "InvalidFile.DecodeFailed", "The audio file cannot be decoded.", REFUSED, "audio_unreadable"),
    (400, "Arrearage", "Access denied, please make sure your account is in good standing.", ACCOUNT, None),
    (400, "DataInspectionFailed", "", REFUSED, "content_rejected"),
    (400, "data_inspection_failed", "", REFUSED, "content_rejected"),
    (400, "UnsupportedOperation", "Failed to cancel the task", REFUSED, "upstream_refused"),
    (400, "Throttling.AllocationQuota", "Free allocated quota exceeded.", REFUSED, "upstream_refused"),
    (400, "BadRequest.ResourceNotExist", "The Required resource not exist.", REFUSED, "upstream_refused"),
    (416, "BadRequest.ResourceNotExist", "The Required resource not exist.", REFUSED, "upstream_refused"),
    (401, "InvalidApiKey", "Invalid API-key provided.", ACCOUNT, "account_key_refused"),
    (401, "NOT AUTHORIZED", "Access denied: Either you are not authorized", ACCOUNT, "account_key_refused"),
    (403, "AccessDenied", "current user api does not support synchronous calls.", GRANT, "model_not_granted"),
    (403, "AccessDenied", "current user api does not support asynchronous calls.", GRANT, "model_not_granted"),
    (403, "AccessDenied", "Access denied.", GRANT, "model_not_granted"),
    (403, "AccessDenied.Unpurchased", "", GRANT, "model_not_granted"),
    (403, "Model.AccessDenied", "Model access denied.", GRANT, "model_not_granted"),
    (403, "Workspace.AccessDenied", "", GRANT, "model_not_granted"),
    (403, "AllocationQuota.FreeTierOnly", "", GRANT, "account_quota"),
    (404, "ModelNotFound", "Model can not be found.", MODEL, "model_unavailable"),
    (404, "Model.NotExist", "", MODEL, "model_unavailable"),
    (404, "WorkSpaceNotFound", "", ACCOUNT, "account_key_refused"),
    (404, "NotFound", "", REFUSED, "upstream_refused"),
    (409, "Conflict", "", REFUSED, "upstream_refused"),
    (429, "Throttling", "Requests throttling triggered.", SLOWER, "throttled"),
    (429, "Throttling.RateQuota", "", SLOWER, "throttled"),
    (429, "Throttling.BurstRate", "", SLOWER, "throttled"),
    (429, "Throttling.AllocationQuota", "Allocated quota exceeded", SLOWER, "throttled"),
    (429, "LimitRequests", "", SLOWER, "throttled"),
    (429, "limit_requests", "", SLOWER, "throttled"),
    (429, "CommodityNotPurchased", "", ACCOUNT, "account_unpaid"),
    (429, "PrepaidBillOverdue", "", ACCOUNT, "account_unpaid"),
    (429, "PostpaidBillOverdue", "", ACCOUNT, "account_unpaid"),
    (500, "InternalError", "An internal error has occured", LATER, "upstream_unavailable"),
    (500, "InternalError.Algo", "", LATER, "upstream_unavailable"),
    (500, "InternalError.Timeout", "", LATER, "upstream_unavailable"),
    (500, "SystemError", "", LATER, "upstream_unavailable"),
    (500, "ModelServiceFailed", "", LATER, "upstream_unavailable"),
    (500, "RequestTimeOut", "", LATER, "upstream_unavailable"),
    (500, "ResponseTimeout", "", LATER, "upstream_unavailable"),
    (503, "ModelServingError", "Too many requests.", LATER, "upstream_unavailable"),
    (503, "ModelUnavailable", "", LATER, "upstream_unavailable"),
    (503, "ServiceUnavailable", "", LATER, "upstream_unavailable"),
    (504, "GatewayTimeout", "", LATER, "upstream_unavailable"),
    # Not in the catalogue: the status speaks.
    (400, "SomethingNew", "", REFUSED, "upstream_refused"),
    (401, "SomethingNew", "", ACCOUNT, "account_key_refused"),
    (403, "SomethingNew", "", GRANT, "model_not_granted"),
    (429, "SomethingNew", "", SLOWER, "throttled"),
    (500, "SomethingNew", "", LATER, "upstream_unavailable"),
    (200, "SomethingNew", "", LATER, "upstream_unavailable"),
    # The code speaks louder than the status, except where it counts something else than calls.
    (200, "Throttling.RateQuota", "", SLOWER, "throttled"),
    (400, "Throttling.RateQuota", "", SLOWER, "throttled"),
    (200, "InvalidApiKey", "", ACCOUNT, "account_key_refused"),
    (503, "Throttling", "", SLOWER, "throttled"),
]


@pytest.mark.parametrize(("status", "code", "message", "kind", "word"), CALLS)
def test_a_refused_call_is_judged(status: int, code: str, message: str, kind: FailureKind, word: str | None) -> None:
    failure = classify_call(status, code, message)

    assert (failure.kind, failure.upstream_code, failure.status) == (kind, code, status)
    assert word is None or failure.code == word


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, LATER),
        (400, LATER),
        (401, ACCOUNT),
        (403, LATER),
        (404, LATER),
        (407, LATER),
        (413, LATER),
        (429, SLOWER),
        (500, LATER),
        (502, LATER),
        (503, LATER),
        (504, LATER),
    ],
)
def test_a_page_of_whatever_stands_between_is_no_refusal_by_dashscope(status: int, kind: FailureKind) -> None:
    failure = classify_call(status, *parse_error(b"<html><body>Forbidden</body></html>"))

    assert (failure.kind, failure.upstream_code, failure.message) == (kind, None, f"HTTP {status}")


FILES = [
    ("InvalidFile.DownloadFailed", RESUBMIT, "file_unreachable"),
    ("FILE_DOWNLOAD_FAILED", RESUBMIT, "file_unreachable"),
    ("FILE_403_FORBIDDEN", REFUSED, "file_unreachable"),
    ("FILE_404_NOT_FOUND", REFUSED, "file_unreachable"),
    ("FILE_SERVER_ERROR", RESUBMIT, "file_unreachable"),
    ("REQUEST_INVALID_FILE_URL_VALUE", REFUSED, "file_url_refused"),
    ("InvalidParameter.MalformedURL", REFUSED, "file_url_refused"),
    ("CONTENT_LENGTH_CHECK_FAILED", RESUBMIT, "file_unreachable"),
    ("FILE_TOO_LARGE", REFUSED, "file_too_large"),
    ("AUDIO_DURATION_TOO_LONG", REFUSED, "audio_too_long"),
    ("FILE_CHECK_FAILED", REFUSED, "audio_unreadable"),
    ("FILE_NORMALIZE_FAILED", REFUSED, "audio_unreadable"),
    ("FILE_PARSE_FAILED", REFUSED, "audio_unreadable"),
    ("MKV_PARSE_FAILED", REFUSED, "audio_unreadable"),
    ("DECODE_ERROR", REFUSED, "audio_unreadable"),
    ("InvalidFile.DecodeFailed", REFUSED, "audio_unreadable"),
    ("UNSUPPORTED_FORMAT", REFUSED, "audio_unreadable"),
    ("NO_VALID_AUDIO_ERROR", REFUSED, "audio_unreadable"),
    ("SUCCESS_WITH_NO_VALID_FRAGMENT", SILENT, "no_speech"),
    ("ASR_RESPONSE_HAVE_NO_WORDS", SILENT, "no_speech"),
    ("FILE_TRANS_TASK_EXPIRED", RESUBMIT, "upstream_error"),
    ("SERVER_ERROR", RESUBMIT, "upstream_error"),
    ("InternalError", RESUBMIT, "upstream_error"),
    ("InternalError.Algo", RESUBMIT, "upstream_error"),
    ("InternalError.Timeout", RESUBMIT, "upstream_error"),
    ("InvalidParameter", REFUSED, "upstream_refused"),
    ("InvalidParameter.Anything", REFUSED, "upstream_refused"),
    ("400-InvalidParameter", REFUSED, "upstream_refused"),
    ("InvalidURL.Timeout", RESUBMIT, "file_unreachable"),
    ("DataInspectionFailed", REFUSED, "content_rejected"),
    ("SOMETHING_NEW", RESUBMIT, "upstream_error"),
    (None, RESUBMIT, "upstream_error"),
]


@pytest.mark.parametrize(("code", "kind", "word"), FILES)
def test_a_failed_file_is_judged(code: str | None, kind: FailureKind, word: str) -> None:
    failure = classify_file(code, "why")

    assert (failure.kind, failure.code, failure.upstream_code) == (kind, word, code)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("error_http*.json")), ids=lambda path: path.stem)
def test_every_sample_error_is_in_the_catalogue(path: Path) -> None:
    body = path.read_bytes()
    code, message = parse_error(body)
    status = int(path.stem.split("_")[1].removeprefix("http"))

    assert (status, code, classify_call(status, code, message).kind) in {(row[0], row[1], row[3]) for row in CALLS}


@pytest.mark.parametrize(
    ("code", "message", "said"),
    [
        ("DECODE_ERROR", "DECODE_ERROR", "DECODE_ERROR"),
        ("InvalidApiKey", "Invalid API-key provided.", "InvalidApiKey: Invalid API-key provided."),
        ("DECODE_ERROR", "", "DECODE_ERROR"),
        (None, "only words", "only words"),
        (None, "", "DashScope gave no reason"),
    ],
)
def test_the_message_says_code_and_words_without_repeating_itself(code: str | None, message: str, said: str) -> None:
    assert classify_file(code, message).message == said


def test_the_message_has_a_length_that_can_be_stored_and_read() -> None:
    assert len(classify_call(400, "InvalidParameter", "x" * 10_000).message) == 500
    assert len(classify_file("c" * 10_000, "").message) == 500
    assert len(classify_file(None, "x" * 10_000).message) == 500


@pytest.mark.parametrize("kind", FailureKind)
def test_only_a_refusal_for_good_is_not_retryable(kind: FailureKind) -> None:
    assert Failure(kind, "word", "message").retryable is (kind is not REFUSED)
