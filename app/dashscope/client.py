"""Calls to DashScope for one account. Every call has a deadline. Network errors are return values.

The API key is sent to the account's base URL only. `app.dashscope.result_files` fetches results without it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import orjson
from prometheus_client import Gauge, Histogram

from app.catalogue.hot_words import HotWord
from app.dashscope import vocabularies, wire
from app.dashscope.failures import Failure, FailureKind, classify_call
from app.dashscope.file_urls import TEMPORARY_SCHEME
from app.dashscope.temporary_storage import UploadPolicy, parse_policy
from app.dashscope.transport import (
    CALL_TIMEOUT_S,
    MAX_RESPONSE_BYTES,
    NoResponse,
    NotSent,
    Response,
    send_once,
)
from app.settings import Account, Settings

# A shorter key may occur in ordinary words.
MIN_REDACTED_CHARS = 8

_KINDS = ("submit", "query", "list", "cancel", "upload_policy", "vocabulary")
CALL_SECONDS = Histogram(
    "asr_gateway_upstream_call_seconds",
    "Time from sending a call to DashScope until its response or failure",
    ["account", "kind"],
    buckets=(0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
LAST_RESPONSE = Gauge(
    "asr_gateway_upstream_last_response_timestamp_seconds",
    "When DashScope last answered a call of this process with a status below 500; 0: never",
    ["account"],
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Accepted:
    """`request_id` is upstream's id of the submit."""

    task_id: str
    request_id: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class OutcomeUnknown:
    """No usable response to a submit: upstream may or may not have created the task."""

    reason: str


