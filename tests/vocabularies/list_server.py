"""A stand-in for DashScope's hot-word API that a test can make forgetful: replicas that are behind, and odd pages."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
import orjson

BEIJING = timezone(timedelta(hours=8))
JSONObject = dict[str, Any]
MISSING = (400, {"code": "BadRequest.ResourceNotExist", "message": "The Required resource not exist."})


@dataclass
class StoredList:
    id: str
    words: Sequence[JSONObject]
    created_at: datetime

    def row(self) -> JSONObject:
        at = f"{self.created_at.astimezone(BEIJING):%Y-%m-%d %H:%M:%S}"
        return {"vocabulary_id": self.id, "gmt_create": at, "gmt_modified": at, "status": "OK"}


@dataclass
class ListServer(httpx.AsyncBaseTransport):
    """Stores the lists of one account, and loses responses or shows something else as the test asks.

    `pages` makes a page of the list from all rows and the page's number. `hidden` are lists that no list shows.
    `lost` are actions without an effect and a response, `dropped` those with an effect only.
    """

    lists: dict[str, StoredList] = field(default_factory=dict)
    pages: Callable[[list[JSONObject], int], list[Any]] = lambda rows, page: [] if page else rows
    hidden: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    dropped: set[str] = field(default_factory=set)
    refusals: dict[str, tuple[int, JSONObject]] = field(default_factory=dict)
    """Responses of actions that have no effect, with the status."""
    outputs: dict[str, JSONObject] = field(default_factory=dict)
    """Outputs of actions in place of the right ones."""
    meanwhile: dict[str, Callable[[], Awaitable[object]]] = field(default_factory=dict)
    """What happens between the reading of the lists for an action and its response."""
    calls: list[str] = field(default_factory=list)

    def add(self, prefix: str, words: Sequence[JSONObject], *, age_s: float = 0) -> str:
        vocabulary_id = f"vocab-{prefix}-{len(self.calls) + len(self.lists):032x}"
        at = datetime.now(UTC) - timedelta(seconds=age_s)
        self.lists[vocabulary_id] = StoredList(vocabulary_id, words, at)
        return vocabulary_id

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        fields = orjson.loads(await request.aread())["input"]
        action = str(fields["action"]).removesuffix("_vocabulary")
        self.calls.append(action)
        if action in self.lost:
            raise httpx.ReadError("lost")
        status, output = self.refusals.get(action) or self._act(action, fields)
        if action in self.meanwhile:
            await self.meanwhile[action]()
        if action in self.dropped:
            raise httpx.ReadError("dropped")
        body = output if status != 200 else {"output": self.outputs.get(action, output), "request_id": "r"}
        return httpx.Response(status, stream=httpx.ByteStream(orjson.dumps(body)))

    def _act(self, action: str, fields: JSONObject) -> tuple[int, JSONObject]:
        if action == "create":
            return 200, {"vocabulary_id": self.add(fields["prefix"], fields["vocabulary"])}
        if action == "list":
            rows = [each.row() for each in self.lists.values() if each.id not in self.hidden]
            return 200, {"vocabulary_list": self.pages(rows, fields["page_index"])}
        found = self.lists.get(fields["vocabulary_id"])
        if found is None:
            return MISSING
        match action:
            case "query":
                return 200, found.row() | {"target_model": "fun-asr", "vocabulary": list(found.words)}
            case "update":
                found.words = fields["vocabulary"]
            case "delete":
                del self.lists[found.id]
        return 200, {}


def pages_of(size: int) -> Callable[[list[JSONObject], int], list[Any]]:
    """Pages of at most `size` rows, whatever the request asks for."""
    return lambda rows, page: rows[page * size : (page + 1) * size]


def invented(rows: list[JSONObject], page: int) -> list[Any]:
    """Full pages without an end, of lists that do not exist. The first page has some that do."""
    made = [{"vocabulary_id": f"vocab-calls-{10**9 + page * 100 + each:032x}", "status": "OK"} for each in range(90)]
    return made if page else rows[:10] + made
