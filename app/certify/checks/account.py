"""Checks of keys, errors, rate limits and hot words."""

from typing import Any

from app.certify.evidence import Evidence, Unseen, accepted, compact
from app.certify.registry import Seen, Subject
from app.dashscope.failures import FailureKind

subject = Subject()
_THROTTLED_CODES = ("Throttling", "LimitRequests", "limit_requests")


@subject.check(
    "correctness",
    "A wrong key gets 401 with the code `InvalidApiKey`.",
    "A refused key would not open the account's circuit, and its files would fail.",
)
def invalid_key(evidence: Evidence) -> Seen:
    exchange = evidence.call("invalid_key")
    failure = exchange.failure
    return Seen(failure is not None and failure.kind is FailureKind.ACCOUNT_BLOCKED, exchange.error_text)


@subject.check(
    "information",
    "The other region refuses the key.",
    "`doctor` would not recognise a key of the other region.",
)
def key_of_one_region(evidence: Evidence) -> Seen:
    exchange = evidence.call("other_region")
    return Seen(exchange.status == 401, exchange.error_text)


@subject.check(
    "correctness",
    "An error is an object with `code`, `message` and `request_id`.",
    "The gateway would not know the cause of a refusal, and could retry what fails each time or fail what would work.",
)
def error_shape(evidence: Evidence) -> Seen:
    exchange = evidence.call("cancel_unknown")
    body = exchange.json
    complete = all(isinstance(body.get(name), str) and body[name] for name in ("code", "message", "request_id"))
    return Seen(
        exchange.status != 200 and complete, compact({name: body[name] for name in body if name != "request_id"})
    )


@subject.check(
    "correctness",
    "An unknown model is refused at the submit, as such.",
    "Files for a retired model would wait or fail with another reason.",
)
def unknown_model(evidence: Evidence) -> Seen:
    exchange = evidence.call("unknown_model")
    accepted(evidence.task("main").submit)  # Unseen if the account may not submit at all
    failure = exchange.failure
    return Seen(failure is not None and failure.kind is FailureKind.MODEL_UNAVAILABLE, exchange.error_text)


@subject.check(
    "correctness",
    "A rate limit gives 429 with a code that begins with `Throttling`.",
    "The gateway would not slow down, or would take a limit for a refusal. Seen only if a 429 occurs by chance.",
)
def throttling(evidence: Evidence) -> Seen:
    exchange = next((each for each in evidence.exchanges if each.status == 429), None)
    if exchange is None:
        raise Unseen("no 429 occurred")
    failure = exchange.failure
    known = failure is not None and (failure.upstream_code or "").startswith(_THROTTLED_CODES)
    return Seen(known, exchange.error_text)


@subject.check(
    "information",
    "A 429 has no `Retry-After`.",
    "The gateway waits as long as DashScope asks, up to a minute. Seen only if a 429 occurs.",
)
def retry_after(evidence: Evidence) -> Seen:
    exchange = next((each for each in evidence.exchanges if each.status == 429), None)
    if exchange is None:
        raise Unseen("no 429 occurred")
    value = exchange.headers.get("retry-after")
    return Seen(value is None, "absent" if value is None else f"Retry-After: {value}")


@subject.check(
    "information",
    "`GET /quotas` is not served, so rates come from the catalogue.",
    "The gateway could read the account's real limits.",
)
def quotas(evidence: Evidence) -> Seen:
    exchange = evidence.call("quotas")
    if exchange.status == 200:
        return Seen(False, f"HTTP 200 {compact(exchange.json)}")
    return Seen(True, exchange.error_text)


@subject.check(
    "correctness",
    "A list of hot words is created at once and has a `vocabulary_id`.",
    "Lists could not be created through the gateway.",
)
def vocabulary_create(evidence: Evidence) -> Seen:
    exchange = evidence.call("vocabulary_create")
    if not accepted(exchange):
        return Seen(False, exchange.error_text)
    return Seen(isinstance(exchange.output.get("vocabulary_id"), str), compact(exchange.output))


@subject.check(
    "performance",
    "A new list of hot words is listed by its prefix at once.",
    "The gateway could not compare its lists with DashScope's.",
)
def vocabulary_list(evidence: Evidence) -> Seen:
    created = evidence.call("vocabulary_create").output["vocabulary_id"]
    exchange = evidence.call("vocabulary_list")
    if not accepted(exchange):
        return Seen(False, exchange.error_text)
    rows: list[dict[str, Any]] = exchange.output["vocabulary_list"]
    return Seen(any(row["vocabulary_id"] == created for row in rows), f"{len(rows)} lists with the prefix")


@subject.check(
    "correctness",
    "A new list of hot words can be read with its words, and is usable at once: its status is `OK`.",
    "A job that follows at once would be transcribed without its hot words.",
)
def vocabulary_query(evidence: Evidence) -> Seen:
    exchange = evidence.call("vocabulary_query")
    if not accepted(exchange):
        return Seen(False, exchange.error_text)
    output = exchange.output
    return Seen(output["status"] == "OK" and len(output["vocabulary"]) == 1, compact(output))


@subject.check(
    "correctness",
    "A list of hot words can be deleted at once.",
    "Deleted lists would count against the account's limit of ten. Delete the list `vocab-certify-…` by hand.",
)
def vocabulary_delete(evidence: Evidence) -> Seen:
    exchange = evidence.call("vocabulary_delete")
    return Seen(accepted(exchange), "deleted" if exchange.failure is None else exchange.error_text)