class DashScope:
    """The API of one account. Each method returns the parsed response or a Failure."""

    def __init__(
        self,
        account: Account,
        base_url: str,
        http: httpx.AsyncClient,
        *,
        deadline_s: float = CALL_TIMEOUT_S,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
    ) -> None:
        self.account = account
        self._base_url = base_url.rstrip("/")
        self._http = http
        self._deadline_s = deadline_s
        self._max_response_bytes = max_response_bytes
        self._last_response = LAST_RESPONSE.labels(account.id)
        self._call_seconds = {kind: CALL_SECONDS.labels(account.id, kind) for kind in _KINDS}

    async def submit(
        self, *, model: str, input_style: str, file_urls: Sequence[str], parameters: Mapping[str, Any]
    ) -> Accepted | Failure | OutcomeUnknown:
        """Create a task. Upstream does not deduplicate submits: only a Failure proves that no task was created.

        Source: protocol, section 2. A 5xx is OutcomeUnknown, since the task may have been created before the error.
        """
        body = wire.submit_body(model=model, input_style=input_style, file_urls=file_urls, parameters=parameters)
        headers = {"X-DashScope-Async": "enable", "Content-Type": "application/json"}
        if any(url.startswith(TEMPORARY_SCHEME) for url in file_urls):
            headers["X-DashScope-OssResourceResolve"] = "enable"
        response = await self._call(
            "submit", "POST", "/services/audio/asr/transcription", headers=headers, content=orjson.dumps(body)
        )
        return self._change_outcome(response, _parse_accepted)

    async def query(self, task_id: str) -> wire.TaskSnapshot | Failure:
        """Read a task. Safe to repeat. Source: protocol, section 3."""
        return await self._request("query", "GET", f"/tasks/{quote(task_id, safe='')}", wire.parse_task)

    async def list_tasks(self, **query: str | int) -> wire.TaskPage | Failure:
        """One page of the account's tasks of the last 24 hours. Source: protocol, section 5.1."""
        return await self._request("list", "GET", "/tasks", wire.parse_page, params=query)

    async def cancel(self, task_id: str) -> Failure | None:
        """Cancel a task that is still PENDING. Returns None on success. Source: protocol, section 5.2."""
        path = f"/tasks/{quote(task_id, safe='')}/cancel"
        return await self._request("cancel", "POST", path, wire.parse_canceled)

    async def upload_policy(self, model: str) -> UploadPolicy | Failure:
        """A permission to send files for the model to temporary storage. Source: protocol, section 7.

        Each file needs a policy that is at most five minutes old.
        """
        parse = partial(parse_policy, base_url=self._base_url)
        params = {"action": "getPolicy", "model": model}
        return await self._request("upload_policy", "GET", "/uploads", parse, params=params)

    async def create_vocabulary(
        self, *, target_model: str, prefix: str, words: Sequence[HotWord]
    ) -> str | Failure | OutcomeUnknown:
        """Create a hot-word list and return its id. Not deduplicated by upstream. Source: protocol, section 6.1."""
        fields = {"target_model": target_model, "prefix": prefix, "vocabulary": [word.to_json() for word in words]}
        response = await self._customize("create_vocabulary", fields)
        return self._change_outcome(response, vocabularies.parse_created)

    async def list_vocabularies(self) -> vocabularies.VocabularyReading | Failure:
        """All hot-word lists of the account."""
        listed: dict[str, vocabularies.ListedVocabulary] = {}
        unreadable = 0
        gap: str | None = vocabularies.TOO_MANY_PAGES
        for number in range(vocabularies.MAX_PAGES):
            fields = {"page_index": number, "page_size": vocabularies.PAGE_SIZE}
            page = self._read_outcome(await self._customize("list_vocabulary", fields), vocabularies.parse_list)
            if isinstance(page, Failure):
                if number == 0 or page.kind is not FailureKind.PERMANENT:
                    return page
                gap = vocabularies.REFUSED_PAGE
                break
            known = len(listed)
            listed |= {each.id: each for each in page.lists}
            unreadable += page.unreadable
            if page.is_last:
                gap = None
                break
            # A server that ignores page_index returns the same page for ever.
            if len(listed) == known:
                gap = vocabularies.REPEATED_PAGES
                break
        return vocabularies.VocabularyReading(listed.values(), vocabularies.UNREADABLE_ROWS if unreadable else gap)

    async def query_vocabulary(self, vocabulary_id: str) -> vocabularies.UpstreamVocabulary | Failure:
        response = await self._customize("query_vocabulary", {"vocabulary_id": vocabulary_id})
        return self._read_outcome(response, vocabularies.parse_vocabulary)

    async def update_vocabulary(self, vocabulary_id: str, words: Sequence[HotWord]) -> Failure | OutcomeUnknown | None:
        """Replace all words. Returns None on success."""
        fields = {"vocabulary_id": vocabulary_id, "vocabulary": [word.to_json() for word in words]}
        response = await self._customize("update_vocabulary", fields)
        return self._change_outcome(response, vocabularies.parse_changed)

    async def delete_vocabulary(self, vocabulary_id: str) -> Failure | None:
        """Delete a list. Safe to repeat: a list that does not exist is a Failure. Returns None on success."""
        response = await self._customize("delete_vocabulary", {"vocabulary_id": vocabulary_id})
        return self._read_outcome(response, vocabularies.parse_changed)

    async def _customize(self, action: str, fields: Mapping[str, Any]) -> Response | NotSent | NoResponse:
        body = {"model": "speech-biasing", "input": {"action": action, **fields}, "parameters": {}}
        headers = {"Content-Type": "application/json"}
        return await self._call(
            "vocabulary", "POST", "/services/audio/asr/customization", headers=headers, content=orjson.dumps(body)
        )

    async def _request(
        self,
        kind: str,
        method: str,
        path: str,
        parse: Callable[[bytes], T],
        *,
        params: Mapping[str, str | int] | None = None,
    ) -> T | Failure:
        return self._read_outcome(await self._call(kind, method, path, params=params), parse)

    def _read_outcome(self, response: Response | NotSent | NoResponse, parse: Callable[[bytes], T]) -> T | Failure:
        """The outcome of a call that is safe to repeat."""
        match response:
            case NotSent(reason) | NoResponse(reason):
                return Failure(FailureKind.TRANSIENT, "upstream_unavailable", reason)
            case Response(200):
                return self._parse(parse, response)
            case Response():
                return self._failure(response)

    def _parse(self, parse: Callable[[bytes], T], response: Response) -> T | Failure:
        try:
            return parse(response.body)
        except wire.MalformedResponse as error:
            if wire.parse_error(response.body)[0]:
                return self._failure(response)
            return Failure(FailureKind.TRANSIENT, "upstream_unavailable", str(error))

    def _change_outcome(
        self, response: Response | NotSent | NoResponse, parse: Callable[[bytes], T]
    ) -> T | Failure | OutcomeUnknown:
        """The outcome of a call that creates or changes something. Only a Failure proves that it had no effect."""
        match response:
            case NotSent(reason):
                return Failure(FailureKind.TRANSIENT, "upstream_unavailable", reason)
            case NoResponse(reason):
                return OutcomeUnknown(reason)
            case Response(200):
                return self._parse_changed(parse, response)
            case Response(status) if 400 <= status < 500:
                return _refusal(self._failure(response))
            case Response(status):
                return OutcomeUnknown(f"HTTP {status}")

    def _parse_changed(self, parse: Callable[[bytes], T], response: Response) -> T | Failure | OutcomeUnknown:
        try:
            return parse(response.body)
        except wire.MalformedResponse as error:
            if wire.parse_error(response.body)[0]:
                return _refusal(self._failure(response))
            return OutcomeUnknown(str(error))

    def _failure(self, response: Response) -> Failure:
        code, message = (text and self._redacted(text) for text in wire.parse_error(response.body))
        failure = classify_call(response.status, code, message or "")
        request_id = wire.parse_request_id(response.body)
        return replace(failure, request_id=request_id, retry_after_s=response.retry_after_s)

    def _redacted(self, text: str) -> str:
        """The text without the key. Refusals are stored and shown to clients, and may quote the request."""
        key = self.account.key.get_secret_value()
        return text.replace(key, "[redacted]") if len(key) >= MIN_REDACTED_CHARS else text

    async def _call(
        self,
        kind: str,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        params: Mapping[str, str | int] | None = None,
    ) -> Response | NotSent | NoResponse:
        request = self._http.build_request(
            method,
            self._base_url + path,
            headers={"Authorization": f"Bearer {self.account.key.get_secret_value()}", **(headers or {})},
            content=content,
            params=params or None,
        )
        with self._call_seconds[kind].time():
            response = await send_once(
                self._http, request, deadline_s=self._deadline_s, max_bytes=self._max_response_bytes
            )
        if isinstance(response, Response) and response.status < 500:
            self._last_response.set(time.time())
        return response


def upstream_clients(
    settings: Settings, http: httpx.AsyncClient, *, deadline_s: float = CALL_TIMEOUT_S
) -> dict[str, DashScope]:
    """The accounts that have a key, by id, those of the default region first."""
    return {
        account.id: DashScope(account, region.base_url, http, deadline_s=deadline_s)
        for region in settings.served_regions.values()
        for account in region.accounts
    }


def _parse_accepted(body: bytes) -> Accepted:
    return Accepted(wire.parse_submitted(body), wire.parse_request_id(body))


def _refusal(failure: Failure) -> Failure | OutcomeUnknown:
    """The failure if it proves that no task was created. An engine error and a 408 do not prove that."""
    engine_error = failure.kind is FailureKind.TRANSIENT and failure.upstream_code is not None
    if engine_error or failure.status == 408:
        return OutcomeUnknown(f"HTTP {failure.status}")
    return failure
