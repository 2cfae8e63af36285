"""What can go wrong, in the gateway's own words.

No HTTP here: `app.api.problems` maps each class to a status, a type and a title, and fills OpenAPI with them.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One wrong place in a request: an RFC 6901 pointer (`/parameters/speaker_count`) and what would be right."""

    pointer: str
    detail: str


class GatewayError(Exception):
    """Root of everything that a caller of the gateway may be told. `code` is stable; messages may change."""

    code = "internal_error"

    def __init__(self, detail: str, *, faults: Sequence[Fault] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = tuple(faults)


class InvalidRequest(GatewayError):
    """The request contradicts the contract; `faults` say where and how to mend it."""

    code = "validation_failed"


class UnknownModel(InvalidRequest):
    code = "unknown_model"


class ModelNotInRegion(InvalidRequest):
    code = "model_not_in_region"


class RegionNotServed(InvalidRequest):
    """The region exists, but this gateway has no key for it."""

    code = "region_not_served"


class IdempotencyKeyReused(InvalidRequest):
    code = "idempotency_key_reused"


class Unauthorized(GatewayError):
    code = "unauthorized"


class NotFound(GatewayError):
    code = "not_found"


class BodyTooLarge(GatewayError):
    code = "body_too_large"


class ServiceUnavailable(GatewayError):
    """Something that the gateway needs is away for now; the same request may work later."""

    code = "service_unavailable"


class DatabaseUnavailable(ServiceUnavailable):
    """The database cannot do its work now.

    `reason` is one word, fit for callers; `explanation` has the server's own words, for logs and operators.
    """

    code = "database_unavailable"

    def __init__(
        self, detail: str, *, faults: Sequence[Fault] = (), reason: str = "unreachable", explanation: str = ""
    ) -> None:
        super().__init__(detail, faults=faults)
        self.reason = reason
        self.explanation = explanation or detail


class RateLimited(GatewayError):
    """The client did more than its limits let it; the same request will do later."""

    code = "rate_limited"


class TooManyWaitingFiles(RateLimited):
    code = "too_many_waiting_files"


class TooManyTestPings(RateLimited):
    code = "too_many_test_pings"


class InvalidCursor(InvalidRequest):
    code = "invalid_cursor"


class Forbidden(GatewayError):
    """The caller is known, and may not do this."""

    code = "forbidden"


class AdminDisabled(Forbidden):
    """No ADMIN_TOKEN is set, so nobody may manage clients over HTTP."""

    code = "admin_disabled"


class Conflict(GatewayError):
    """The request is right, but not in the present state of what it is about."""

    code = "conflict"


class ClientExists(Conflict):
    code = "client_exists"


class JobFinal(Conflict):
    code = "job_final"


class JobNotFinal(Conflict):
    code = "job_not_final"


class NothingToRetry(Conflict):
    code = "nothing_to_retry"
