"""Error responses: `{"code", "message", "request_id"}` with a status other than 200."""

from dataclasses import dataclass, replace

from app.sandbox.responses import JSONResponse, new_request_id


@dataclass(frozen=True, slots=True)
class Refusal:
    status: int
    code: str
    message: str

    def with_message(self, message: str) -> "Refusal":
        return replace(self, message=message)

    def response(self, *, nested: bool = False) -> JSONResponse:
        """`nested`: in the shape of OpenAI's errors."""
        body = {"code": self.code, "message": self.message, "request_id": new_request_id()}
        return JSONResponse({"error": body} if nested else body, status_code=self.status)


class Refused(Exception):
    """Ends a call with an error response."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


INVALID_API_KEY = Refusal(401, "InvalidApiKey", "Invalid API-key provided.")
SYNCHRONOUS_CALL = Refusal(403, "AccessDenied", "current user api does not support synchronous calls.")
ACCESS_DENIED = Refusal(403, "AccessDenied", "Access denied.")

INVALID_PARAMETER = Refusal(400, "InvalidParameter", "Invalid parameter.")
INVALID_BODY = INVALID_PARAMETER.with_message("Required body invalid, please check the request body format.")
BAD_URL = INVALID_PARAMETER.with_message("url error, please check url！")
NO_FILE_URLS = INVALID_PARAMETER.with_message("input must contain file_urls")
NO_FILE_URL = INVALID_PARAMETER.with_message("input must contain file_url")
EMPTY_MODEL = Refusal(400, "BadRequest.EmptyModel", 'Required parameter "model" missing from request.')
EMPTY_INPUT = Refusal(400, "BadRequest.EmptyInput", 'Required parameter "input" missing from request.')
UNKNOWN_MODEL = {
    "404": Refusal(404, "ModelNotFound", "Model can not be found."),
    "400": INVALID_PARAMETER.with_message("Model not exist."),
}
# By code, with the texts of the vendor's page of error messages.
KEY_REFUSALS = {
    refusal.code: refusal
    for refusal in (
        INVALID_API_KEY,
        Refusal(400, "Arrearage", "Access denied, please make sure your account is in good standing."),
        ACCESS_DENIED,
        Refusal(403, "AccessDenied.Unpurchased", "Access to model denied. Please make sure you are eligible."),
        Refusal(403, "AllocationQuota.FreeTierOnly", "The free tier of the model has been exhausted."),
        Refusal(403, "Model.AccessDenied", "Model access denied."),
        Refusal(404, "ModelNotFound", "Model can not be found."),
        Refusal(403, "Workspace.AccessDenied", "Workspace access denied."),
    )
}
CANCEL_REFUSED = Refusal(
    400,
    "UnsupportedOperation",
    "Failed to cancel the task, please confirm if the task is in PENDING status.",
)
VOCABULARY_QUOTA = Refusal(400, "Throttling.AllocationQuota", "Free allocated quota exceeded.")
NO_TASK = Refusal(404, "NotFound", "The task does not exist.")
NO_VOCABULARY = Refusal(400, "BadRequest.ResourceNotExist", "The Required resource not exist.")
NO_VOCABULARY_416 = replace(NO_VOCABULARY, status=416)
UPDATED_RECENTLY = Refusal(429, "Throttling", "Requests throttling triggered.")

THROTTLED = Refusal(429, "Throttling.RateQuota", "Requests rate limit exceeded, please try again later.")
INTERNAL_ERROR = Refusal(
    500,
    "InternalError",
    "An internal error has occured, please try again later or contact service support.",
)
MODEL_SERVING_ERROR = Refusal(
    503,
    "ModelServingError",
    "Too many requests. Your requests are being throttled due to system capacity limits. Please try again later.",
)
SERVICE_UNAVAILABLE = Refusal(503, "ServiceUnavailable", "The service is unavailable, please try again later.")
