"""What every refusal of the upstream means: one table for calls, one for tasks and their files. Pure.

Codes as in the vendor's catalogue of error messages. What is not in the tables is judged by its HTTP status.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

MAX_MESSAGE_CHARS = 500
_STATUS_BEFORE_CODE = re.compile(r"^[45]\d\d-")


class FailureKind(StrEnum):
    """What to do about a failure."""

    TRANSIENT = "transient"  # nothing is wrong with the call: it may work in a moment
    THROTTLED = "throttled"  # a rate limit: later, and fewer of them
    FILE_RETRYABLE = "file_retryable"  # the file may work in a new task; tried once
    PERMANENT = "permanent"  # what was sent will never be accepted
    GRANT = "grant"  # the account may not use this model, or has used up its quota: others may have it
    MODEL_UNAVAILABLE = "model_unavailable"  # upstream knows no such model
    ACCOUNT_BLOCKED = "account_blocked"  # key, bill or workspace: nothing works until a person acts
    NO_SPEECH = "no_speech"  # no failure: there was no speech


@dataclass(frozen=True, slots=True)
class Failure:
    """A judged refusal. `code` is the gateway's stable word for clients, `upstream_code` what DashScope said."""

    kind: FailureKind
    code: str
    message: str
    upstream_code: str | None = None
    status: int | None = None

    @property
    def retryable(self) -> bool:
        """Whether the same file may succeed when a client retries it later, unchanged."""
        return self.kind is not FailureKind.PERMANENT or self.code == "model_unavailable"

    @property
    def concerns_account(self) -> bool:
        """Trouble of the account, with all models or with one. It says nothing about the files that were sent."""
        return self.kind in {FailureKind.ACCOUNT_BLOCKED, FailureKind.GRANT, FailureKind.MODEL_UNAVAILABLE}


_QUERY = re.compile(r"\?[^\s\"'?]+")

Row = tuple[FailureKind, str]

_THROTTLED: Row = (FailureKind.THROTTLED, "throttled")
_NO_MODEL: Row = (FailureKind.MODEL_UNAVAILABLE, "model_unavailable")
_NO_GRANT: Row = (FailureKind.GRANT, "model_not_granted")
# Free quotas are counted per model.
_QUOTA: Row = (FailureKind.GRANT, "account_quota")
_KEY: Row = (FailureKind.ACCOUNT_BLOCKED, "account_key_refused")
_BILL: Row = (FailureKind.ACCOUNT_BLOCKED, "account_unpaid")
_BROKEN: Row = (FailureKind.TRANSIENT, "upstream_unavailable")
_REQUEST: Row = (FailureKind.PERMANENT, "upstream_refused")
_ENDPOINT: Row = (FailureKind.PERMANENT, "model_unavailable")
_URL: Row = (FailureKind.PERMANENT, "file_url_refused")
_CONTENT: Row = (FailureKind.PERMANENT, "content_rejected")
_UNREACHABLE: Row = (FailureKind.PERMANENT, "file_unreachable")
_UNREADABLE: Row = (FailureKind.PERMANENT, "audio_unreadable")

CALL_FAILURES: dict[str, Row] = {
    "Throttling": _THROTTLED,
    "Throttling.RateQuota": _THROTTLED,
    "Throttling.BurstRate": _THROTTLED,
    "Throttling.AllocationQuota": _THROTTLED,
    "LimitRequests": _THROTTLED,
    "limit_requests": _THROTTLED,
    "InvalidApiKey": _KEY,
    "NOT AUTHORIZED": _KEY,
    "WorkSpaceNotFound": _KEY,
    "Arrearage": _BILL,
    "CommodityNotPurchased": _BILL,
    "PrepaidBillOverdue": _BILL,
    "PostpaidBillOverdue": _BILL,
    "AccessDenied": _NO_GRANT,
    "AccessDenied.Unpurchased": _NO_GRANT,
    "Model.AccessDenied": _NO_GRANT,
    "Workspace.AccessDenied": _NO_GRANT,
    "AllocationQuota": _QUOTA,
    "AllocationQuota.FreeTierOnly": _QUOTA,
    "Model.NotExist": _NO_MODEL,
    "ModelNotFound": _NO_MODEL,
    "InvalidParameter": _REQUEST,
    "BadRequest": _REQUEST,
    "UnsupportedOperation": _REQUEST,
    "InvalidURL": _URL,
    # Never a kind that tries the same group again: it is split, and the other files go on.
    "InvalidURL.ConnectionRefused": _UNREACHABLE,
    "InvalidURL.Timeout": _UNREACHABLE,
    "InvalidFile": _UNREADABLE,
    "InvalidFile.DownloadFailed": _UNREACHABLE,
    "DataInspectionFailed": _CONTENT,
    "data_inspection_failed": _CONTENT,
    "InternalError": _BROKEN,
    "SystemError": _BROKEN,
    "ModelServiceFailed": _BROKEN,
    "ModelServingError": _BROKEN,
    "ModelUnavailable": _BROKEN,
    "ServiceUnavailable": _BROKEN,
    "RequestTimeOut": _BROKEN,
    "ResponseTimeout": _BROKEN,
    "GatewayTimeout": _BROKEN,
}

