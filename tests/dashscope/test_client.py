"""Requests on the wire, and the results of the responses that DashScope documents."""

import httpx
import orjson
import pytest
from pydantic import SecretStr

from app.dashscope.client import Accepted, DashScope, OutcomeUnknown
from app.dashscope.failures import Failure, FailureKind
from app.dashscope.wire import TaskPage, TaskSnapshot, TaskStatus
from app.settings import Account
from tests.dashscope.conftest import KEY
from tests.dashscope.hostile import HostileServer, Script, error, hostile_server, html, json, raw, response, zipped
from tests.dashscope.samples import parsed, sample

WAV = "https://dashscope.oss-cn-beijing.aliyuncs.com/samples/audio/paraformer/hello_world_female2.wav"
OK = response(200, sample("submit_response"), "Content-Type: application/json")


async def submit(client: DashScope, *urls: str) -> Accepted | Failure | OutcomeUnknown:
    return await client.submit(
        model="fun-asr",
        input_style="file_urls",
        file_urls=urls or (WAV,),
        parameters={"channel_id": [0], "language_hints": ["zh", "en"]},
    )


async def test_submit_follows_the_protocol(client: DashScope, server: HostileServer) -> None:
    server.play(OK)

    assert await submit(client) == Accepted("c2e5d63b-96e1-4607-bb91-000000000001")

    sent = server.last
    assert sent.line == "POST /api/v1/services/audio/asr/transcription HTTP/1.1"
    assert orjson.loads(sent.body) == parsed("submit_request_funasr")
    assert sent.header("Authorization") == [f"Bearer {KEY}"]
    assert sent.header("X-DashScope-Async") == ["enable"]
    assert sent.header("Content-Type") == ["application/json"]
    assert sent.header("Content-Length") == [str(len(sent.body))]
    assert sent.header("Host") == [server.origin.removeprefix("http://")]
    assert sent.header("X-DashScope-OssResourceResolve") == []
    assert sent.header("Cookie") == []


async def test_submit_with_an_oss_url_has_the_header_that_resolves_it(client: DashScope, server: HostileServer) -> None:
    server.play(OK)

    await submit(client, WAV, "oss://dashscope-instant/xxx/hello.wav")

    assert server.last.header("X-DashScope-OssResourceResolve") == ["enable"]


async def test_other_calls_have_the_key_and_no_headers_of_a_submit(client: DashScope, server: HostileServer) -> None:
    server.play(
        response(200, sample("query_running")),
        response(200, sample("list_response")),
        response(200, sample("cancel_ok")),
    )

    snapshot = await client.query("6351feef-9694-45d2-9d32-63454f2ffb8d")
    page = await client.list_tasks(model_name="fun-asr", page_no=2, page_size=100, start_time="20261123000000")
    canceled = await client.cancel("6351feef")

    assert (snapshot, canceled) == (TaskSnapshot(TaskStatus.RUNNING, file_count=2), None)
    assert isinstance(page, TaskPage)
    assert [received.line for received in server.received] == [
        "GET /api/v1/tasks/6351feef-9694-45d2-9d32-63454f2ffb8d HTTP/1.1",
        "GET /api/v1/tasks?model_name=fun-asr&page_no=2&page_size=100&start_time=20261123000000 HTTP/1.1",
        "POST /api/v1/tasks/6351feef/cancel HTTP/1.1",
    ]
    for received in server.received:
        assert received.header("Authorization") == [f"Bearer {KEY}"]
        assert received.header("X-DashScope-Async") == received.header("Content-Type") == []
        assert received.body == b""
    assert server.last.header("Content-Length") == ["0"]


@pytest.mark.parametrize(
    ("task_id", "segment"),
    [
        ("a/../b", "a%2F..%2Fb"),
        ("a?b#c", "a%3Fb%23c"),
        ("a b", "a%20b"),
        ("a%2Fb", "a%252Fb"),
        ("任务", "%E4%BB%BB%E5%8A%A1"),
        ("a;b&c=d", "a;b&c=d"),
    ],
)
async def test_task_id_is_one_segment_of_the_path(
    client: DashScope, server: HostileServer, task_id: str, segment: str
) -> None:
    server.play(response(200, sample("query_running")))

    await client.query(task_id)

    assert server.last.target == f"/api/v1/tasks/{segment}"


async def test_base_url_may_end_with_a_slash(server: HostileServer, http: httpx.AsyncClient, account: Account) -> None:
    server.play(response(200, sample("query_running")))

    await DashScope(account, f"{server.base_url}/", http).query("a")

    assert server.last.target == "/api/v1/tasks/a"


async def test_429_says_how_long_to_wait(client: DashScope, server: HostileServer) -> None:
    throttled = orjson.dumps({"code": "Throttling.RateQuota", "message": "slow down", "request_id": "r"})
    server.play(response(429, throttled, "Retry-After: 7"), response(429, throttled, "Retry-After: soon"))

    found = [await client.query("a"), await submit(client)]

    assert [isinstance(each, Failure) and each.retry_after_s for each in found] == [7, None]


REFUSALS = [
    ("error_http400_InvalidParameter_file_urls", 400, FailureKind.PERMANENT),
    ("error_http400_InvalidParameter_model", 400, FailureKind.MODEL_UNAVAILABLE),
    ("error_http400_Arrearage", 400, FailureKind.ACCOUNT_BLOCKED),
    ("error_http401_InvalidApiKey", 401, FailureKind.ACCOUNT_BLOCKED),
    ("error_http403_AccessDenied_Unpurchased", 403, FailureKind.GRANT),
    ("error_http404_ModelNotFound", 404, FailureKind.MODEL_UNAVAILABLE),
    ("error_http429_Throttling_RateQuota", 429, FailureKind.THROTTLED),
    ("error_http429_Throttling_AllocationQuota", 429, FailureKind.THROTTLED),
]


