"""The classification of every code in sections 9.2 and 9.3 of the protocol."""

from pathlib import Path

import pytest

from app.dashscope.failures import FILE_FAILURES, SENTENCES, Failure, FailureKind, classify_call, classify_file
from app.dashscope.wire import parse_error
from tests.dashscope.samples import FOLDER

TRANSIENT, THROTTLED, RETRYABLE = FailureKind.TRANSIENT, FailureKind.THROTTLED, FailureKind.FILE_RETRYABLE
PERMANENT, MODEL, GRANT = FailureKind.PERMANENT, FailureKind.MODEL_UNAVAILABLE, FailureKind.GRANT
ACCOUNT, NO_SPEECH = FailureKind.ACCOUNT_BLOCKED, FailureKind.NO_SPEECH

CALLS = [
    (400, "InvalidParameter", "input must contain file_urls", PERMANENT, "upstream_refused"),
    (400, "InvalidParameter", "url error, please check url！", PERMANENT, "model_unavailable"),
    (400, "InvalidParameter", "Model not exist.", MODEL, "model_unavailable"),
    (400, "InvalidParameter", "Required body invalid, please check the request body format.", PERMANENT, None),
    (400, "InvalidParameter", "task can not be null", PERMANENT, "upstream_refused"),
    (400, "InvalidParameter", "Request method 'GET' is not supported.", PERMANENT, "upstream_refused"),
    (400, "InvalidParameter.DataInspection", "", PERMANENT, "upstream_refused"),
    (400, "BadRequest.EmptyInput", "", PERMANENT, "upstream_refused"),
    (400, "BadRequest.EmptyModel", "", PERMANENT, "upstream_refused"),
    (400, "BadRequest.EmptyParameters", "", PERMANENT, "upstream_refused"),
    (400, "400-BadRequest.EmptyParameters", "", PERMANENT, "upstream_refused"),
    (400, "BadRequest.IllegalInput", "", PERMANENT, "upstream_refused"),
    (400, "InvalidURL", "Required URL is missing or invalid", PERMANENT, "file_url_refused"),
    (400, "InvalidURL.ConnectionRefused", "", PERMANENT, "file_unreachable"),
    (400, "InvalidURL.Timeout", "", PERMANENT, "file_unreachable"),
    (400, "InvalidFile.DownloadFailed", "The audio file cannot be downloaded.", PERMANENT, "file_unreachable"),
    (400, "InvalidFile.DecodeFailed", "The audio file cannot be decoded.", PERMANENT, "audio_unreadable"),
    (400, "Arrearage", "Access denied, please make sure your account is in good standing.", ACCOUNT, None),
    (400, "DataInspectionFailed", "", PERMANENT, "content_rejected"),
    (400, "data_inspection_failed", "", PERMANENT, "content_rejected"),
    (400, "UnsupportedOperation", "Failed to cancel the task", PERMANENT, "upstream_refused"),
    (400, "Throttling.AllocationQuota", "Free allocated quota exceeded.", PERMANENT, "upstream_refused"),
    (400, "BadRequest.ResourceNotExist", "The Required resource not exist.", PERMANENT, "vocabulary_not_found"),
    (416, "BadRequest.ResourceNotExist", "The Required resource not exist.", PERMANENT, "vocabulary_not_found"),
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
    (404, "NotFound", "", PERMANENT, "upstream_refused"),
    (409, "Conflict", "", PERMANENT, "upstream_refused"),
    (429, "Throttling", "Requests throttling triggered.", THROTTLED, "throttled"),
    (429, "Throttling.RateQuota", "", THROTTLED, "throttled"),
    (429, "Throttling.BurstRate", "", THROTTLED, "throttled"),
    (429, "Throttling.AllocationQuota", "Allocated quota exceeded", THROTTLED, "throttled"),
    (429, "LimitRequests", "", THROTTLED, "throttled"),
    (429, "limit_requests", "", THROTTLED, "throttled"),
    (429, "CommodityNotPurchased", "", ACCOUNT, "account_unpaid"),
    (429, "PrepaidBillOverdue", "", ACCOUNT, "account_unpaid"),
    (429, "PostpaidBillOverdue", "", ACCOUNT, "account_unpaid"),
    (500, "InternalError", "An internal error has occured", TRANSIENT, "upstream_unavailable"),
    (500, "InternalError.Algo", "", TRANSIENT, "upstream_unavailable"),
    (500, "InternalError.Timeout", "", TRANSIENT, "upstream_unavailable"),
    (500, "SystemError", "", TRANSIENT, "upstream_unavailable"),
    (500, "ModelServiceFailed", "", TRANSIENT, "upstream_unavailable"),
    (500, "RequestTimeOut", "", TRANSIENT, "upstream_unavailable"),
    (500, "ResponseTimeout", "", TRANSIENT, "upstream_unavailable"),
    (503, "ModelServingError", "Too many requests.", TRANSIENT, "upstream_unavailable"),
    (503, "ModelUnavailable", "", TRANSIENT, "upstream_unavailable"),
    (503, "ServiceUnavailable", "", TRANSIENT, "upstream_unavailable"),
    (504, "GatewayTimeout", "", TRANSIENT, "upstream_unavailable"),
    # Unknown codes: the status decides.
    (400, "SomethingNew", "", PERMANENT, "upstream_refused"),
    (401, "SomethingNew", "", ACCOUNT, "account_key_refused"),
    (403, "SomethingNew", "", GRANT, "model_not_granted"),
    (429, "SomethingNew", "", THROTTLED, "throttled"),
    (500, "SomethingNew", "", TRANSIENT, "upstream_unavailable"),
    (200, "SomethingNew", "", TRANSIENT, "upstream_unavailable"),
    # A known code decides whatever the status.
    (200, "Throttling.RateQuota", "", THROTTLED, "throttled"),
    (400, "Throttling.RateQuota", "", THROTTLED, "throttled"),
    (200, "InvalidApiKey", "", ACCOUNT, "account_key_refused"),
    (503, "Throttling", "", THROTTLED, "throttled"),
]


