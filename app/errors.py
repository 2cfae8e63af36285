"""The gateway's exceptions.

They are independent of HTTP: `app.api.problems` maps each class to a status, a type and a title.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

MAX_STEP_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Fault:
    """An invalid value in a request: its JSON pointer (`/parameters/speaker_count`) and what is expected."""

    pointer: str
    detail: str


def json_pointer(parent: str, step: str | int) -> str:
    """The RFC 6901 pointer `parent` extended by one step.

    The step is cut to MAX_STEP_LENGTH characters: a client may send field names of megabytes. Lone surrogates, which
    have no UTF-8, become `?`.
    """
    text = str(step)[:MAX_STEP_LENGTH].encode(errors="replace").decode()
    return f"{parent}/{text.replace('~', '~0').replace('/', '~1')}"


def and_more(faults: Sequence[Fault]) -> str:
    """The end of a message about the first fault, which counts the others."""
    return f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""


class GatewayError(Exception):
    """Base class of all errors that are reported to callers. `code` is stable; messages may change."""

    code = "internal_error"
    # More members of the problem: extensions as RFC 9457 defines them.
    members: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, detail: str, *, faults: Sequence[Fault] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = tuple(faults)


class InvalidRequest(GatewayError):
    """The request is invalid. `faults` name the invalid values and what is expected."""

    code = "validation_failed"

    @classmethod
    def at(cls, pointer: str, detail: str) -> Self:
        """The error for one invalid value. `detail` continues the pointer to a sentence, without the full stop."""
        return cls.of([Fault(pointer, detail)])

    @classmethod
    def of(cls, faults: Sequence[Fault]) -> Self:
        """The error for one or more faults. The first one is in the message."""
        return cls(f"{faults[0].pointer} {faults[0].detail}{and_more(faults)}.", faults=faults)


class UnknownModel(InvalidRequest):
    code = "unknown_model"


class ModelNotInRegion(InvalidRequest):
    code = "model_not_in_region"


class RegionNotServed(InvalidRequest):
    """The region exists, but this gateway has no key for it."""

    code = "region_not_served"


class IdempotencyKeyReused(InvalidRequest):
    code = "idempotency_key_reused"


class UnsupportedFormat(InvalidRequest):
    """The model does not take files with this extension."""

    code = "unsupported_format"


class UploadNotFound(InvalidRequest):
    """A job names an upload that does not exist, or that belongs to another client."""

    code = "upload_not_found"


class UploadExpired(InvalidRequest):
    code = "upload_expired"


class UploadNotForModel(InvalidRequest):
    """A file in DashScope's temporary storage belongs to one model."""

    code = "upload_not_for_model"


class VocabularyNotFound(InvalidRequest):
    """A job names a hot-word list of another client."""

    code = "vocabulary_not_found"


class VocabularyModelMismatch(InvalidRequest):
    """DashScope silently ignores a hot-word list that was made for another model than that of the job."""

    code = "vocabulary_model_mismatch"


class BudgetCurrencyMismatch(InvalidRequest):
    """The model is priced in another currency than that of the client's budget."""

    code = "budget_currency_mismatch"


class Unauthorized(GatewayError):
    code = "unauthorized"


class NotFound(GatewayError):
    code = "not_found"


class BodyTooLarge(GatewayError):
    code = "body_too_large"


class UploadTooLarge(BodyTooLarge):
    code = "upload_too_large"


class ServiceUnavailable(GatewayError):
    """The gateway cannot serve the request now. The same request may succeed later."""

    code = "service_unavailable"


class DatabaseUnavailable(ServiceUnavailable):
    """The database is unavailable.

    `reason` is one word and is shown to callers; `explanation` has the server's message, for logs and operators.
    """

    code = "database_unavailable"

    def __init__(
        self, detail: str, *, faults: Sequence[Fault] = (), reason: str = "unreachable", explanation: str = ""
    ) -> None:
        super().__init__(detail, faults=faults)
        self.reason = reason
        self.explanation = explanation or detail


class UploadUnavailable(ServiceUnavailable):
    """No store takes the upload now."""

    code = "upload_unavailable"


class UpstreamUnavailable(ServiceUnavailable):
    """DashScope does not respond, or refuses the accounts that could serve the request."""

    code = "upstream_unavailable"


class RateLimited(GatewayError):
    """The client exceeded a limit. The same request succeeds later, after `retry_after_s` if that is known."""

    code = "rate_limited"

    def __init__(self, detail: str, *, faults: Sequence[Fault] = (), retry_after_s: int | None = None) -> None:
        super().__init__(detail, faults=faults)
        self.retry_after_s = retry_after_s


class TooManyWaitingFiles(RateLimited):
    code = "too_many_waiting_files"


class BudgetExceeded(RateLimited):
    """The files may cost more than is left of the client's budget."""

    code = "budget_exceeded"

    def __init__(
        self,
        detail: str,
        *,
        faults: Sequence[Fault] = (),
        retry_after_s: int | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail, faults=faults, retry_after_s=retry_after_s)
        self.members = members or {}


class TooManyTestPings(RateLimited):
    code = "too_many_test_pings"


class TooManyWrongTokens(RateLimited):
    """Wrong admin tokens came from the caller's address. Its admin calls are refused for a minute."""

    code = "too_many_wrong_tokens"


class TooManyWaits(RateLimited):
    """The client has too many long polls and event streams open."""

    code = "too_many_waits"


class TooManyUploads(RateLimited):
    """The client has too many uploads in progress."""

    code = "too_many_uploads"


class VocabularyUpdatedRecently(RateLimited):
    """DashScope takes an update of a hot-word list only some minutes after the last one."""

    code = "vocabulary_updated_recently"


class InvalidCursor(InvalidRequest):
    code = "invalid_cursor"


class Forbidden(GatewayError):
    """The caller is authenticated but not allowed to do this."""

    code = "forbidden"


class AdminDisabled(Forbidden):
    """ADMIN_TOKEN is not set, so clients cannot be managed over HTTP."""

    code = "admin_disabled"


class Conflict(GatewayError):
    """The request is valid but conflicts with the present state of the resource."""

    code = "conflict"


class ClientExists(Conflict):
    code = "client_exists"


class TranscriptUnreadable(Conflict):
    """The transcript has the bytes of upstream's result, which are no result document, and so no other form."""

    code = "transcript_unreadable"


class JobFinal(Conflict):
    code = "job_final"


class JobNotFinal(Conflict):
    code = "job_not_final"


class NothingToRetry(Conflict):
    code = "nothing_to_retry"


class VocabularyLimit(Conflict):
    """Every account that could have the hot-word list has as many as DashScope allows."""

    code = "vocabulary_limit"
