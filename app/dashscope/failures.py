"""Classifies upstream's errors with one table for calls and one for tasks and their files. Pure.

Also hides the URLs of other files in upstream's messages.

The codes are those of the vendor's list of error messages. The HTTP status classifies calls with an unknown code.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum

from app.dashscope.file_urls import file_key

MAX_MESSAGE_CHARS = 500
_STATUS_BEFORE_CODE = re.compile(r"^[45]\d\d-")
HIDDEN_URL = "…"
# Blanks, quotation marks and Chinese punctuation end a URL. Splitting takes linear time.
_URL_DELIMITERS = re.compile(r"([\s\"'<>`，。；、！（）【】《》「」“”‘’]+)")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,15}\Z")
_MAX_SCHEME_CHARS = 16
_CLOSING = ".,;:!)]}"


class FailureKind(StrEnum):
    """The cause of a failure, which decides what the poller does next."""

    TRANSIENT = "transient"  # the call is correct and may succeed later
    THROTTLED = "throttled"  # a rate limit: repeat later and at a lower rate
    FILE_RETRYABLE = "file_retryable"  # the file may succeed in a new task, which is tried once
    PERMANENT = "permanent"  # upstream will never accept this request or file
    GRANT = "not_granted"  # the account may not use the model, or its quota is used up; other accounts may work
    MODEL_UNAVAILABLE = "model_unavailable"  # upstream does not know the model
    ACCOUNT_BLOCKED = "account_blocked"  # key, bill or workspace: all calls fail until a person acts
    NO_SPEECH = "no_speech"  # not a failure: the audio has no speech


@dataclass(frozen=True, slots=True)
class Failure:
    """A classified error. `code` is the gateway's stable code for clients, `upstream_code` is DashScope's.

    `request_id` is upstream's id of the call that reported the error. Equal failures may have different ids.
    `retry_after_s` is the time until the next call that the response asks for.
    """

    kind: FailureKind
    code: str
    message: str
    upstream_code: str | None = None
    status: int | None = None
    request_id: str | None = field(default=None, compare=False)
    retry_after_s: float | None = field(default=None, compare=False)

    @property
    def retryable(self) -> bool:
        """True if the file may succeed when the client retries it later without a change."""
        return self.kind is not FailureKind.PERMANENT or self.code == "model_unavailable"

    @property
    def concerns_account(self) -> bool:
        """True if the account is refused, for all models or for one. It says nothing about the files."""
        return self.kind in _ACCOUNT_KINDS


_ACCOUNT_KINDS = {FailureKind.ACCOUNT_BLOCKED, FailureKind.GRANT, FailureKind.MODEL_UNAVAILABLE}
_QUERY = re.compile(r"\?[^\s\"'?]+")

# The kind of a failure and its code for clients.
KindAndCode = tuple[FailureKind, str]

_THROTTLED: KindAndCode = (FailureKind.THROTTLED, "throttled")
_NO_MODEL: KindAndCode = (FailureKind.MODEL_UNAVAILABLE, "model_unavailable")
_NO_GRANT: KindAndCode = (FailureKind.GRANT, "model_not_granted")
# Free quotas are counted per model.
_QUOTA: KindAndCode = (FailureKind.GRANT, "account_quota")
_KEY: KindAndCode = (FailureKind.ACCOUNT_BLOCKED, "account_key_refused")
_BILL: KindAndCode = (FailureKind.ACCOUNT_BLOCKED, "account_unpaid")
_BROKEN: KindAndCode = (FailureKind.TRANSIENT, "upstream_unavailable")
_REQUEST: KindAndCode = (FailureKind.PERMANENT, "upstream_refused")
# A hot-word list is the only resource that a submit names by an id.
_NO_VOCABULARY: KindAndCode = (FailureKind.PERMANENT, "vocabulary_not_found")
_ENDPOINT: KindAndCode = (FailureKind.PERMANENT, "model_unavailable")
_URL: KindAndCode = (FailureKind.PERMANENT, "file_url_refused")
_CONTENT: KindAndCode = (FailureKind.PERMANENT, "content_rejected")
_UNREACHABLE: KindAndCode = (FailureKind.PERMANENT, "file_unreachable")
_UNREADABLE: KindAndCode = (FailureKind.PERMANENT, "audio_unreadable")

CALL_FAILURES: dict[str, KindAndCode] = {
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
    "BadRequest.ResourceNotExist": _NO_VOCABULARY,
    "UnsupportedOperation": _REQUEST,
    "InvalidURL": _URL,
    # Not retryable, so that the group is split and its other files can proceed.
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

# Only the message of `InvalidParameter` tells that upstream does not know the model.
NO_MODEL_MESSAGE = "model not exist"
# The model does not belong to the endpoint. A bad file URL may have the same message, so only the files fail.
ENDPOINT_MESSAGE = "url error"

_DOWNLOAD: KindAndCode = (FailureKind.FILE_RETRYABLE, "file_unreachable")
_ENGINE: KindAndCode = (FailureKind.FILE_RETRYABLE, "upstream_error")
_NO_SPEECH: KindAndCode = (FailureKind.NO_SPEECH, "no_speech")

FILE_FAILURES: dict[str, KindAndCode] = {
    "SUCCESS_WITH_NO_VALID_FRAGMENT": _NO_SPEECH,
    "ASR_RESPONSE_HAVE_NO_WORDS": _NO_SPEECH,
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
    "BadRequest.ResourceNotExist": _NO_VOCABULARY,
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


# For people, where DashScope gives a code alone.
SENTENCES: dict[str, str] = {
    "audio_too_long": "The recording is longer than the model allows.",
    "audio_unreadable": "DashScope could not decode the audio: the format is wrong, the file is damaged, or it has no"
    " audio track.",
    "content_rejected": "DashScope's content inspection refused the file.",
    "file_too_large": "The file is larger than the model allows.",
    "file_unreachable": "DashScope could not download the file: check the URL and the end of its signature.",
    "file_url_refused": "DashScope does not accept the string as a URL.",
    "model_unavailable": "DashScope does not know the model.",
    "upstream_error": "DashScope's engine failed.",
    "upstream_refused": "DashScope refused the request and gave no reason.",
    "vocabulary_not_found": "DashScope does not have the hot-word list, or it belongs to another account.",
}


def classify_call(status: int, code: str | None, message: str) -> Failure:
    """Classify the response to a call: any status but 200, or a 200 with an error code."""
    row = _find(CALL_FAILURES, code) if code else None
    if row == _REQUEST and NO_MODEL_MESSAGE in message.lower():
        row = _NO_MODEL
    if row == _REQUEST and ENDPOINT_MESSAGE in message.lower():
        row = _ENDPOINT
    if status == 400 and code == "Throttling.AllocationQuota":
        row = _REQUEST  # the quota of hot-word lists, not of calls
    kind, gateway_code = row or _by_status(status, has_code=code is not None)
    return Failure(kind, gateway_code, _describe(gateway_code, code, message, status), code, status)


def classify_file(code: str | None, message: str) -> Failure:
    """Classify a failed task or a failed file of a task. An unknown code counts as an error of the engine.

    Upstream may detect a refused account only while the task runs, so the codes of accounts occur here too.
    """
    row = (_find(FILE_FAILURES, code) or _account_failure(code)) if code else None
    kind, gateway_code = row or _ENGINE
    return Failure(kind, gateway_code, _describe(gateway_code, code, message, None), code)


def hide_other_urls(message: str, own_url: str) -> str:
    """The message with `own_url` without its query, and an ellipsis in place of every other URL.

    The files of a task may belong to several clients. A client must not see the URLs of another client.
    """
    if "://" not in message:
        return message
    own = _without_query(own_url)
    keys = {file_key(own), file_key(own_url)}
    return "".join(_hide(part, own, keys) if "://" in part else part for part in _URL_DELIMITERS.split(message))


def _account_failure(code: str) -> KindAndCode | None:
    """The row of an exact account code, except `AccessDenied`, which the storage of a file also returns."""
    row = CALL_FAILURES.get(code) if code != "AccessDenied" else None
    return row if row and row[0] in _ACCOUNT_KINDS else None


def _find(table: dict[str, KindAndCode], code: str) -> KindAndCode | None:
    """The row of the code, or of its family before the first dot: `InternalError.Algo` is an `InternalError`.

    Newer pages of the vendor put the HTTP status before the code: `400-BadRequest.EmptyInput`.
    """
    code = _STATUS_BEFORE_CODE.sub("", code)
    return table.get(code) or table.get(code.split(".", 1)[0])


def _by_status(status: int, *, has_code: bool) -> KindAndCode:
    match status:
        case 401:
            return _KEY
        case 429:
            return _THROTTLED
        case 403 if has_code:
            return _NO_GRANT
        case 400 | 404 | 405 | 409 | 413 | 415 | 416 | 422 if has_code:
            return _REQUEST
        case _:
            # 5xx, redirects, and 4xx pages of proxies: none of them is a refusal by DashScope itself.
            return _BROKEN


def _describe(gateway_code: str, code: str | None, message: str, status: int | None) -> str:
    """The message without query strings: upstream may quote a file's URL, whose signature is a secret of its client."""
    if gateway_code == "vocabulary_not_found":
        message = SENTENCES[gateway_code]  # upstream's message names no resource
    elif code and message and message != code:
        message = f"{code}: {message}"
    elif code:
        message = SENTENCES.get(gateway_code, code)
    text = message or code or (f"HTTP {status}" if status else "DashScope gave no reason")
    return _QUERY.sub("?…", text)[:MAX_MESSAGE_CHARS]


def _hide(part: str, own: str, own_keys: set[str]) -> str:
    """Hide the URLs of one run of characters without delimiters, which may hold several URLs."""
    starts = _url_starts(part)
    pieces = [part[: starts[0]]]
    for start, end in zip(starts, [*starts[1:], len(part)], strict=True):
        url = part[start:end].rstrip(_CLOSING)
        closing = part[start + len(url) : end]
        is_own = bool(own_keys & {file_key(url), file_key(_without_query(url))})
        pieces += [own if is_own else HIDDEN_URL, closing]
    return "".join(pieces)


def _url_starts(part: str) -> list[int]:
    """Positions at which URLs begin: the scheme before each `://`, or the `://` if it has no scheme."""
    starts = []
    position = part.find("://")
    while position >= 0:
        scheme = _SCHEME.search(part, max(0, position - _MAX_SCHEME_CHARS), position)
        starts.append(scheme.start() if scheme else position)
        position = part.find("://", position + 3)
    return starts


def _without_query(url: str) -> str:
    return url.partition("?")[0].partition("#")[0]
