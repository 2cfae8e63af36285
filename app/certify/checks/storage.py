"""Checks of temporary storage, with a second of silence."""

from app.certify.evidence import Evidence, Unseen, accepted, compact
from app.certify.registry import Seen, Subject
from app.dashscope.failures import FailureKind, classify_file
from app.dashscope.temporary_storage import parse_policy
from app.dashscope.wire import FileOutcome
from app.poller.assignment import assign

subject = Subject()
_UNREADABLE = ("FILE_DOWNLOAD_FAILED", "InvalidFile.DownloadFailed", "FILE_403_FORBIDDEN", "FILE_404_NOT_FOUND")


@subject.check(
    "correctness",
    "The region gives upload policies with the documented fields.",
    "Uploads to the region would fail. Set UPLOAD_STORE.",
)
def upload_policy(evidence: Evidence) -> Seen:
    exchange = evidence.call("upload_policy")
    if not accepted(exchange):
        return Seen(False, exchange.error_text)
    policy = parse_policy(exchange.body, base_url=evidence.base_url)
    return Seen(True, f"{policy.upload_host}, up to {policy.max_bytes // 1024**2} MB")


@subject.check(
    "correctness",
    "The storage host takes a file with the policy, and responds 200.",
    "Uploads to the region would fail. Set UPLOAD_STORE.",
)
def upload_stored(evidence: Evidence) -> Seen:
    exchange = evidence.call("upload")
    return Seen(exchange.status == 200, f"HTTP {exchange.status}")


def _outcome(evidence: Evidence) -> tuple[str, FileOutcome | None, str | None]:
    """The URL of the upload, the item of the response, and the code of the file or of the task."""
    task = evidence.task("silence")
    ended = task.ended
    item = ended.items[0] if ended.items else None
    return task.file_urls[0], item, item.code if item is not None else ended.code


@subject.check(
    "correctness",
    "An uploaded file can be transcribed by its `oss://` URL.",
    "Uploads would be accepted, and fail. Set UPLOAD_STORE.",
)
def upload_readable(evidence: Evidence) -> Seen:
    _, _, code = _outcome(evidence)
    return Seen(code not in _UNREADABLE, code or "a result")


@subject.check(
    "correctness",
    "Responses show an upload under a URL that ends with its path.",
    "The transcripts of several uploads in one task could not be told apart.",
)
def upload_echo(evidence: Evidence) -> Seen:
    url, item, _ = _outcome(evidence)
    if item is None or item.file_url is None:
        raise Unseen("the response names no file")
    other = "oss://certify/other.wav"
    found = assign([url, other], [item], complete=False)[0] is not None
    return Seen(found, "the submitted URL" if item.file_url == url else item.file_url.partition("?")[0])


@subject.check(
    "correctness",
    "A file without speech fails with `SUCCESS_WITH_NO_VALID_FRAGMENT`.",
    "Silent files would fail, or be submitted again, in place of an empty transcript.",
)
def silent_file(evidence: Evidence) -> Seen:
    _, item, code = _outcome(evidence)
    if code in _UNREADABLE:
        raise Unseen(f"the file was not read: {code}")
    if code is None:
        return Seen(False, "a result" if item is not None else "neither a result nor a code")
    return Seen(classify_file(code, "").kind is FailureKind.NO_SPEECH, compact(code))