@pytest.mark.parametrize(("status", "code", "message", "kind", "gateway_code"), CALLS)
def test_call_is_classified(status: int, code: str, message: str, kind: FailureKind, gateway_code: str | None) -> None:
    failure = classify_call(status, code, message)

    assert (failure.kind, failure.upstream_code, failure.status) == (kind, code, status)
    assert gateway_code is None or failure.code == gateway_code


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, TRANSIENT),
        (400, TRANSIENT),
        (401, ACCOUNT),
        (403, TRANSIENT),
        (404, TRANSIENT),
        (407, TRANSIENT),
        (413, TRANSIENT),
        (429, THROTTLED),
        (500, TRANSIENT),
        (502, TRANSIENT),
        (503, TRANSIENT),
        (504, TRANSIENT),
    ],
)
def test_error_page_of_a_proxy_is_classified_by_its_status(status: int, kind: FailureKind) -> None:
    failure = classify_call(status, *parse_error(b"<html><body>Forbidden</body></html>"))

    assert (failure.kind, failure.upstream_code, failure.message) == (kind, None, f"HTTP {status}")


FILES = [
    ("InvalidFile.DownloadFailed", RETRYABLE, "file_unreachable"),
    ("FILE_DOWNLOAD_FAILED", RETRYABLE, "file_unreachable"),
    ("FILE_403_FORBIDDEN", PERMANENT, "file_unreachable"),
    ("FILE_404_NOT_FOUND", PERMANENT, "file_unreachable"),
    ("FILE_SERVER_ERROR", RETRYABLE, "file_unreachable"),
    ("REQUEST_INVALID_FILE_URL_VALUE", PERMANENT, "file_url_refused"),
    ("InvalidParameter.MalformedURL", PERMANENT, "file_url_refused"),
    ("CONTENT_LENGTH_CHECK_FAILED", RETRYABLE, "file_unreachable"),
    ("FILE_TOO_LARGE", PERMANENT, "file_too_large"),
    ("AUDIO_DURATION_TOO_LONG", PERMANENT, "audio_too_long"),
    ("FILE_CHECK_FAILED", PERMANENT, "audio_unreadable"),
    ("FILE_NORMALIZE_FAILED", PERMANENT, "audio_unreadable"),
    ("FILE_PARSE_FAILED", PERMANENT, "audio_unreadable"),
    ("MKV_PARSE_FAILED", PERMANENT, "audio_unreadable"),
    ("DECODE_ERROR", PERMANENT, "audio_unreadable"),
    ("InvalidFile.DecodeFailed", PERMANENT, "audio_unreadable"),
    ("UNSUPPORTED_FORMAT", PERMANENT, "audio_unreadable"),
    ("NO_VALID_AUDIO_ERROR", PERMANENT, "audio_unreadable"),
    ("SUCCESS_WITH_NO_VALID_FRAGMENT", NO_SPEECH, "no_speech"),
    ("ASR_RESPONSE_HAVE_NO_WORDS", NO_SPEECH, "no_speech"),
    ("FILE_TRANS_TASK_EXPIRED", RETRYABLE, "upstream_error"),
    ("SERVER_ERROR", RETRYABLE, "upstream_error"),
    ("InternalError", RETRYABLE, "upstream_error"),
    ("InternalError.Algo", RETRYABLE, "upstream_error"),
    ("InternalError.Timeout", RETRYABLE, "upstream_error"),
    ("InvalidParameter", PERMANENT, "upstream_refused"),
    ("InvalidParameter.Anything", PERMANENT, "upstream_refused"),
    ("400-InvalidParameter", PERMANENT, "upstream_refused"),
    ("InvalidURL.Timeout", RETRYABLE, "file_unreachable"),
    ("DataInspectionFailed", PERMANENT, "content_rejected"),
    ("SOMETHING_NEW", RETRYABLE, "upstream_error"),
    (None, RETRYABLE, "upstream_error"),
]


