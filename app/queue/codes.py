"""The stable words of jobs and files: why a file failed or waits, and what a client should know of its job."""

from enum import StrEnum


class OpenEnum(StrEnum):
    """A value that is not known here, such as one that a later version has stored, is kept as it is."""

    @classmethod
    def _missing_(cls, value: object) -> "OpenEnum":
        member = str.__new__(cls, value)
        member._value_ = member._name_ = str(value)
        return member


class FileErrorCode(OpenEnum):
    """Stable word for why a file failed."""

    AUDIO_TOO_LONG = "audio_too_long"
    AUDIO_UNREADABLE = "audio_unreadable"
    CANCELED_UPSTREAM = "canceled_upstream"
    CONTENT_REJECTED = "content_rejected"
    FILE_TOO_LARGE = "file_too_large"
    FILE_UNREACHABLE = "file_unreachable"
    FILE_URL_REFUSED = "file_url_refused"
    MODEL_UNAVAILABLE = "model_unavailable"
    RESTORED_FROM_BACKUP = "restored_from_backup"
    RESULT_EXPIRED = "result_expired"
    RESULT_HOST_REFUSED = "result_host_refused"
    RESULT_MISSING = "result_missing"
    RESULT_TOO_LARGE = "result_too_large"
    RESULT_UNREADABLE = "result_unreadable"
    UPLOAD_EXPIRED = "upload_expired"
    UPSTREAM_ERROR = "upstream_error"
    UPSTREAM_REFUSED = "upstream_refused"
    VOCABULARY_NOT_FOUND = "vocabulary_not_found"


class WaitingCode(OpenEnum):
    """Stable word for why queued files cannot be submitted."""

    ACCOUNT_NOT_CONFIGURED = "account_not_configured"
    ACCOUNT_KEY_REFUSED = "account_key_refused"
    ACCOUNT_QUOTA = "account_quota"
    ACCOUNT_UNPAID = "account_unpaid"
    BUDGET_EXCEEDED = "budget_exceeded"
    MODEL_NOT_GRANTED = "model_not_granted"
    MODEL_UNAVAILABLE = "model_unavailable"
    REGION_NOT_SERVED = "region_not_served"
    UPSTREAM_UNAVAILABLE = "upstream_unavailable"


class WarningCode(OpenEnum):
    """Stable word for a warning."""

    MODEL_DEPRECATED = "model_deprecated"