@pytest.mark.parametrize(("name", "status", "kind"), REFUSALS)
async def test_refused_submit_is_a_failure(
    client: DashScope, server: HostileServer, name: str, status: int, kind: FailureKind
) -> None:
    server.play(response(status, sample(name), "Content-Type: application/json"))

    failure = await submit(client)

    assert isinstance(failure, Failure)
    assert (failure.kind, failure.status, failure.upstream_code) == (kind, status, parsed(name)["code"])


async def test_error_code_in_a_200_is_a_failure(client: DashScope, server: HostileServer) -> None:
    server.play(error(200, "InvalidApiKey"))

    for failure in (await submit(client), await client.query("a"), await client.list_tasks(), await client.cancel("a")):
        assert isinstance(failure, Failure)
        assert failure.kind is FailureKind.ACCOUNT_BLOCKED


async def test_error_page_of_a_proxy_is_a_transient_failure(client: DashScope, server: HostileServer) -> None:
    for status in (403, 404, 413):
        server.play(html(status))
        failure = await submit(client)
        assert isinstance(failure, Failure)
        assert failure.kind is FailureKind.TRANSIENT


AMBIGUOUS = {
    "500": error(500, "InternalError"),
    "503": error(503, "ModelServingError"),
    "504": error(504, "GatewayTimeout"),
    "500 throttled": error(500, "Throttling"),
    "engine error with a 400": error(400, "InternalError.Timeout"),
    "engine error with a 200": error(200, "RequestTimeOut"),
    "unknown code with a 200": error(200, "SomethingNew"),
    "408": error(408, "SomethingNew"),
    "html 408": html(408),
    "html 502": html(502),
    "html 200": html(200),
    "garbage 200": response(200, b"\x00\xff\xfe"),
    "empty 200": response(200, b""),
    "array 200": json(200, []),
    "no output": json(200, {"request_id": "r"}),
    "empty output": json(200, {"output": {}, "request_id": "r"}),
    "cut json": response(200, sample("submit_response")[:60]),
    "201": json(201, parsed("submit_response")),
    "204": raw(b"HTTP/1.1 204 No Content\r\n\r\n", keep=True),
    "304": raw(b"HTTP/1.1 304 Not Modified\r\n\r\n", keep=True),
}


@pytest.mark.parametrize("script", AMBIGUOUS.values(), ids=AMBIGUOUS)
async def test_ambiguous_response_makes_the_outcome_of_a_submit_unknown_and_a_query_repeatable(
    client: DashScope, server: HostileServer, script: Script
) -> None:
    server.play(script)

    assert isinstance(await submit(client), OutcomeUnknown)
    snapshot = await client.query("a")
    assert isinstance(snapshot, Failure)
    assert snapshot.kind in {FailureKind.TRANSIENT, FailureKind.THROTTLED}


@pytest.mark.parametrize("output", [{"task_status": "PENDING"}, {"task_status": "PENDING", "task_id": ".."}])
async def test_outcome_is_unknown_if_the_task_id_is_unusable(
    client: DashScope, server: HostileServer, output: dict[str, str]
) -> None:
    server.play(json(200, {"output": output, "request_id": "r"}))

    assert isinstance(await submit(client), OutcomeUnknown)


async def test_cancel_succeeds_only_if_upstream_confirms_it(client: DashScope, server: HostileServer) -> None:
    server.play(html(200), response(400, sample("cancel_error_http400")), response(200, sample("cancel_ok")))

    page, refusal, success = [await client.cancel("a") for _ in range(3)]

    assert isinstance(page, Failure)
    assert isinstance(refusal, Failure)
    assert (page.kind, refusal.kind, success) == (FailureKind.TRANSIENT, FailureKind.PERMANENT, None)


async def test_compressed_response_is_read(client: DashScope, server: HostileServer) -> None:
    server.play(zipped(sample("submit_response")))

    assert isinstance(await submit(client), Accepted)
    assert server.last.header("Accept-Encoding") == ["gzip"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_not_followed(client: DashScope, server: HostileServer, status: int) -> None:
    async with hostile_server() as elsewhere:
        elsewhere.play(OK)
        server.play(response(status, b"", f"Location: {elsewhere.origin}/api/v1/services"))

        assert isinstance(await submit(client), OutcomeUnknown)
        assert isinstance(await client.query("a"), Failure)

        assert (len(server.received), elsewhere.received) == (2, [])


async def test_cookies_of_one_account_are_not_sent_by_another(
    client: DashScope, server: HostileServer, http: httpx.AsyncClient
) -> None:
    other = DashScope(Account("beijing", "other", SecretStr("sk-other")), server.base_url, http)
    # aiohttp ignores cookies of IP addresses, so the test uses a name too.
    named = DashScope(other.account, server.base_url.replace("127.0.0.1", "localhost"), http)
    server.play(
        response(200, sample("query_running"), "Set-Cookie: session=first; Path=/", "Set-Cookie: x=y; Domain=localhost")
    )

    for each in (client, other, named, client, other, named):
        assert isinstance(await each.query("a"), TaskSnapshot)

    assert [received.header("Cookie") for received in server.received] == [[]] * 6
    assert not http.cookies


async def test_cookie_that_is_not_ascii_does_not_affect_later_calls(client: DashScope, server: HostileServer) -> None:
    server.play(response(200, sample("submit_response"), "Set-Cookie: \xff\xfe=\xe9; Path=/"))

    assert [type(await submit(client)) for _ in range(2)] == [Accepted, Accepted]