# `InvalidParameter` says by its message alone that the model is the trouble.
NO_MODEL_MESSAGE = "model not exist"
# Model and endpoint do not fit. The words fit a file's URL as well, so they count against the files alone.
ENDPOINT_MESSAGE = "url error"

_DOWNLOAD: Row = (FailureKind.FILE_RETRYABLE, "file_unreachable")
_ENGINE: Row = (FailureKind.FILE_RETRYABLE, "upstream_error")
_SILENT: Row = (FailureKind.NO_SPEECH, "no_speech")

FILE_FAILURES: dict[str, Row] = {
    "SUCCESS_WITH_NO_VALID_FRAGMENT": _SILENT,
    "ASR_RESPONSE_HAVE_NO_WORDS": _SILENT,
    "InvalidFile.DownloadFailed": _DOWNLOAD,
    "FILE_DOWNLOAD_FAILED": _DOWNLOAD,
    "FILE_SERVER_ERROR": _DOWNLOAD,
    "CONTENT_LENGTH_CHECK_FAILED": _DOWNLOAD,
    "InvalidURL.Timeout": _DOWNLOAD,
    "FILE_403_FORBIDDEN": _UNREACHABLE,
    "FILE_404_NOT_FOUND": _UNREACHABLE,
    "InvalidURL": _URL,
    "REQUEST_INVALID_FILE_URL_VALUE": _URL,
    "InvalidParameter.MalformedURL": _URL,
    "InvalidParameter": _REQUEST,
    "BadRequest": _REQUEST,
    "FILE_TOO_LARGE": (FailureKind.PERMANENT, "file_too_large"),
    "AUDIO_DURATION_TOO_LONG": (FailureKind.PERMANENT, "audio_too_long"),
    "FILE_CHECK_FAILED": _UNREADABLE,
    "FILE_NORMALIZE_FAILED": _UNREADABLE,
    "FILE_PARSE_FAILED": _UNREADABLE,
    "MKV_PARSE_FAILED": _UNREADABLE,
    "DECODE_ERROR": _UNREADABLE,
    "InvalidFile.DecodeFailed": _UNREADABLE,
    "UNSUPPORTED_FORMAT": _UNREADABLE,
    "NO_VALID_AUDIO_ERROR": _UNREADABLE,
    "DataInspectionFailed": _CONTENT,
    "data_inspection_failed": _CONTENT,
    "FILE_TRANS_TASK_EXPIRED": _ENGINE,
    "SERVER_ERROR": _ENGINE,
    "InternalError": _ENGINE,
    "SystemError": _ENGINE,
}


def classify_call(status: int, code: str | None, message: str) -> Failure:
    """Judge a refused call: any answer but 200, or a 200 that carries an error code."""
    row = _find(CALL_FAILURES, code) if code else None
    if row == _REQUEST and NO_MODEL_MESSAGE in message.lower():
        row = _NO_MODEL
    if row == _REQUEST and ENDPOINT_MESSAGE in message.lower():
        row = _ENDPOINT
    if status == 400 and code == "Throttling.AllocationQuota":
        row = _REQUEST  # it counts hot-word lists, not calls
    kind, word = row or _by_status(status, readable=code is not None)
    return Failure(kind, word, _sentence(code, message, status), code, status)


def classify_file(code: str | None, message: str) -> Failure:
    """Judge a failed task or one failed file of it. An unknown code is taken for a fault of the engine.

    Trouble of the account may come to light only when the task runs.
    """
    row = (_find(FILE_FAILURES, code) or _of_account(code)) if code else None
    kind, word = row or _ENGINE
    return Failure(kind, word, _sentence(code, message, None), code)


def _of_account(code: str) -> Row | None:
    """Exact codes only. A bare `AccessDenied` of a file is what the storage that holds the file says, too."""
    row = CALL_FAILURES.get(code) if code != "AccessDenied" else None
    return (
        row
        if row and row[0] in {FailureKind.ACCOUNT_BLOCKED, FailureKind.GRANT, FailureKind.MODEL_UNAVAILABLE}
        else None
    )


def _find(table: dict[str, Row], code: str) -> Row | None:
    """Exact, else by the family before the first dot: `InternalError.Algo` is an `InternalError`.

    Newer pages put the status before it: `400-BadRequest.EmptyInput`.
    """
    code = _STATUS_BEFORE_CODE.sub("", code)
    return table.get(code) or table.get(code.split(".", 1)[0])


def _by_status(status: int, *, readable: bool) -> Row:
    match status:
        case 401:
            return _KEY
        case 429:
            return _THROTTLED
        case 403 if readable:
            return _NO_GRANT
        case 400 | 404 | 405 | 409 | 413 | 415 | 416 | 422 if readable:
            return _REQUEST
        case _:
            # 5xx, redirects, and 4xx pages of whatever stands between: none of them is DashScope's own refusal.
            return _BROKEN


def _sentence(code: str | None, message: str, status: int | None) -> str:
    """Without query strings: upstream may quote a file's URL, whose signature is its client's alone."""
    if code and message and message != code:
        message = f"{code}: {message}"
    said = message or code or (f"HTTP {status}" if status else "DashScope gave no reason")
    return _QUERY.sub("?…", said)[:MAX_MESSAGE_CHARS]