@pytest.mark.parametrize(("code", "kind", "gateway_code"), FILES)
def test_file_is_classified(code: str | None, kind: FailureKind, gateway_code: str) -> None:
    failure = classify_file(code, "why")

    assert (failure.kind, failure.code, failure.upstream_code) == (kind, gateway_code, code)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("error_http*.json")), ids=lambda path: path.stem)
def test_table_has_every_sample_error(path: Path) -> None:
    body = path.read_bytes()
    code, message = parse_error(body)
    status = int(path.stem.split("_")[1].removeprefix("http"))

    assert (status, code, classify_call(status, code, message).kind) in {(row[0], row[1], row[3]) for row in CALLS}


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        ("DECODE_ERROR", "DECODE_ERROR", SENTENCES["audio_unreadable"]),
        ("InvalidApiKey", "Invalid API-key provided.", "InvalidApiKey: Invalid API-key provided."),
        ("DECODE_ERROR", "", SENTENCES["audio_unreadable"]),
        ("BRAND_NEW", "", "DashScope's engine failed."),
        ("Arrearage", "", "Arrearage"),
        (None, "only words", "only words"),
        (None, "", "DashScope gave no reason"),
    ],
)
def test_message_has_code_and_text_without_repetition(code: str | None, message: str, expected: str) -> None:
    assert classify_file(code, message).message == expected


def test_message_has_a_maximum_length() -> None:
    assert len(classify_call(400, "InvalidParameter", "x" * 10_000).message) == 500
    assert len(classify_file("c" * 10_000, "x").message) == 500
    assert len(classify_file(None, "x" * 10_000).message) == 500


def test_every_code_of_a_failed_file_has_a_sentence() -> None:
    codes = {code for kind, code in FILE_FAILURES.values() if kind is not FailureKind.NO_SPEECH}
    assert codes <= SENTENCES.keys()
    assert all(sentence.endswith(".") for sentence in SENTENCES.values())


@pytest.mark.parametrize("kind", FailureKind)
def test_only_permanent_failures_are_not_retryable(kind: FailureKind) -> None:
    assert Failure(kind, "code", "message").retryable is (kind is not PERMANENT)
